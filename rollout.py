"""Sampling: the hand-written batched rollout, and its twin through Hugging Face `generate`.

Paper: Sec. 4 (G completions a prompt at temperature 1).  Both samplers have one signature and the
same greedy ids.  The hand-written one is faster: the samples of a prompt share its keys and values.

    prefill   each prompt runs through the model once, left-padded, N prompts at a time
    decode    all R = N * G rows advance one token; each attends to its prompt's keys (stored once
              for the group) and to its own (a buffer allocated once, nothing is concatenated)
    shrink    rows that have met an end id leave; a group without rows takes its prompt along

The model's own forward is used as it is; only its attention function is exchanged, through the
interface that transformers has for that.  What is sampled is what is trained on: temperature only,
no top-k, no top-p, and the end token is part of the completion.

Letters in shapes: N prompts, G samples a prompt, R = N * G rows, P prompt width, T new tokens,
H heads, K key/value heads, h = H / K, D head size, V vocabulary.

    Rollout(prompt=[1, 2], completion=[7, 8, 0], finished=True)      # one raw example; 0 ended it
"""
from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator

import torch
import torch.nn.functional as F
import transformers
from safetensors import SafetensorError
from transformers import (AttentionInterface, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel,
                          PreTrainedTokenizerBase)

transformers.utils.logging.disable_progress_bar()  # a bar for each checkpoint would drown ours
CHATML = ("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
          "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")

@dataclass(frozen=True)
class Rollout:
    """One completion: ids of its prompt, its own (end id included), whether it met an end id."""
    prompt: list[int]
    completion: list[int]
    finished: bool

class UnusableModel(ValueError):
    """The model cannot be found, read, or served; the message says what to do."""

def load_model(name: str, device: str = "cpu") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A float32 model and its tokenizer; safetensors only, no remote code, else UnusableModel."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=False,
                                                     use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError, SafetensorError) as error:
        here = os.path.isdir(name)
        what = "holds no usable model" if here else "is neither a folder nor in the cache"
        raise UnusableModel(
            f"--model {name} {what} ({str(error).splitlines()[0][:120]}). Name a folder with "
            "config.json and *.safetensors, or go online once to fill the cache; "
            "'python selfplay.py' without --model needs no network.") from None
    if tokenizer.chat_template is None:
        print(f"{name} has no chat template: a plain ChatML one is used.")
        tokenizer.chat_template = CHATML
    return model.to(device).eval(), tokenizer

class Player:
    """A model, its tokenizer, and the sampler it speaks through."""

    def __init__(self, name: str, device: str = "cpu", sampler: str = "hand") -> None:
        self.model, self.tokenizer = load_model(name, device)
        self.sampler = SAMPLERS[sampler]
        named = self.model.generation_config.eos_token_id  # one, several, or none
        ids = {self.tokenizer.eos_token_id, self.tokenizer.get_vocab().get("<|im_end|>")}
        self.end = sorted((ids | set(named if isinstance(named, list) else [named])) - {None})

    def ids(self, chat: list[dict[str, str]]) -> list[int]:
        """A chat as ids, up to where the assistant begins to write."""
        text = self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def ask(self, chats: Iterable[list[dict[str, str]]], group: int, max_new_tokens: int,
            temperature: float, seed: int = 0) -> list[Rollout]:
        """`group` completions of each chat, prompt-major."""
        rng = torch.Generator(self.model.device).manual_seed(seed)
        prompts = list(map(self.ids, chats))
        return self.sampler(self.model, prompts, group, max_new_tokens, temperature, self.end, rng)

    def text(self, rollout: Rollout) -> str:
        """A completion as text, without its end token."""
        ids = rollout.completion[:-1] if rollout.finished else rollout.completion
        return self.tokenizer.decode(ids, skip_special_tokens=False)

    def digit_logits(self, chats: Iterable[list[dict[str, str]]]) -> torch.Tensor:
        """The logits of "1" to "5" as the first token of the answer, (N, 5); nothing is sampled."""
        digits = [self.tokenizer(d, add_special_tokens=False)["input_ids"][-1] for d in "12345"]
        return next_token_logits(self.model, list(map(self.ids, chats)))[:, digits]

    def save(self, folder: Path) -> None:
        """Write a checkpoint that `from_pretrained` loads; it appears whole or not at all."""
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        self.model.save_pretrained(part)
        self.tokenizer.save_pretrained(part)
        part.rename(folder)

def left_pad(prompts: list[list[int]], device: torch.device) -> tuple[torch.Tensor, ...]:
    """Ids, mask (True: a real token) and positions, all (N, P), padded on the left."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts], device=device)
    lengths = torch.tensor([len(p) for p in prompts], device=device)
    positions = torch.arange(width, device=device) - (width - lengths)[:, None]
    return ids, positions >= 0, positions.clamp(min=0)

class GroupCache:
    """Keys and values of N prompts, each stored once, and of the R rows that continue them."""

    def __init__(self, mask: torch.Tensor, group: int, new_tokens: int) -> None:
        self.mask, self.group, self.new_tokens = mask, group, new_tokens  # mask (N, P)
        self.prompt: dict[int, tuple] = {}  # layer -> keys, values, both (N, K, P, D)
        self.own: dict[int, tuple] = {}  # layer -> keys, values, both (R, K, T, D)
        self.length = 0  # own tokens so far

    def prefill(self, layer: int, q, k, v, scale: float) -> torch.Tensor:
        """Store the prompts and attend within them.  q (N, H, P, D), k and v (N, K, P, D)."""
        self.prompt[layer] = (k, v)
        size = (len(k) * self.group, k.shape[1], self.new_tokens, k.shape[3])
        self.own[layer] = (k.new_zeros(size), v.new_zeros(size))
        square = self.mask.new_ones(k.shape[2], k.shape[2])
        itself = square.tril().triu()  # so that padding has something to attend to
        allowed = (square.tril() & self.mask[:, None]) | itself
        return F.scaled_dot_product_attention(q, k, v, allowed[:, None], scale=scale,
                                              enable_gqa=True).transpose(1, 2)

    def decode(self, layer: int, q, k, v, scale: float) -> torch.Tensor:
        """Store a token a row, attend to all before.  q (R, H, 1, D), k and v (R, K, 1, D)."""
        t, (prompt_k, prompt_v), (own_k, own_v) = self.length, self.prompt[layer], self.own[layer]
        own_k[:, :, t], own_v[:, :, t] = k[:, :, 0], v[:, :, 0]
        own_k, own_v = own_k[:, :, :t + 1], own_v[:, :, :t + 1]
        N, K, P, D = prompt_k.shape
        q = q.reshape(len(q), K, -1, D) * scale  # (R, K, h, D)
        # The rows of a group are queries of one product: the prompt's keys are read once.
        to_prompt = self._by_group(q) @ prompt_k.transpose(2, 3)  # (N, K, G * h, P)
        to_prompt = to_prompt.masked_fill(~self.mask[:, None, None], -torch.inf)
        scores = torch.cat([self._by_row(to_prompt), q @ own_k.transpose(2, 3)], -1)
        weights = scores.softmax(-1, dtype=torch.float32).to(q.dtype)  # (R, K, h, P + t + 1)
        out = self._by_row(self._by_group(weights[..., :P]) @ prompt_v) + weights[..., P:] @ own_v
        return out.reshape(len(q), 1, -1, D)

    def _by_group(self, x: torch.Tensor) -> torch.Tensor:  # (R, K, h, X) -> (N, K, G * h, X)
        return x.unflatten(0, (-1, self.group)).transpose(1, 2).flatten(2, 3)

    def _by_row(self, x: torch.Tensor) -> torch.Tensor:  # the way back
        return x.unflatten(2, (self.group, -1)).transpose(1, 2).flatten(0, 1)

    def keep(self, groups: torch.Tensor, rows: torch.Tensor, group: int) -> None:
        """Go on with these prompts and these rows, `group` of them a prompt."""
        self.mask, self.group = self.mask[groups], group
        self.prompt = {i: (k[groups], v[groups]) for i, (k, v) in self.prompt.items()}
        self.own = {i: (k[rows], v[rows]) for i, (k, v) in self.own.items()}

def _attention(module, query, key, value, attention_mask, scaling=None, group_cache=None,
               sliding_window=None, softcap=None, **_):
    """What transformers calls in each layer; `group_cache` arrives through the model's forward."""
    reach = group_cache.mask.shape[1] + group_cache.new_tokens
    if softcap or (sliding_window and sliding_window < reach):
        raise UnusableModel("this model's attention has a window or a soft cap, which the "
                            "hand-written rollout does not serve: use --sampler hf")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    first = module.layer_idx not in group_cache.prompt
    attend = group_cache.prefill if first else group_cache.decode
    return attend(module.layer_idx, query, key, value, scale), None

AttentionInterface.register("group_cache", _attention)

@contextmanager
def rollout_mode(model: PreTrainedModel) -> Iterator[None]:
    """Eval mode and our attention, both put back.  (In train mode checkpointing drops caches.)"""
    training, attention = model.training, model.config._attn_implementation
    model.eval()
    model.set_attn_implementation("group_cache")
    try:
        yield
    finally:
        model.set_attn_implementation(attention)
        model.train(training)

@torch.inference_mode()
def sample(model: PreTrainedModel, prompts: list[list[int]], group: int, max_new_tokens: int,
           temperature: float, end: list[int], rng: torch.Generator, max_rows: int = 256
           ) -> list[Rollout]:
    """`group` completions of each prompt, by hand, prompt-major.  Temperature 0 is greedy."""
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # little padding
    size, done = max(1, max_rows // group), {}
    with rollout_mode(model):
        for chosen in (by_length[i:i + size] for i in range(0, len(prompts), size)):
            batch = _sample_batch(model, [prompts[i] for i in chosen], group, max_new_tokens,
                                  temperature, end, rng)
            done.update({i: batch[j * group:(j + 1) * group] for j, i in enumerate(chosen)})
    return [rollout for i in range(len(prompts)) for rollout in done[i]]

def _sample_batch(model, prompts, group, max_new_tokens, temperature, end, rng) -> list[Rollout]:
    look_every = 1 if model.device.type == "cpu" else 16  # looking makes the host wait for a GPU
    ids, mask, positions = left_pad(prompts, model.device)
    ends = torch.tensor(end, device=model.device)
    cache = GroupCache(mask, group, max_new_tokens)
    logits = model(input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=1,
                   group_cache=cache).logits[:, -1].repeat_interleave(group, 0)  # (R, V)
    position = positions[:, -1:].repeat_interleave(group, 0)  # (R, 1), of the newest token
    rows = torch.arange(len(logits), device=model.device)  # which completion a live row writes
    written = torch.full((len(rows), max_new_tokens), -1, device=model.device)
    alive = torch.ones_like(rows, dtype=torch.bool)
    for t in range(max_new_tokens):
        token = choose(logits, temperature, rng)  # (R,)
        written[rows, t] = torch.where(alive, token, -1)
        alive &= ~torch.isin(token, ends)
        if t + 1 == max_new_tokens or (t % look_every == 0 and not alive.any()):
            break
        if t % look_every == 0 and (kept := _survivors(alive, cache.group)):
            cache.keep(*kept)
            rows, alive, token, position = (x[kept[1]] for x in (rows, alive, token, position))
        position = position + 1
        logits = model(input_ids=token[:, None], position_ids=position, use_cache=False,
                       group_cache=cache).logits[:, -1]
        cache.length += 1
    completions = [[i for i in row if i >= 0] for row in written.tolist()]
    return [Rollout(prompts[r // group], c, c[-1] in end) for r, c in enumerate(completions)]

def _survivors(alive: torch.Tensor, group: int) -> tuple[torch.Tensor, torch.Tensor, int] | None:
    """Groups, rows, rows a group to go on with, if a quarter of the rows can go; else None."""
    table = alive.view(-1, group)
    groups, width = table.any(1).nonzero()[:, 0], int(table.sum(1).max())  # as the fullest group
    if len(groups) * width > 0.75 * len(alive):
        return None
    living_first = table[groups].int().argsort(dim=1, descending=True, stable=True)[:, :width]
    return groups, (groups[:, None] * group + living_first).flatten(), width

def choose(logits: torch.Tensor, temperature: float, rng: torch.Generator) -> torch.Tensor:
    """One id a row, (R, V) -> (R,): argmax of p / Exp(1), which is a sample of p without a wait."""
    if temperature == 0:
        return logits.argmax(-1)
    p = (logits.float() / temperature).softmax(-1)
    return (p / torch.empty_like(p).exponential_(generator=rng)).argmax(-1)

@torch.inference_mode()
def sample_hf(model: PreTrainedModel, prompts: list[list[int]], group: int, max_new_tokens: int,
              temperature: float, end: list[int], rng: torch.Generator, max_rows: int = 256
              ) -> list[Rollout]:
    """The same through `model.generate`: slower, for every model of transformers."""
    torch.manual_seed(int(torch.randint(2**31, (1,), generator=rng, device=rng.device)))
    how = dict(do_sample=True, temperature=temperature, top_k=0, top_p=1.0) if temperature else {}
    rollouts, size, training = [], max(1, max_rows // group), model.training
    model.eval()
    for batch in (prompts[i:i + size] for i in range(0, len(prompts), size)):
        ids, mask, _ = left_pad(batch, model.device)
        out = model.generate(input_ids=ids, attention_mask=mask.long(), eos_token_id=end,
                             max_new_tokens=max_new_tokens, pad_token_id=end[0],
                             num_return_sequences=group, **(how or {"do_sample": False}))
        for r, row in enumerate(out[:, ids.shape[1]:].tolist()):
            stop = next((t + 1 for t, i in enumerate(row) if i in end), len(row))
            rollouts.append(Rollout(batch[r // group], row[:stop], row[stop - 1] in end))
    model.train(training)
    return rollouts

SAMPLERS = {"hand": sample, "hf": sample_hf}

@torch.inference_mode()
def next_token_logits(model: PreTrainedModel, prompts: list[list[int]], size: int = 64
                      ) -> torch.Tensor:
    """The logits that follow each prompt, (N, V), float32; `size` prompts at a time."""
    logits = torch.empty(len(prompts), model.config.vocab_size, device=model.device)
    for start in range(0, len(prompts), size):
        ids, mask, positions = left_pad(prompts[start:start + size], model.device)
        logits[start:start + size] = model(input_ids=ids, attention_mask=mask, logits_to_keep=1,
                                           position_ids=positions).logits[:, -1]
    return logits
