"""Pick one id per row by inverse CDF, fast for a large vocabulary.

The plain way is in `rollout.pick`: softmax, cumulative sum, search.  Rare ids need that sum in
float64, and over 150,000 ids it costs more than some layers of a model.  This version sums twice
over fewer numbers: it finds the span of SPAN neighbouring ids first, then the id within the span.

    >>> logits = torch.tensor([[0.0, 0.0, 0.0, 0.0]])  # four ids, equally likely
    >>> [choose(logits, 1.0, torch.tensor([u])).item() for u in (0.1, 0.3, 0.6, 0.9)]
    [0, 1, 2, 3]
"""

import torch

SPAN = 128  # ids per span
BELOW_ONE = 1 - 1e-12  # keeps a place inside its span when rounding puts it on the upper edge


def choose(logits: torch.Tensor, temperature: float, uniform: torch.Tensor) -> torch.Tensor:
    """Return one id per row, (R, V) -> (R,): where `uniform` (R,) falls on the stacked shares.

    Temperature 0 is greedy.  Logits of NaN, from a damaged model, give the last id.
    """
    if temperature == 0:
        return logits.argmax(-1)
    rows, vocabulary = logits.shape
    weights = _weights(logits, temperature)  # (R, V / SPAN, SPAN)
    sums = weights.sum(-1).to(uniform.dtype)  # (R, V / SPAN)
    edges = sums.cumsum(-1)
    height = uniform[:, None] * edges[:, -1:]  # (R, 1)
    span = torch.searchsorted(edges, height, right=True)
    span = span.clamp(max=sums.shape[1] - 1)
    # How far into the span the height is, as a share of the span's sum.
    share = (height - edges.gather(1, span)) / sums.gather(1, span) + 1
    chosen = weights[torch.arange(rows, device=logits.device), span[:, 0]]  # (R, SPAN)
    inner_edges = chosen.to(uniform.dtype).cumsum(-1)
    inner_height = share.clamp(0, BELOW_ONE) * inner_edges[:, -1:]
    place = torch.searchsorted(inner_edges, inner_height, right=True)
    token = span * SPAN + place
    return token[:, 0].clamp(max=vocabulary - 1)


def _weights(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return exp(logit / temperature - the row's maximum) in spans, (R, V / SPAN, SPAN)."""
    rows, vocabulary = logits.shape
    spans = -(-vocabulary // SPAN)
    weights = logits.new_empty(rows, spans, SPAN, dtype=torch.float32)
    # In place, since there are R * V numbers, which is a lot.
    flat = weights.flatten(1)
    flat[:, vocabulary:] = 0  # ids that fill the last span
    real = flat[:, :vocabulary]
    real.copy_(logits)
    if temperature != 1:
        real.div_(temperature)
    real.sub_(real.amax(-1, keepdim=True))
    real.exp_()
    return weights
