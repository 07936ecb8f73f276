"""Which completion is in which slot: the host's ledger of a rollout, and how many slots there are.

The ledger never touches the device; only `number_of_slots` asks for its free memory.  Two
slots, one place, two prompts of two completions each; the second prompt waits until both
completions of the first have ended:

    >>> ledger = Ledger([0, 1, 2, 3], group=2, slots=2, places=1)
    >>> ledger.next_prompts(8), ledger.fill()
    ([(0, 0)], [(0, 0), (1, 1)])
    >>> ledger.free([False, True]); ledger.next_prompts(8)
    []
    >>> ledger.free([False, False]); ledger.next_prompts(8), ledger.fill()
    ([(1, 0)], [(0, 2), (1, 3)])
"""

from collections import deque
from dataclasses import dataclass

import torch
from transformers import PretrainedConfig, PreTrainedModel

from plumbing.cuda_graph import WORKSPACES
from plumbing.group_cache import Size

CPU_SLOTS = 64
MOST_SLOTS = 1024
PREFILL_TOKENS = 2**16  # prompt tokens in one forward pass
WAVES = 4  # places / prompts that fill the slots once; a slow prompt keeps its place a long time
SHARE_OF_FREE_MEMORY = 0.5  # the rest is for the update and for what a forward pass needs
LOGIT_BYTES = 12  # per id of the vocabulary and slot: logits, and their weights in float32


@dataclass(frozen=True)
class Rule:
    """What differs between devices: on a GPU, unlike a CPU, each shape costs a CUDA graph."""

    refill_every: int = 1  # decode steps between refills; each one makes the host wait for a GPU
    block: int = 1  # completions are read in widths that are multiples of this
    prompt_block: int = 1  # the same for prompts
    fewest: int = 1  # slots that are kept until the end, as fewer are not faster
    fixed: bool = False  # whether slots and places are powers of two, and only halved

    def slots(self, rows: int, waiting: int) -> int:
        """Return how many slots to begin with."""
        return min(rows, power_of_two(waiting)) if self.fixed else min(rows, waiting)

    def slots_after(self, live: int, slots: int) -> int:
        """Return how many slots to continue with, now that only `live` are needed."""
        if not self.fixed:
            return live if live <= 0.75 * slots else slots
        while live <= slots // 2 and slots // 2 >= self.fewest:
            slots = slots // 2
        return slots

    def places(self, slots: int, group: int, prompts: int) -> int:
        """Return M for these slots and the prompts of a batch."""
        places = number_of_places(slots, group, prompts)
        return min(slots, power_of_two(places)) if self.fixed else places


RULES = {"cuda": Rule(refill_every=8, block=128, prompt_block=512, fewest=32, fixed=True)}
EXACT = Rule()


def power_of_two(count: int) -> int:
    """Round `count` up to a power of two.

    >>> power_of_two(5), power_of_two(8)
    (8, 8)
    """
    return 1 << (count - 1).bit_length()


def rule_of(device: torch.device) -> Rule:
    """Return the rule for this device."""
    return RULES.get(device.type, EXACT)


def number_of_slots(
    model: PreTrainedModel,
    prompts: list[list[int]],
    group: int,
    new_tokens: int,
    rows: int | str,
) -> int:
    """Return S.  A number is taken as it is; "auto" is 64, or on a GPU what free memory allows:

        S = largest power of two, at most 1024, with  S * bytes <= free / 2
        bytes = 2 L K D b (T + min(4 / G, 1) P) + 12 V

    for L layers of K key/value heads of size D, b bytes per number, T new tokens, P tokens of the
    longest prompt, G completions per prompt and V ids.
    """
    if rows != "auto":
        return int(rows)
    if model.device.type != "cuda" or not prompts:
        return CPU_SLOTS
    free = torch.cuda.mem_get_info(model.device)[0]
    free += torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
    free += WORKSPACES.bytes()  # a larger one replaces them
    longest = max(map(len, prompts))
    return slots_that_fit(free, bytes_per_slot(model, longest, group, new_tokens))


def bytes_per_slot(model: PreTrainedModel, longest: int, group: int, new_tokens: int) -> float:
    """Return what one slot takes with its part of the prompts; the formula of `number_of_slots`."""
    config = model.config.get_text_config()
    token = 2 * config.num_hidden_layers * key_value_width(config) * model.dtype.itemsize
    tokens = new_tokens + min(WAVES / group, 1) * longest
    return token * tokens + LOGIT_BYTES * config.vocab_size


def key_value_width(config: PretrainedConfig) -> int:
    """Return K * D, the numbers in a layer's keys of one token; its values take as many."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None)
    head_size = head_size or config.hidden_size // config.num_attention_heads
    return heads * head_size


def slots_that_fit(free: int, per_slot: float) -> int:
    """Return the largest power of two that fits, from 1 to 1024.

    >>> slots_that_fit(free=20 * 2**30, per_slot=20 * 2**20)
    512
    """
    slots = MOST_SLOTS
    while slots > 1 and slots * per_slot > SHARE_OF_FREE_MEMORY * free:
        slots //= 2
    return slots


def number_of_places(slots: int, group: int, prompts: int) -> int:
    """Return M: enough that slots seldom wait for a place; on a CPU it can exceed the slots.

    >>> number_of_places(slots=64, group=8, prompts=1000)
    32
    """
    wave = -(-slots // group)
    return min(prompts, WAVES * wave, slots + wave)


class Ledger:
    """Which completion is in which slot, and which prompt in which place.

    `waiting` are numbers of completions, those of one prompt together.
    """

    def __init__(self, waiting: list[int], group: int, slots: int, places: int) -> None:
        self.group = group
        self.waiting = deque(waiting)
        self.unread = deque(dict.fromkeys(c // group for c in waiting))  # prompts to prefill
        self.unfinished = dict.fromkeys(self.unread, 0)  # prompt -> completions that have not ended
        for c in waiting:
            self.unfinished[c // group] += 1
        self.holds: list[int | None] = [None] * slots  # slot -> number of its completion
        self.places = places
        self.place_of: dict[int, int] = {}  # prompt -> its place
        self.ended: list[int] = []  # numbers of completions

    def free(self, alive: list[bool]) -> None:
        """Free the slots of completions that have ended, and the places that nobody needs."""
        for slot, completion in enumerate(self.holds):
            if completion is None or alive[slot]:
                continue
            self.holds[slot] = None
            self.ended.append(completion)
            prompt = completion // self.group
            self.unfinished[prompt] -= 1
            if self.unfinished[prompt] == 0:
                del self.place_of[prompt]

    def next_prompts(self, limit: int) -> list[tuple[int, int]]:
        """Give places to the next prompts, if the first of them has none: (prompt, place) pairs."""
        if not self.waiting or self.waiting[0] // self.group in self.place_of:
            return []
        taken = set(self.place_of.values())
        free = [place for place in range(self.places) if place not in taken]
        pairs = list(zip(list(self.unread)[:limit], free))
        for prompt, place in pairs:
            self.unread.popleft()
            self.place_of[prompt] = place
        return pairs

    def fill(self) -> list[tuple[int, int]]:
        """Give free slots to waiting completions whose prompt has a place: (slot, number) pairs."""
        filled = []
        for slot, completion in enumerate(self.holds):
            if completion is not None:
                continue
            if not self.waiting or self.waiting[0] // self.group not in self.place_of:
                break
            self.holds[slot] = self.waiting.popleft()
            filled.append((slot, self.holds[slot]))
        return filled

    def live(self) -> list[int]:
        """Return the slots that hold a completion."""
        return [slot for slot, completion in enumerate(self.holds) if completion is not None]

    def place_of_slots(self) -> list[int | None]:
        """Return the place that each slot continues, None for a free slot."""
        prompts = [None if c is None else c // self.group for c in self.holds]
        return [None if prompt is None else self.place_of[prompt] for prompt in prompts]

    def shrink(self, slots: int, places: int) -> tuple[list[int], list[int]]:
        """Continue with this many slots and places; return which old ones they are, in order."""
        kept_slots = self.live()
        kept_slots += [slot for slot, c in enumerate(self.holds) if c is None]
        kept_slots = kept_slots[:slots]
        taken = sorted(self.place_of.values())
        kept_places = taken + [place for place in range(self.places) if place not in taken]
        kept_places = kept_places[:places]
        self.holds = [self.holds[slot] for slot in kept_slots]
        self.place_of = {n: kept_places.index(place) for n, place in self.place_of.items()}
        self.places = places
        return kept_slots, kept_places


def size_in_use(rule: Rule, ledger: Ledger, room: Size, width_of: dict[int, int]) -> Size:
    """Return the part of the cache that the next steps read; `width_of` maps prompts to columns."""
    if rule.fixed:
        return Size(len(ledger.holds), ledger.places, room.lanes, room.prompt_width)
    used = ledger.place_of
    return Size(
        slots=len(ledger.holds),
        places=max(used.values(), default=0) + 1,
        lanes=0,  # as many as the fullest place has
        prompt_width=max((width_of[prompt] for prompt in used), default=1),
    )


def fewer(slots: int) -> int:
    """Return half the slots, as they did not fit into memory; raise if there was only one."""
    if slots <= 1:
        raise torch.OutOfMemoryError("not even one completion at a time fits into memory")
    print(f"short of memory: {slots // 2} completions at a time from here on")
    return slots // 2
