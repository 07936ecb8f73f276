"""Sampling: the hand-written batched rollout, and its twin through Hugging Face `generate`.

Paper: Table 4 (G completions a prompt at temperature 1).  Both samplers have one signature and the
same greedy ids.  The hand-written one is faster: the samples of a prompt share its keys and values.

    prefill   each prompt runs through the model once, left-padded, N prompts at a time
    decode    all R = N * G rows advance one token; each attends to its prompt's keys (stored once
              for the group) and to its own (a buffer allocated once, nothing is concatenated)
    shrink    rows that have met an end id leave, once a quarter of all can; groups stay equally
              wide, so a few stay as filler; a group without rows takes its prompt along

The model's own forward is used as it is; only its attention function is exchanged, through the
interface that transformers has for that.  What is sampled is what is trained on: temperature only,
no top-k, no top-p, and the end token is part of the completion.  Chance comes in as `uniforms`
(N, G, T), a number in [0, 1) for each token, so it does not matter who shares a batch.

Letters in shapes: N prompts, G samples a prompt, R = N * G rows (all three shrink), P prompt width,
T new tokens, H heads, K key/value heads, h = H / K, D head size, V vocabulary.  Prompt-major: the
G rows of the first prompt, then those of the second.

One raw example, of two groups of two rows: the second group has ended, and leaves the batch.
    >>> _survivors(torch.tensor([True, True, False, False]), group=2)
    (tensor([0]), tensor([[0, 1]]))
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, PreTrainedModel

from errors import UnusableModel
from plumbing.padding import left_pad

UNSERVED = (
    "the hand-written rollout serves models whose every layer is plain attention (no short "
    "window, soft cap, sink), and this one is not: use --sampler hf"
)
LOOK_EVERY = {"cpu": 1, "cuda": 16}  # tokens between looks at who has finished: each stalls a GPU
SPAN = 128  # choose() first uniforms a span of so many ids, then an id in it
BLOCK = {"cpu": 1, "cuda": 64}  # slots looked at grow by so many: a CUDA graph has a fixed shape


@dataclass(frozen=True)
class Rollout:
    """One completion: ids of its prompt, its own (end id included), whether it met an end id."""

    prompt: list[int]
    completion: list[int]
    finished: bool


class GroupCache:
    """Keys and values of N prompts, each stored once, and of the G rows that continue each."""

    def __init__(self, mask: torch.Tensor, group: int, new_tokens: int) -> None:
        self.mask, self.group, self.new_tokens = mask, group, new_tokens  # mask (N, P)
        # layer -> keys and values; keys with the token last, as the product with a query reads them
        self.prompt: dict[int, tuple] = {}  # (N, K, D, P), (N, K, P, D)
        self.own: dict[int, tuple] = {}  # (N, K, G, D, T), (N, K, G, T, D)
        self.slot = torch.zeros(1, dtype=torch.long, device=mask.device)  # of the newest token
        self.width = 0  # slots that are looked at: up to `slot`, or a few more that are hidden
        # Added to scores, (N, P + T): 0 where there is a token, -inf where there is none (yet).
        self.hide = F.pad(torch.where(mask, 0.0, -torch.inf), (0, new_tokens), value=-torch.inf)

    def prefill(self, layer: int, q, k, v, scale: float) -> torch.Tensor:
        """Store the prompts and attend within them.  q (N, H, P, D), k and v (N, K, P, D)."""
        N, K, P, D = k.shape
        self.prompt[layer] = (k.mT.contiguous(), v.contiguous())  # else each product copies them
        room, T = (N, K, self.group), self.new_tokens
        self.own[layer] = (k.new_zeros(*room, D, T), v.new_zeros(*room, T, D))
        causal = self.mask.new_ones(P, P).tril()
        itself = causal.triu()  # so that padding has something to attend to
        allowed = (causal & self.mask[:, None]) | itself
        return F.scaled_dot_product_attention(
            q, k, v, allowed[:, None], scale=scale, enable_gqa=True
        ).transpose(1, 2)

    def decode(self, layer: int, q, k, v, scale: float) -> torch.Tensor:
        """Store a token a row, attend to all before.  q (R, H, 1, D), k and v (R, K, 1, D)."""
        by_group = lambda x: x.unflatten(0, (-1, self.group)).transpose(1, 2)
        (prompt_k, prompt_v), (own_k, own_v) = self.prompt[layer], self.own[layer]
        own_k.index_copy_(4, self.slot, by_group(k).mT)
        own_v.index_copy_(3, self.slot, by_group(v))
        own_k, own_v = own_k[..., : self.width], own_v[..., : self.width, :]
        N, K, D, P = prompt_k.shape
        q = by_group(q.reshape(len(q), K, -1, D) * scale)  # (N, K, G, h, D)
        # The rows of a group are queries of one product: the prompt's keys are read once.
        to_prompt = q.reshape(N, K, -1, D) @ prompt_k  # (N, K, G * h, P)
        to_own = q @ own_k  # (N, K, G, h, width)
        scores = torch.cat([to_prompt, to_own.flatten(2, 3)], -1).float()
        scores += self.hide[:, None, None, : P + self.width]
        shares = scores.softmax(-1).to(q.dtype)
        out = (shares[..., :P] @ prompt_v).view(q.shape)
        out += shares[..., P:].unflatten(2, q.shape[2:4]) @ own_v
        return out.transpose(1, 2).reshape(len(k), 1, -1, D)  # (R, 1, H, D)

    def keep(self, groups: torch.Tensor, members: torch.Tensor) -> None:
        """Go on with these groups (N,) and these `members` (N, G) of each."""
        self.hide, self.group = self.hide[groups], members.shape[1]
        pick = lambda x: x[groups[:, None], :, members].transpose(1, 2).contiguous()
        self.prompt = {i: (k[groups], v[groups]) for i, (k, v) in self.prompt.items()}
        self.own = {i: (pick(k), pick(v)) for i, (k, v) in self.own.items()}


def _attention(
    module,
    query,
    key,
    value,
    attention_mask,
    scaling=None,
    group_cache=None,
    sliding_window=None,
    softcap=None,
    s_aux=None,
    **_,
):
    """What transformers calls in each layer; `group_cache` arrives through the model's forward."""
    again = group_cache is not None and module.layer_idx in group_cache.prompt
    if (
        group_cache is None  # layers that do not pass it on
        or again
        and query.shape[2] > 1  # a layer that attends twice
        or softcap
        or s_aux is not None
        or value.shape != key.shape  # s_aux: attention sinks
        or (sliding_window and sliding_window < group_cache.hide.shape[1])
    ):
        raise UnusableModel(UNSERVED)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    attend = group_cache.decode if again else group_cache.prefill
    return attend(module.layer_idx, query, key, value, scale), None


AttentionInterface.register("group_cache", _attention)


class Decode:
    """The model's step by one token a row; on a GPU captured once a shape, then replayed."""

    def __init__(self, model: PreTrainedModel, cache: GroupCache) -> None:
        self.model, self.cache, self.shape = model, cache, None

    def __call__(self, token: torch.Tensor, position: torch.Tensor, t: int) -> torch.Tensor:
        """Token t of each row and its position, both (R, 1) -> logits (R, V)."""
        cache, kind = self.cache, token.device.type
        cache.slot.fill_(t)
        cache.hide[:, cache.mask.shape[1] + t] = 0
        cache.width = min((t // BLOCK[kind] + 1) * BLOCK[kind], cache.new_tokens)
        if self.shape != (len(token), cache.width):
            self.shape, self.replay = (len(token), cache.width), None  # frees the earlier graph
            self.token, self.position = token.clone(), position.clone()  # what a graph reads
            self.replay = self._captured() if kind == "cuda" else None  # no cycle keeps the cache
        self.token.copy_(token)
        self.position.copy_(position)
        return self.replay() if self.replay else self._forward()

    def _forward(self) -> torch.Tensor:
        return self.model(
            input_ids=self.token,
            position_ids=self.position,
            use_cache=False,
            group_cache=self.cache,
        ).logits[:, -1]

    def _captured(self) -> Callable[[], torch.Tensor]:
        """The same as a CUDA graph: one launch instead of hundreds."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._forward()  # libraries set themselves up here, not in the graph
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = self._forward()
        return lambda: graph.replay() or logits  # replay() itself returns None


@contextmanager
def rollout_mode(model: PreTrainedModel) -> Iterator[None]:
    """Eval mode and our attention, both put back.  (In train mode checkpointing drops caches.)"""
    training, attention = model.training, model.config._attn_implementation
    if not getattr(model, "_supports_attention_backend", False):
        raise UnusableModel(UNSERVED)
    model.eval()
    model.set_attn_implementation("group_cache")
    try:
        yield
    finally:
        model.set_attn_implementation(attention)
        model.train(training)


@torch.inference_mode()
def sample(
    model: PreTrainedModel,
    prompts: list[list[int]],
    group: int,
    max_new_tokens: int,
    temperature: float,
    end: list[int],
    uniforms: torch.Tensor,
    max_rows: int = 256,
) -> list[Rollout]:
    """`group` completions of each prompt, by hand, prompt-major.  Temperature 0 is greedy."""
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # little padding
    size, done = max(1, max_rows // group), {}
    with rollout_mode(model):
        for chosen in (by_length[i : i + size] for i in range(0, len(prompts), size)):
            batch = _sample_batch(
                model,
                [prompts[i] for i in chosen],
                group,
                max_new_tokens,
                temperature,
                end,
                uniforms[chosen],
            )
            done.update({i: batch[j * group : (j + 1) * group] for j, i in enumerate(chosen)})
    return [rollout for i in range(len(prompts)) for rollout in done[i]]


def _sample_batch(model, prompts, group, max_new_tokens, temperature, end, uniforms):
    look_every = LOOK_EVERY[model.device.type]
    ids, mask, positions = left_pad(prompts, model.device)
    ends, uniforms = torch.tensor(end, device=model.device), uniforms.flatten(0, 1).to(model.device)
    cache = GroupCache(mask, group, max_new_tokens)
    logits = (
        model(
            input_ids=ids,
            position_ids=positions,
            use_cache=False,
            logits_to_keep=1,
            group_cache=cache,
        )
        .logits[:, -1]
        .repeat_interleave(group, 0)
    )  # (R, V)
    if len(cache.prompt) < model.config.get_text_config().num_hidden_layers:  # another attention
        raise UnusableModel(UNSERVED)
    decode = Decode(model, cache)
    position = positions[:, -1:].repeat_interleave(group, 0)  # (R, 1), of the newest token
    rows = torch.arange(len(logits), device=model.device)  # which completion a live row writes
    written = torch.full((len(rows), max_new_tokens), -1, device=model.device)  # -1: nothing
    alive = torch.ones_like(rows, dtype=torch.bool)
    for t in range(max_new_tokens):
        token = choose(logits, temperature, uniforms[rows, t])  # (R,)
        written[rows, t] = torch.where(alive, token, -1)
        alive &= ~torch.isin(token, ends)
        if t + 1 == max_new_tokens or (t % look_every == 0 and not alive.any()):
            break
        if t % look_every == 0 and (kept := _survivors(alive, cache.group)):
            groups, members = kept
            going = (groups[:, None] * cache.group + members).flatten()
            rows, alive, token, position = (x[going] for x in (rows, alive, token, position))
            cache.keep(groups, members)  # from here on cache.group may be less than `group`
        position = position + 1
        logits = decode(token[:, None], position, t)
    completions = [[i for i in row if i >= 0] for row in written.tolist()]
    return [Rollout(prompts[r // group], c, c[-1] in end) for r, c in enumerate(completions)]


def _survivors(alive: torch.Tensor, group: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Groups (N,) and their members (N, G) to go on with, if a quarter of the rows can go."""
    table = alive.view(-1, group)
    groups, width = table.any(1).nonzero()[:, 0], int(table.sum(1).max())  # as the fullest group
    if len(groups) * width > 0.75 * len(alive):
        return None
    living_first = table[groups].int().argsort(dim=1, descending=True, stable=True)
    return groups, living_first[:, :width]


def choose(logits: torch.Tensor, temperature: float, drawn: torch.Tensor) -> torch.Tensor:
    """One id a row, (R, V) -> (R,): of the probabilities, laid end to end, that at `drawn` (R,).

    First its span of SPAN ids is found, then the id (inverse CDF): a sum over all V ids in float64,
    which rare ids need, would cost more than some layers of the model.
    """
    if temperature == 0:
        return logits.argmax(-1)
    R, V = logits.shape
    weights = logits.new_zeros(R, -(-V // SPAN), SPAN, dtype=torch.float32)
    real = weights.flatten(1)[:, :V].copy_(logits).div_(temperature)  # in place: V is large
    real.sub_(real.amax(-1, keepdim=True)).exp_()
    spans = weights.sum(-1).double()  # (R, V / SPAN)
    heights = spans.cumsum(-1)
    height = drawn[:, None] * heights[:, -1:]
    # Where a model's weights are spoiled (NaN), no place is found: the last one is taken.
    span = torch.searchsorted(heights, height, right=True).clamp(max=spans.shape[1] - 1)  # (R, 1)
    share = (height - heights.gather(1, span)) / spans.gather(1, span) + 1  # how far into the span
    within = weights[torch.arange(R, device=span.device), span[:, 0]].double().cumsum(-1)
    place = torch.searchsorted(within, share.clamp(0, 1 - 1e-12) * within[:, -1:], right=True)
    return (span * SPAN + place)[:, 0].clamp(max=V - 1)


@torch.inference_mode()
def sample_hf(
    model: PreTrainedModel,
    prompts: list[list[int]],
    group: int,
    max_new_tokens: int,
    temperature: float,
    end: list[int],
    uniforms: torch.Tensor,
    max_rows: int = 256,
) -> list[Rollout]:
    """The same through `model.generate`: slower, for every model of transformers."""
    rollouts, size, training = [], max(1, max_rows // group), model.training
    model.eval()
    for first in range(0, len(prompts), size):
        batch = [p for p in prompts[first : first + size] for _ in range(group)]
        ids, mask, _ = left_pad(batch, model.device)
        drawn = uniforms[first : first + size].flatten(0, 1).to(model.device)

        def only_ours(so_far: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
            token = choose(logits, temperature, drawn[:, so_far.shape[1] - ids.shape[1]])
            return torch.full_like(logits, -torch.inf).scatter(1, token[:, None], 0.0)

        out = model.generate(
            input_ids=ids,
            attention_mask=mask.long(),
            eos_token_id=end,
            max_new_tokens=max_new_tokens,
            pad_token_id=end[0],
            do_sample=False,
            repetition_penalty=1.0,
            logits_processor=[only_ours],
        )
        for prompt, row in zip(batch, out[:, ids.shape[1] :].tolist()):
            stop = next((t + 1 for t, i in enumerate(row) if i in end), len(row))
            rollouts.append(Rollout(prompt, row[:stop], row[stop - 1] in end))
    model.train(training)
    return rollouts


SAMPLERS = {"hand": sample, "hf": sample_hf}

if __name__ == "__main__":
    from scripts.demos import demo

    demo("rollout") or print(__doc__)
