"""Sampling: completions of prompts, through Hugging Face `generate` or by hand.

Paper: Table 4 (G completions per prompt, temperature 1).  `sample_hf` and `sample` have the same
signature and return the same ids.  What is sampled is what is trained on: temperature only, no
top-k, no top-p, and the end token is part of the completion.

`sample` is faster, as the completions of a prompt share its keys and values:

    prefill   each prompt runs through the model once, a few prompts at a time
    decode    S slots advance by one token; each attends to its prompt's keys (stored once per
              group) and to its own (a buffer that is allocated once)
    refill    a completion that ends gives its slot to the next one that waits
    shrink    when none waits, slots are dropped once a quarter are empty (on a GPU: a half)

The model's own forward pass is used, with another attention function, through the interface that
transformers has for that (plumbing/group_cache.py).  Llama, Qwen2, Qwen3 and Mistral decode with a
fused step of our own instead (plumbing/decode.py).  Randomness is passed in as
`uniforms` (N, G, T), one number in [0, 1) per token, so ids do not depend on the rest of the batch.

Letters in shapes: N prompts, G completions per prompt, R rows, B prompts in a prefill, S slots,
P prompt width, T new tokens, V vocabulary.  Completions are numbered prompt-major: number c is
completion c % G of prompt c // G.

    >>> Rollout(prompt=[5, 6], completion=[7, 2], finished=True).completion
    [7, 2]
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from errors import UnusableModel, is_out_of_memory
from plumbing import model_check
from plumbing.cuda_graph import WORKSPACES, Workspaces
from plumbing.decode import fused_step
from plumbing.group_cache import UNSUPPORTED, Size
from plumbing.inverse_cdf import choose
from plumbing.padding import left_pad, round_up
from plumbing.slots import (
    PREFILL_TOKENS,
    Ledger,
    fewer,
    number_of_slots,
    rule_of,
    size_in_use,
)

EVERY = slice(None)  # all slots


@dataclass(frozen=True)
class Rollout:
    """One completion: its prompt's ids, its own (end id included), whether it reached an end id."""

    prompt: list[int]
    completion: list[int]
    finished: bool


@dataclass(frozen=True)
class SamplingParams:
    """How to sample: T new tokens, the temperature (0: greedy), the end ids, and S slots (`rows`).

    `rows` completions are sampled at once; "auto": 64, or on cuda what fits (plumbing/slots.py).
    """

    max_new_tokens: int
    temperature: float
    eos_ids: list[int]
    rows: int | str = "auto"


def pick(logits: torch.Tensor, temperature: float, uniform: torch.Tensor) -> torch.Tensor:
    """Sample one id per row by inverse CDF: logits (R, V), uniform (R,) -> (R,).

    >>> pick(torch.tensor([[0.0, 0.0]]), 1.0, torch.tensor([0.7], dtype=torch.float64))
    tensor([1])
    """
    if temperature == 0:
        return logits.argmax(-1)
    scaled = logits.to(uniform.dtype) / temperature
    edges = scaled.softmax(-1).cumsum(-1)  # (R, V)
    height = uniform[:, None] * edges[:, -1:]  # the last edge is 1 but for rounding
    token = torch.searchsorted(edges, height, right=True)
    return token[:, 0].clamp(max=logits.shape[1] - 1)


@torch.inference_mode()
def sample_hf(
    model: PreTrainedModel,
    prompts: list[list[int]],
    group: int,
    params: SamplingParams,
    uniforms: torch.Tensor,
) -> list[Rollout]:
    """Sample `group` completions of each prompt with `model.generate`, prompt-major.

    Supports every model of transformers that gives a row in a padded batch the logits that it has
    alone; raises UnusableModel for others (plumbing/model_check.py).  uniforms (N, G, T).
    """
    refuse_batch_effects(model, prompts, params, "hf", _generate)
    training = model.training
    model.eval()
    rows = number_of_slots(model, prompts, group, params.max_new_tokens, params.rows)
    rollouts: list[Rollout] = []
    while len(rollouts) < len(prompts) * group:
        first = len(rollouts) // group
        batch = slice(first, first + max(1, rows // group))
        try:
            rollouts += _generate(model, prompts[batch], group, params, uniforms[batch])
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            rows = fewer(rows)
    model.train(training)
    return rollouts


def _generate(model, prompts, group, params, uniforms, picker=pick) -> list[Rollout]:
    """Sample one batch with `generate`, whose logits are replaced by our choice at every token."""
    repeated = [prompt for prompt in prompts for _ in range(group)]
    ids, mask, _ = left_pad(repeated, model.device)  # (R, P)
    uniforms = uniforms.flatten(0, 1).to(model.device)  # (R, T)
    width = ids.shape[1]

    def only_ours(so_far: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        token = picker(logits, params.temperature, uniforms[:, so_far.shape[1] - width])
        return torch.full_like(logits, -torch.inf).scatter(1, token[:, None], 0.0)

    out = model.generate(
        input_ids=ids,
        attention_mask=mask.long(),
        eos_token_id=params.eos_ids,
        max_new_tokens=params.max_new_tokens,
        pad_token_id=params.eos_ids[0],
        do_sample=False,
        repetition_penalty=1.0,
        logits_processor=[only_ours],
    )
    completions = out[:, width:].tolist()
    return [as_rollout(*pair, params.eos_ids) for pair in zip(repeated, completions)]


def as_rollout(prompt: list[int], ids: list[int], eos_ids: list[int]) -> Rollout:
    """Cut a completion after its first end id.

    >>> as_rollout([5], [7, 2, 0, 0], eos_ids=[2])
    Rollout(prompt=[5], completion=[7, 2], finished=True)
    """
    for i, token in enumerate(ids):
        if token in eos_ids:
            return Rollout(prompt, ids[: i + 1], True)
    return Rollout(prompt, ids, False)


@torch.inference_mode()
def sample(
    model: PreTrainedModel,
    prompts: list[list[int]],
    group: int,
    params: SamplingParams,
    uniforms: torch.Tensor,
) -> list[Rollout]:
    """Sample `group` completions of each prompt by hand, prompt-major.  uniforms (N, G, T).

    If memory runs out, free what earlier batches keep, or else halve the slots, and go on with the
    completions that are not done.
    Raises UnusableModel if some layer is not plain attention, or logits depend on the batch.
    """
    refuse_batch_effects(model, prompts, params, "hand", _decode_once)
    rows = number_of_slots(model, prompts, group, params.max_new_tokens, params.rows)
    longest_first = sorted(range(len(prompts)), key=lambda n: -len(prompts[n]))
    waiting = [n * group + g for n in longest_first for g in range(group)]
    done: dict[int, list[int]] = {}  # number of a completion -> its ids
    released = False
    with rollout_mode(model):
        while waiting:
            batch = Sampler(
                model, prompts, group, params, uniforms, waiting, rows, WORKSPACES, choose
            )
            try:
                batch.run()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                freed = WORKSPACES.release()
                if released or not freed:
                    rows = fewer(rows)
                released = True
            done |= batch.finished()
            waiting = [c for c in waiting if c not in done]
            del batch  # frees its cache before the next one is allocated
    return [
        as_rollout(prompts[c // group], done[c], params.eos_ids)
        for c in range(len(prompts) * group)
    ]


def _decode_once(model, prompts, group, params, uniforms, choose) -> None:
    """Sample one batch by hand, without the workspaces that outlive a batch."""
    waiting = list(range(len(prompts) * group))
    nothing_kept = Workspaces(record=None)
    with rollout_mode(model):
        Sampler(
            model, prompts, group, params, uniforms, waiting, len(waiting), nothing_kept, choose
        ).run()


def refuse_batch_effects(
    model: PreTrainedModel,
    prompts: list[list[int]],
    params: SamplingParams,
    sampler: str,
    run: Callable,
) -> None:
    """Raise UnusableModel if the logits of `run` differ between a batch and each row alone."""
    lengths = {len(prompt) for prompt in prompts}
    if not lengths:
        return
    no_id = model.config.get_text_config().vocab_size
    forced = SamplingParams(model_check.NEW, 1.0, eos_ids=[no_id])

    def score(prompts: list[list[int]], ids: torch.Tensor) -> torch.Tensor:
        steps = []

        def take_given(logits: torch.Tensor, _: float, given: torch.Tensor) -> torch.Tensor:
            token = given.long()  # the ids come in where the uniform numbers do
            logps = logits.float().log_softmax(-1)
            steps.append(logps.gather(1, token[:, None]))
            return token

        run(model, prompts, 1, forced, ids[:, None].float(), take_given)
        return torch.cat(steps[: model_check.NEW], 1)  # a GPU decodes on until the next refill

    longest = max(lengths) + params.max_new_tokens
    advice = "name a --model of another family"
    if sampler == "hand":
        advice = f"try --sampler hf, or {advice}"
    padded = len(lengths) > 1
    text = max(prompts, key=len)
    model_check.require(model, text, longest, f"--sampler {sampler}", score, padded, advice)


@contextmanager
def rollout_mode(model: PreTrainedModel) -> Iterator[None]:
    """Switch to eval mode and our attention, then restore both.

    In train mode, checkpointing would drop the cache.
    """
    training = model.training
    attention = model.config._attn_implementation
    if not getattr(model, "_supports_attention_backend", False):
        raise UnusableModel(UNSUPPORTED)
    model.eval()
    model.set_attn_implementation("group_cache")
    try:
        yield
    finally:
        model.set_attn_implementation(attention)
        model.train(training)


class Sampler:
    """Sample the waiting completions in S slots; `run` returns when all of them have ended."""

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: list[list[int]],
        group: int,
        params: SamplingParams,
        uniforms: torch.Tensor,
        waiting: list[int],
        rows: int,
        workspaces: Workspaces,
        choose: Callable,
    ) -> None:
        self.model = model
        self.workspaces = workspaces
        self.choose = choose
        self.prompts = prompts
        self.params = params
        self.device = model.device
        self.rule = rule_of(self.device)
        slots = self.rule.slots(rows, len(waiting))
        places = self.rule.places(slots, group, len({c // group for c in waiting}))
        self.ledger = Ledger(waiting, group, slots, places)
        longest = max(len(prompts[c // group]) for c in waiting)
        width = round_up(longest, self.rule.prompt_block)
        self.room = Size(slots, places, min(group, slots), width)
        wave = math.ceil(slots / group)  # prompts that fill all slots once
        self.wave = max(1, min(wave, PREFILL_TOKENS // longest))  # prompts per prefill
        self.uniforms = uniforms
        self.clock = 0  # decode steps so far
        self.started = [0] * slots  # slot -> the clock when it was filled
        self.width_of: dict[int, int] = {}  # prompt -> its columns, padding included
        self.first_logits: dict[int, torch.Tensor] = {}  # prompt -> what follows it, (V,)
        self.eldest = 0  # the clock when the longest-running completion began

    def run(self) -> None:
        """Sample until no completion waits and none is alive."""
        self.allocate()
        while self.refill():
            for _ in range(self.rule.refill_every):
                self.emit(self.decode())

    def allocate(self) -> None:
        """Allocate the cache and the state of each slot on the device."""
        slots = self.room.slots
        T = self.params.max_new_tokens
        self.workspace = self.workspaces.get(self.model, self.room, T)
        self.cache = self.workspace.cache
        self.fused = fused_step(self.model)  # None for most families
        self.cache.order = None if self.fused is None else self.fused.order
        self.ends = torch.tensor(self.params.eos_ids, device=self.device)
        # Row c belongs to completion c; empty slots write to the last row.
        self.uniforms = F.pad(self.uniforms.flatten(0, 1).to(self.device), (0, 0, 0, 1))
        self.written = torch.zeros(self.uniforms.shape, dtype=torch.long, device=self.device)
        nobody = len(self.uniforms) - 1
        self.number = torch.full((slots,), nobody, device=self.device)  # of its completion
        self.length = torch.ones_like(self.number)  # tokens of it so far
        self.prompt_length = torch.zeros_like(self.number)
        self.token = torch.zeros_like(self.number)  # the newest
        self.alive = torch.zeros_like(self.number, dtype=torch.bool)

    def refill(self) -> bool:
        """Free slots and fill them again; return False when there is nothing left to do."""
        before = list(self.ledger.holds)
        filled = True
        while filled:  # a completion may end with its first token
            self.ledger.free(self.alive.tolist())
            self.prefill()
            filled = self.fill()
        live = self.ledger.live()
        if not live:
            return False
        self.eldest = min(self.started[slot] for slot in live)
        if self.ledger.holds == before:
            return True
        if not self.ledger.waiting:
            self.shrink()
        self.cache.size = size_in_use(self.rule, self.ledger, self.room, self.width_of)
        self.cache.set_lanes(self.ledger.place_of_slots(), self.cache.size.lanes)
        return True

    def prefill(self) -> None:
        """Run the prompts that come next through the model, if there is room for them."""
        pairs = self.ledger.next_prompts(self.wave)
        if not pairs:
            return
        ids, mask, positions = left_pad([self.prompts[n] for n, _ in pairs], self.device)
        self.cache.begin_prefill([place for _, place in pairs], mask)
        logits = self.model(
            input_ids=ids,
            position_ids=positions,
            use_cache=False,
            logits_to_keep=1,
            group_cache=self.cache,
        ).logits[:, -1]  # (B, V)
        self.cache.end_prefill(self.model.config.get_text_config().num_hidden_layers)
        for (prompt, _), row in zip(pairs, logits):
            self.width_of[prompt] = ids.shape[1]
            self.first_logits[prompt] = row

    def fill(self) -> bool:
        """Let waiting completions begin in free slots; return whether there were any."""
        filled = self.ledger.fill()
        if not filled:
            return False
        prompts = [number // self.ledger.group for _, number in filled]
        for slot, _ in filled:
            self.started[slot] = self.clock
        slots, numbers = torch.tensor(filled, device=self.device).unbind(1)
        self.cache.clear(slots)
        self.number[slots] = numbers
        self.length[slots] = 0
        self.alive[slots] = True
        lengths = [len(self.prompts[n]) for n in prompts]
        self.prompt_length[slots] = torch.tensor(lengths, device=self.device)
        self.emit(torch.stack([self.first_logits[n] for n in prompts]), slots)
        for prompt in self.width_of.keys() - self.ledger.place_of.keys():  # no longer stored
            del self.width_of[prompt], self.first_logits[prompt]
        return True

    def emit(self, logits: torch.Tensor, slots: torch.Tensor | slice = EVERY) -> None:
        """Sample the next token of the completions in these slots; logits (S, V)."""
        T = self.params.max_new_tokens
        number, length = self.number[slots], self.length[slots]
        column = length.clamp(max=T - 1)  # the length of an empty slot does not matter
        uniforms = self.uniforms[number, column]
        token = self.choose(logits, self.params.temperature, uniforms)  # (S,)
        self.written[number, column] = token
        self.token[slots] = token
        alive = self.alive[slots]
        length = length + alive
        alive = alive & ~torch.isin(token, self.ends) & (length < T)
        self.length[slots] = length
        self.alive[slots] = alive
        self.number[slots] = torch.where(alive, number, len(self.written) - 1)

    def decode(self) -> torch.Tensor:
        """Put the newest token of every slot through the model -> logits (S, V)."""
        newest = self.length - 1
        longest = self.clock - self.eldest + 1
        width = min(round_up(longest, self.rule.block), self.params.max_new_tokens)
        self.clock += 1
        self.cache.advance(newest, width)
        position = self.prompt_length + newest
        return self.workspaces.run(self.workspace, self.step, self.token, position)

    def step(self, token: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Run the model on token and position, both (S, 1) -> logits (S, V)."""
        if self.fused is not None:
            return self.fused(token, position, self.cache)
        return self.model(
            input_ids=token,
            position_ids=position,
            use_cache=False,
            group_cache=self.cache,
        ).logits[:, -1]

    def shrink(self) -> None:
        """Drop the empty slots, once enough of them are empty."""
        live = self.ledger.live()
        slots = self.rule.slots_after(len(live), len(self.ledger.holds))
        if slots == len(self.ledger.holds):
            return
        places = len(self.ledger.place_of)
        if self.rule.fixed:
            places = min(self.ledger.places, slots)
        kept, kept_places = self.ledger.shrink(slots, places)
        self.cache.compact(kept, kept_places)
        self.started = [self.started[slot] for slot in kept]
        for name in ("number", "length", "prompt_length", "token", "alive"):
            setattr(self, name, getattr(self, name)[kept])

    def finished(self) -> dict[int, list[int]]:
        """Return the ids of each completion that has ended, by its number.

        The zeros that follow the end token are included.
        """
        ended = self.ledger.ended
        if not ended:
            return {}
        return dict(zip(ended, self.written[ended].tolist()))


SAMPLERS = {"hand": sample, "hf": sample_hf}
