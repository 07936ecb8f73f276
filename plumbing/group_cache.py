"""Keys and values of a batch whose rows share prompts, and attention over them.

The G completions of one prompt read the same prompt.  Its keys and values are stored once, in a
*place*; those of each completion's own tokens are stored in a *slot*.  A token attends to both
parts separately, and the two results are joined by their softmax denominators (shared-prefix
attention: Juravsky et al. 2024, "Hydragen"):

    out = lerp(out_prompt, out_own, sigmoid(lse_own - lse_prompt))      lse: log of the denominator

All queries on one prompt form one matrix product, so its keys are read once per step.  `lanes`
lists them: row m names the slots whose completions continue the prompt in place m.  Giving a
slot to another prompt changes only this list.

Letters in shapes: S slots, M places, W lanes per place, P prompt width, T new tokens, H heads,
K key/value heads, h = H / K, D head size.  Two groups of two completions, and one free slot:

    >>> lane_table([0, 0, 1, 1, None], places=2)
    ([[0, 1], [2, 3]], [(0, 0), (0, 1), (1, 0), (1, 1), (0, 0)])
"""

from dataclasses import astuple, dataclass, replace

import torch
from transformers import AttentionInterface

from errors import UnusableModel
from plumbing.attention import causal
from plumbing.padding import round_up

MOST_HEADS = 512  # upper bound of 2 K, the heads of keys and values in a layer
ALIGNED = 8  # CUDA's kernel takes head sizes and widths of a bias that are multiples of this
UNSUPPORTED = (
    "the hand-written sampler supports models whose every layer is plain attention (no short "
    "window, soft cap or sink), and this model has others: use --sampler hf"
)


def softmax_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return softmax attention (B, K, Q, D) and the log of its denominators (B, K, Q).

    query (B, K, Q, D); key and value (B, K, L, D); bias (B, L), added to scores.
    """
    bias = bias[:, None, None]
    if query.device.type == "cpu":  # one fused kernel, which reads each key once
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, attn_mask=bias, scale=scale
        )
    if query.device.type == "cuda" and query.shape[-1] % ALIGNED == 0:  # the same
        bias = bias.expand(*query.shape[:3], -1)
        out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, bias, compute_log_sumexp=True, scale=scale
        )
        return out, lse[..., : query.shape[2]]  # it comes in multiples of 32 queries
    scores = (query * scale @ key.mT).float()  # (B, K, Q, L)
    scores += bias
    peak = scores.amax(-1, keepdim=True)
    shares = scores.sub_(peak).exp_()
    total = shares.sum(-1, keepdim=True)
    out = (shares / total).to(value.dtype) @ value
    return out, (total.log() + peak)[..., 0]


def lane_table(
    place_of: list[int | None], places: int, width: int = 0
) -> tuple[list[list[int]], list[tuple[int, int]]]:
    """Return the slots of each place, and for each slot its place and lane.

    Rows are padded with slot 0 to `width` lanes, or to those of the fullest row if it has more; a
    free slot (None) reads what lane (0, 0) computed.
    """
    slots_of: list[list[int]] = [[] for _ in range(places)]
    lane_of = []
    for slot, place in enumerate(place_of):
        if place is None:
            lane_of.append((0, 0))
        else:
            lane_of.append((place, len(slots_of[place])))
            slots_of[place].append(slot)
    width = max(width, 1, *map(len, slots_of))
    lanes = [slots + [0] * (width - len(slots)) for slots in slots_of]
    return lanes, lane_of


@dataclass
class Size:
    """How much of the cache is in use; on a GPU each size has a CUDA graph of its own."""

    slots: int
    places: int
    lanes: int
    prompt_width: int
    own_width: int = 1

    def larger(self, other: "Size") -> "Size":
        """Return the size that holds both.

        >>> Size(4, 2, 1, 9).larger(Size(2, 3, 1, 9))
        Size(slots=4, places=3, lanes=1, prompt_width=9, own_width=1)
        """
        return Size(*map(max, astuple(self), astuple(other)))


class GroupCache:
    """Keys and values of M prompts, each stored once, and of the completions in S slots."""

    def __init__(
        self, size: Size, new_tokens: int, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self.room = size  # what is allocated; `size` is what is in use
        self.size = replace(size)
        self.new_tokens = new_tokens
        self.device = device
        self.prompts: dict[int, tuple] = {}  # layer -> keys and values, (M, K, P, D) each
        self.own: dict[int, torch.Tensor] = {}  # layer -> keys, then values, (S, 2 K, T, D)
        # Row numbers, at fixed addresses since a CUDA graph reads them.
        lanes = size.places * size.lanes
        self.slot_of_lane = torch.zeros(lanes, dtype=torch.long, device=device)
        self.place_of_slot = torch.zeros(size.slots, 1, dtype=torch.long, device=device)
        self.lane_of_slot = torch.zeros_like(self.place_of_slot)
        self.newest = torch.zeros(size.slots, dtype=torch.long, device=device)
        self.every = torch.arange(max(size.slots, MOST_HEADS), device=device)
        # Added to scores: 0 where a token is, -inf where none is (yet).
        like = {"device": device, "dtype": dtype}
        self.prompt_bias = torch.zeros(size.places, size.prompt_width, **like)
        columns = round_up(new_tokens, ALIGNED)
        self.own_bias = torch.full((size.slots, columns), -torch.inf, **like)
        self.order: torch.Tensor | None = None  # of the numbers of a key, if not the model's
        self.filling: torch.Tensor | None = None  # places of the prompts in a prefill
        self.filling_mask: torch.Tensor | None = None  # (B, P): which of their ids are tokens
        self.seen: set[int] = set()  # layers that this prefill has passed

    def reset(self, size: Size) -> None:
        """Forget every prompt and completion, and use this size; the memory stays."""
        self.size = replace(size)
        self.prompt_bias.zero_()
        self.own_bias.fill_(-torch.inf)

    def bytes(self) -> int:
        """Return the memory of all keys and values."""
        stored = list(self.own.values())
        for pair in self.prompts.values():
            stored += pair
        return sum(x.nbytes for x in stored)

    def begin_prefill(self, places: list[int], mask: torch.Tensor) -> None:
        """Let the next forward pass store these prompts; mask (B, P) is False at padding."""
        self.filling = torch.tensor(places, device=self.device)
        self.filling_mask = mask
        self.seen = set()
        self.prompt_bias[self.filling] = -torch.inf
        bias = torch.where(mask, 0.0, -torch.inf).to(self.prompt_bias.dtype)
        self.prompt_bias[self.filling, : mask.shape[1]] = bias

    def end_prefill(self, layers: int) -> None:
        """Raise UnusableModel if some layer did not attend through this cache."""
        self.filling = self.filling_mask = None
        if len(self.seen) < layers:
            raise UnusableModel(UNSUPPORTED)

    def prefill(
        self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Store prompts and attend within them.  q (B, H, P, D), k and v (B, K, P, D)."""
        if layer not in self.prompts:
            self._allocate(layer, k)
        self.seen.add(layer)
        width = k.shape[2]
        keys, values = self.prompts[layer]
        keys[self.filling, :, :width] = k if self.order is None else k[..., self.order]
        values[self.filling, :, :width] = v
        padding = (~self.filling_mask).sum(1)  # (B,)
        return causal(q, k, v, padding, scale).transpose(1, 2)  # (B, P, H, D)

    def _allocate(self, layer: int, k: torch.Tensor) -> None:
        heads, head_size = k.shape[1], k.shape[3]
        room = self.room
        prompt = (room.places, heads, room.prompt_width, head_size)
        own = (room.slots, 2 * heads, self.new_tokens, head_size)
        self.prompts[layer] = (k.new_zeros(prompt), k.new_zeros(prompt))
        self.own[layer] = k.new_zeros(own)

    def set_lanes(self, place_of: list[int | None], width: int = 0) -> None:
        """Set the place that each slot in use continues, with at least `width` lanes per place."""
        lanes, lane_of = lane_table(place_of, self.size.places, width)
        self.size.lanes = len(lanes[0])
        lanes, lane_of = (torch.tensor(x, device=self.device) for x in (lanes, lane_of))
        self.slot_of_lane[: lanes.numel()] = lanes.flatten()
        self.place_of_slot[: len(lane_of)] = lane_of[:, :1]
        self.lane_of_slot[: len(lane_of)] = lane_of[:, 1:]

    def clear(self, slots: torch.Tensor) -> None:
        """Forget the tokens of completions that were in these slots."""
        self.own_bias[slots] = -torch.inf

    def advance(self, newest: torch.Tensor, own_width: int) -> None:
        """Unmask one more token per slot, at its index `newest` (S,) in the completion."""
        self.size.own_width = own_width
        self.own_bias[: len(newest)].scatter_(1, newest[:, None], 0.0)
        self.newest[: len(newest)] = newest

    def decode(
        self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Store one token per slot; attend to it and to all before it.

        q (S, H, 1, D), k and v (S, K, 1, D) -> (S, 1, H, D).
        """
        S, K, _, D = k.shape
        out = self.attend(layer, q.reshape(S, K, -1, D), torch.cat([k, v], 1)[:, :, 0], scale)
        return out.reshape(S, 1, -1, D)

    def attend(
        self, layer: int, query: torch.Tensor, key_value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Do what `decode` does: query (S, K, h, D), key_value (S, 2 K, D) -> (S, K, h, D)."""
        own, own_lse = self._own(layer, query, key_value, scale)
        shared, shared_lse = self._shared(layer, query, scale)
        share = torch.sigmoid(own_lse - shared_lse)  # of the denominator, (S, K, h)
        # The result is laid out like `shared`: CUDA's kernel lays out `own` by query, then head.
        return torch.lerp(shared, own, share[..., None].to(own.dtype))

    def _own(
        self, layer: int, query: torch.Tensor, key_value: torch.Tensor, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store one token per slot; attend to those of the completions: (S, K, h, D), (S, K, h)."""
        size, K = self.size, query.shape[1]
        slot = self.every[: size.slots, None]  # (S, 1)
        both = self.every[None, : 2 * K]  # (1, 2 K)
        newest = self.newest[: size.slots, None]
        self.own[layer].index_put_((slot, both, newest), key_value)

        used = self.own[layer][: size.slots, :, : size.own_width]
        bias = self.own_bias[: size.slots, : size.own_width]
        return softmax_attention(query, used[:, :K], used[:, K:], bias, scale)

    def _shared(
        self, layer: int, query: torch.Tensor, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attend to the prompts, place by place: (S, K, h, D), (S, K, h)."""
        size, K = self.size, query.shape[1]
        keys, values = (x[: size.places, :, : size.prompt_width] for x in self.prompts[layer])
        bias = self.prompt_bias[: size.places, : size.prompt_width]
        lanes = self.slot_of_lane[: size.places * size.lanes].view(-1, 1, size.lanes)  # (M, 1, W)
        head = self.every[:K, None]  # (K, 1)
        by_place = query[lanes, head].flatten(2, 3)  # (M, K, W * h, D)
        out, lse = softmax_attention(by_place, keys, values, bias, scale)

        place, lane = self.place_of_slot[: size.slots], self.lane_of_slot[: size.slots]  # (S, 1)
        where = (place, head[:, 0], lane)
        out = out.unflatten(2, (size.lanes, -1))[where]
        return out, lse.unflatten(2, (size.lanes, -1))[where]

    def compact(self, slots: list[int], places: list[int]) -> None:
        """Move these slots and places to the front.  In place: addresses stay as they are."""
        slots, places = (torch.tensor(x, device=self.device) for x in (slots, places))
        pairs = [(x, slots) for x in self.own.values()]
        pairs += [(x, places) for kept in self.prompts.values() for x in kept]
        pairs += [(self.own_bias, slots), (self.prompt_bias, places)]
        for stored, kept in pairs:
            stored[: len(kept)] = stored[kept]


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
    """Compute attention for transformers; the forward pass hands `group_cache` on to each layer."""
    cache = group_cache
    if cache is None or softcap or s_aux is not None or value.shape != key.shape:
        raise UnusableModel(UNSUPPORTED)  # s_aux: attention sinks
    if sliding_window and sliding_window < cache.size.prompt_width + cache.new_tokens:
        raise UnusableModel(UNSUPPORTED)
    layer = module.layer_idx
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if cache.filling is None:
        return cache.decode(layer, query, key, value, scale), None
    if layer in cache.seen:  # a layer that attends twice
        raise UnusableModel(UNSUPPORTED)
    return cache.prefill(layer, query, key, value, scale), None


AttentionInterface.register("group_cache", _attention)
