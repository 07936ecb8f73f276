"""Sampling: the hand-written batched rollout, and its twin through Hugging Face `generate`.

Paper: Sec. 4 (temperature-1 sampling of G completions a prompt).  The two samplers have one signature and return the
same greedy ids; the hand-written one is faster because the G samples of a prompt share its keys and values:

    prefill     each distinct prompt runs through the model once, left-padded, N prompts at a time
    decode      all R = N * G rows advance one token; each attends to its prompt's keys (stored once for the group)
                and to its own (a buffer allocated once, nothing is concatenated token by token)
    shrink      rows that have met an end id leave; a group whose rows have all left takes its prompt along

The model's own forward is used as it is: only its attention function is exchanged, through the interface that
transformers has for that.  What is sampled is what is trained on: temperature only, no top-k, no top-p, and the end
token is part of the completion.

Letters in shapes: N prompts, G samples a prompt, R = N * G rows, P prompt width, T new tokens, H heads, K key/value
heads, D head size, V vocabulary.

    >>> Rollout(prompt=[1, 2], completion=[7, 8, 0], finished=True).truncated
    False
"""
from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

CHATML = ("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
          "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


@dataclass(frozen=True)
class Rollout:
    """One sampled completion: the ids of its prompt, its own ids (end id included), whether it met an end id."""

    prompt: list[int]
    completion: list[int]
    finished: bool

    @property
    def truncated(self) -> bool:
        """Whether the token limit cut it off."""
        return not self.finished


class ModelNotFound(ValueError):
    """The model is neither a folder nor in the cache, or cannot be read."""


# ------------------------------------------------------------------------------------------ model and prompt
def load_model(name: str, device: str = "cpu") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model (float32 weights) and its tokenizer, from a folder or a hub name.

    Safetensors only, no remote code.  Raises `ModelNotFound` with what to do.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=False, use_safetensors=True,
                                                     dtype=torch.float32)
    except (OSError, ValueError) as error:
        what = "has no usable model in it" if os.path.isdir(name) else "is neither a folder nor in the cache"
        raise ModelNotFound(f"--model {name} {what} ({str(error).splitlines()[0][:120]}). Name a folder with config.json "
                            "and *.safetensors, or go online once to fill the cache; 'python selfplay.py' without "
                            "--model needs no network.") from None
    if tokenizer.chat_template is None:
        print(f"{name} has no chat template: a plain ChatML one is used.")
        tokenizer.chat_template = CHATML
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to(device).eval(), tokenizer


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Every id that ends a completion: the tokenizer's, all that the generation config names, ChatML's."""
    named = model.generation_config.eos_token_id
    ids = {tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])}
    return sorted((ids | {tokenizer.get_vocab().get("<|im_end|>")}) - {None})


def chat_ids(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> list[int]:
    """The prompt as ids, up to where the assistant begins to write."""
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


class Player:
    """A model, its tokenizer, and the sampler it speaks through."""

    def __init__(self, name: str, device: str = "cpu", sampler: str = "hand") -> None:
        self.model, self.tokenizer = load_model(name, device)
        self.end = end_ids(self.model, self.tokenizer)
        self.sampler = SAMPLERS[sampler]

    def ask(self, chats: list[list[dict[str, str]]], group: int, max_new_tokens: int, temperature: float,
            seed: int = 0) -> list[Rollout]:
        """`group` completions of each chat, prompt-major."""
        rng = torch.Generator(self.model.device).manual_seed(seed)
        prompts = [chat_ids(self.tokenizer, chat) for chat in chats]
        return self.sampler(self.model, prompts, group, max_new_tokens, temperature, self.end, rng)

    def text(self, rollout: Rollout) -> str:
        """A completion as text, without its end token."""
        ids = rollout.completion[:-1] if rollout.finished else rollout.completion
        return self.tokenizer.decode(ids, skip_special_tokens=False)

    def digit_logits(self, chats: list[list[dict[str, str]]]) -> torch.Tensor:
        """The logits of "1" to "5" as the first token of the answer, (N, 5), float32; nothing is sampled."""
        digits = [self.tokenizer(d, add_special_tokens=False)["input_ids"][-1] for d in "12345"]
        logits = next_token_logits(self.model, [chat_ids(self.tokenizer, chat) for chat in chats])
        return logits[:, digits]

    def save(self, folder: Path) -> None:
        """Write a checkpoint that `from_pretrained` loads; the folder appears whole or not at all."""
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        self.model.save_pretrained(part)
        self.tokenizer.save_pretrained(part)
        part.rename(folder)


def left_pad(prompts: list[list[int]], device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask (True: a real token), both (N, P), padded on the left."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts], device=device)
    mask = torch.tensor([[False] * (width - len(p)) + [True] * len(p) for p in prompts], device=device)
    return ids, mask


# ------------------------------------------------------------------------------------------ shared-prompt attention
class GroupCache:
    """Keys and values of N prompts, each stored once, and of the R = N * G rows that continue them."""

    def __init__(self, mask: torch.Tensor, group: int, new_tokens: int) -> None:
        self.mask, self.group, self.new_tokens = mask, group, new_tokens  # mask (N, P)
        self.prompt: dict[int, tuple] = {}  # layer -> keys, values, both (N, K, P, D)
        self.own: dict[int, tuple] = {}  # layer -> keys, values, both (R, K, T, D)
        self.length = 0  # own tokens so far

    def attend(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        """Attention of the new tokens to all before them.  q (B, H, L, D), k and v (B, K, L, D) -> (B, L, H, D)."""
        if layer not in self.prompt:
            return self._prefill(layer, q, k, v, scale).transpose(1, 2)
        return self._decode(layer, q, k, v, scale)[:, None]

    def _prefill(self, layer, q, k, v, scale):
        self.prompt[layer] = (k, v)
        size = (self.mask.shape[0] * self.group, k.shape[1], self.new_tokens, k.shape[3])
        self.own[layer] = (k.new_zeros(size), v.new_zeros(size))
        width = self.mask.shape[1]
        causal = torch.ones(width, width, dtype=torch.bool, device=q.device).tril()
        causal = (causal & self.mask[:, None]) | torch.eye(width, dtype=torch.bool, device=q.device)  # no empty row
        return F.scaled_dot_product_attention(q, k, v, causal[:, None], scale=scale, enable_gqa=q.shape[1] != k.shape[1])

    def _decode(self, layer, q, k, v, scale):
        t, (prompt_k, prompt_v), (own_k, own_v) = self.length, self.prompt[layer], self.own[layer]
        own_k[:, :, t], own_v[:, :, t] = k[:, :, 0], v[:, :, 0]
        own_k, own_v = own_k[:, :, :t + 1], own_v[:, :, :t + 1]
        N, K, P, D = prompt_k.shape
        R, H = q.shape[:2]
        q = q.reshape(R, K, H // K, D) * scale
        # Against the prompt the rows of a group are queries of one matrix product: its keys are read once, not G times.
        scores = self._by_group(q) @ prompt_k.transpose(2, 3)  # (N, K, G * H/K, P)
        scores = scores.masked_fill(~self.mask[:, None, None], -torch.inf)
        scores = torch.cat([self._by_row(scores), q @ own_k.transpose(2, 3)], -1)  # (R, K, H/K, P + t + 1)
        weights = scores.softmax(-1, dtype=torch.float32).to(q.dtype)
        out = self._by_row(self._by_group(weights[..., :P]) @ prompt_v) + weights[..., P:] @ own_v
        return out.reshape(R, H, D)

    def _by_group(self, x: torch.Tensor) -> torch.Tensor:  # (R, K, H/K, X) -> (N, K, G * H/K, X)
        R, K, h, X = x.shape
        return x.view(-1, self.group, K, h, X).transpose(1, 2).reshape(-1, K, self.group * h, X)

    def _by_row(self, x: torch.Tensor) -> torch.Tensor:  # the way back
        N, K, gh, X = x.shape
        return x.view(N, K, self.group, -1, X).transpose(1, 2).reshape(N * self.group, K, -1, X)

    def keep(self, groups: torch.Tensor, rows: torch.Tensor, group: int) -> None:
        """Go on with these prompts and these rows, `group` of them a prompt."""
        self.mask, self.group = self.mask[groups], group
        self.prompt = {i: (k[groups], v[groups]) for i, (k, v) in self.prompt.items()}
        self.own = {i: (k[rows], v[rows]) for i, (k, v) in self.own.items()}


def _attention(module, query, key, value, attention_mask, scaling=None, group_cache=None, sliding_window=None,
               softcap=None, **_):
    """What transformers calls in each layer; `group_cache` arrives through the model's forward."""
    reach = group_cache.mask.shape[1] + group_cache.new_tokens
    if softcap or (sliding_window and sliding_window < reach):
        raise NotImplementedError("this model's attention has a window or a soft cap that the hand-written rollout "
                                  "does not serve: use --sampler hf")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    return group_cache.attend(module.layer_idx, query, key, value, scale), None


AttentionInterface.register("group_cache", _attention)


@contextmanager
def rollout_mode(model: PreTrainedModel) -> Iterator[None]:
    """Eval mode (in train mode gradient checkpointing drops caches silently) and our attention; both put back."""
    training, attention = model.training, model.config._attn_implementation
    model.eval()
    model.set_attn_implementation("group_cache")
    try:
        yield
    finally:
        model.set_attn_implementation(attention)
        model.train(training)


# ------------------------------------------------------------------------------------------ the rollout
@torch.inference_mode()
def sample(model: PreTrainedModel, prompts: list[list[int]], group: int, max_new_tokens: int, temperature: float,
           end: list[int], rng: torch.Generator, max_rows: int = 256) -> list[Rollout]:
    """`group` completions of each prompt, by hand.  Temperature 0 is greedy.  Prompt-major order: R = N * G rollouts.

    Prompts of similar length share a batch of at most `max_rows` rows.  `rng` lives on the model's device.
    """
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    size = max(1, max_rows // group)
    done: dict[int, list[Rollout]] = {}
    with rollout_mode(model):
        for start in range(0, len(prompts), size):
            chosen = by_length[start:start + size]
            batch = _sample_batch(model, [prompts[i] for i in chosen], group, max_new_tokens, temperature, end, rng)
            done.update({i: batch[j * group:(j + 1) * group] for j, i in enumerate(chosen)})
    return [rollout for i in range(len(prompts)) for rollout in done[i]]


def _sample_batch(model, prompts, group, max_new_tokens, temperature, end, rng) -> list[Rollout]:
    device, look_every = model.device, 1 if model.device.type == "cpu" else 16
    ids, mask = left_pad(prompts, device)
    end = torch.tensor(end, device=device)
    cache = GroupCache(mask, group, max_new_tokens)
    positions = (mask.cumsum(1) - 1).clamp(min=0)  # (N, P)
    logits = model(input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=1, group_cache=cache).logits
    logits = logits[:, -1].repeat_interleave(group, 0)  # (R, V)
    position = positions[:, -1:].repeat_interleave(group, 0)  # (R, 1): of the newest token
    rows = torch.arange(len(prompts) * group, device=device)  # which completion each live row writes
    written = torch.full((len(rows), max_new_tokens), -1, device=device)
    alive = torch.ones(len(rows), dtype=torch.bool, device=device)
    for t in range(max_new_tokens):
        token = choose(logits, temperature, rng)  # (R,)
        written[rows, t] = torch.where(alive, token, -1)
        alive &= ~torch.isin(token, end)
        if t + 1 == max_new_tokens or (t % look_every == 0 and not alive.any()):
            break
        if t % look_every == 0 and (kept := _survivors(alive, cache.group)):
            groups, chosen, width = kept
            cache.keep(groups, chosen, width)
            rows, alive, token, position = rows[chosen], alive[chosen], token[chosen], position[chosen]
        position = position + 1
        logits = model(input_ids=token[:, None], position_ids=position, use_cache=False, group_cache=cache).logits[:, -1]
        cache.length += 1
    completions = [[i for i in row if i >= 0] for row in written.tolist()]
    ends = set(end.tolist())
    return [Rollout(prompts[r // group], c, c[-1] in ends) for r, c in enumerate(completions)]


def _survivors(alive: torch.Tensor, group: int) -> tuple[torch.Tensor, torch.Tensor, int] | None:
    """Which groups and rows to go on with, when at least a quarter of the work can be dropped; else None.

    All groups keep the same number of rows, as many as the fullest has alive, so that shapes stay rectangular.
    """
    table = alive.view(-1, group)
    groups = table.any(1).nonzero()[:, 0]
    width = int(table.sum(1).max())
    if len(groups) * width > 0.75 * alive.numel():
        return None
    order = table[groups].int().argsort(dim=1, descending=True, stable=True)[:, :width]  # the living first
    return groups, (groups[:, None] * group + order).flatten(), width


def choose(logits: torch.Tensor, temperature: float, rng: torch.Generator) -> torch.Tensor:
    """One id a row.  Sampling is argmax of p / Exp(1), which needs no host synchronisation.  (R, V) -> (R,)"""
    if temperature == 0:
        return logits.argmax(-1)
    p = (logits.float() / temperature).softmax(-1)
    return (p / torch.empty_like(p).exponential_(generator=rng)).argmax(-1)


@torch.inference_mode()
def sample_hf(model: PreTrainedModel, prompts: list[list[int]], group: int, max_new_tokens: int, temperature: float,
              end: list[int], rng: torch.Generator, max_rows: int = 256) -> list[Rollout]:
    """The same through `model.generate`: slower, for every model that transformers can generate with."""
    torch.manual_seed(int(torch.randint(2**31, (1,), generator=rng, device=rng.device)))
    how = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {"do_sample": False}
    rollouts, size, training = [], max(1, max_rows // group), model.training
    model.eval()
    for start in range(0, len(prompts), size):
        batch = prompts[start:start + size]
        ids, mask = left_pad(batch, model.device)
        out = model.generate(input_ids=ids, attention_mask=mask.long(), max_new_tokens=max_new_tokens, eos_token_id=end,
                             pad_token_id=end[0], num_return_sequences=group, **how)
        for r, row in enumerate(out[:, ids.shape[1]:].tolist()):
            stop = next((t + 1 for t, i in enumerate(row) if i in end), len(row))
            rollouts.append(Rollout(batch[r // group], row[:stop], row[stop - 1] in end))
    model.train(training)
    return rollouts


SAMPLERS = {"hand": sample, "hf": sample_hf}


@torch.inference_mode()
def next_token_logits(model: PreTrainedModel, prompts: list[list[int]], max_rows: int = 64) -> torch.Tensor:
    """The logits that follow each prompt, one forward pass a batch, nothing sampled.  -> (N, V), float32."""
    parts = []
    for start in range(0, len(prompts), max_rows):
        ids, mask = left_pad(prompts[start:start + max_rows], model.device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        parts.append(model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=1).logits[:, -1])
    return torch.cat(parts).float()
