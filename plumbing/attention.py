"""Causal attention within left-padded prompts, without a mask.

A mask takes P x P numbers per prompt, and on a GPU it sends grouped-query attention to a kernel
that takes H x P x P.  So the padding is rotated to the end of each row.  There no real token reads
it, and every query has something to attend to, so plain causal attention needs no mask.

cuDNN's kernel is switched off for the whole process.  torch prefers it on some GPUs, but it plans
anew for every shape, and its backward pass gives NaN for some widths (pytorch/pytorch#196678).

Shapes: N prompts, P prompt width, H heads, K key/value heads, D head size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

torch.backends.cuda.enable_cudnn_sdp(False)


def causal(query: Tensor, key: Tensor, value: Tensor, padding: Tensor, scale: float) -> Tensor:
    """Return attention within each prompt, (N, H, P, D); the values at padding are meaningless.

    query (N, H, P, D), key and value (N, K, P, D), padding (N,): tokens of padding on the left.
    """
    padding = padding[:, None]
    out = F.scaled_dot_product_attention(
        rotate(query, padding),
        rotate(key, padding),
        rotate(value, padding),
        is_causal=True,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return rotate(out, -padding)


def rotate(x: Tensor, places: Tensor) -> Tensor:
    """Rotate each row of (N, H, P, D) to the left along P, by `places` (N, 1)."""
    width = x.shape[2]
    columns = torch.arange(width, device=x.device)
    source = (columns + places) % width  # (N, P)
    rows = torch.arange(len(x), device=x.device)[:, None]
    return x.transpose(1, 2)[rows, source].transpose(1, 2)  # copies all heads of a token at once
