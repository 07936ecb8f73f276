"""A decode step of our own for the Llama family: the same mathematics in fewer operators.

A step of the models in transformers takes about forty operators per layer.  For Llama, Qwen2,
Qwen3 and Mistral (SmolLM is a Llama) this file needs eighteen (Qwen3: twenty), with

    one product for queries, keys and values, and one for the MLP's gate and up projection;
    rotary positions as one complex product, in place;
    the sum with the residual inside the product before it.

The fused weights are copies; `fused_step` brings them up to date, in place, for each rollout.  The
two numbers that a rotation turns are neighbours here, but D / 2 apart in transformers.  So the rows
of the fused weights are reordered, and so are the keys of the prompts in the cache.

Letters in shapes: S slots, E hidden size, H heads, K key/value heads, h = H / K, D head size, I MLP
size.  The order of a head of six:

    >>> neighbours(6).tolist()
    [0, 3, 1, 4, 2, 5]
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from plumbing.group_cache import GroupCache

FAMILIES = ("LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "MistralForCausalLM")

_steps: WeakKeyDictionary = WeakKeyDictionary()  # model -> its FusedStep


def neighbours(head_size: int) -> Tensor:
    """Return the order that puts numbers D / 2 apart side by side, (D,)."""
    return torch.arange(head_size).view(2, -1).T.flatten()


def supports(model: PreTrainedModel) -> bool:
    """Return whether this file computes what the model does."""
    if type(model).__name__ not in FAMILIES:
        return False
    layer = model.model.layers[0]
    plain = all(type(m) is nn.Linear for m in (layer.self_attn.q_proj, layer.mlp.gate_proj))
    return plain and model.config.hidden_act == "silu"


def fused_step(model: PreTrainedModel) -> "FusedStep | None":
    """Return the fused step of this model with its current weights, or None if there is none."""
    if not supports(model):
        return None
    if model not in _steps:
        _steps[model] = FusedStep()
    _steps[model].refresh(model)
    return _steps[model]


@dataclass
class Layer:
    """The weights of one layer; those that are not fused are the model's own."""

    norm: Tensor  # (E,)
    qkv: Tensor  # ((H + 2 K) D, E)
    qkv_bias: Tensor | None
    qk_norm: Tensor | None  # (H + K, D), Qwen3
    out: nn.Linear
    mlp_norm: Tensor
    gate_up: Tensor  # (2 I, E)
    gate_up_bias: Tensor | None
    down: nn.Linear


class FusedStep:
    """The step, with the fused weights of one model.  It holds the weights, but not the model."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.fused: dict[tuple, Tensor] = {}  # (layer, name) -> weights at a fixed address

    @torch.inference_mode()
    def refresh(self, model: PreTrainedModel) -> None:
        """Copy the model's weights into the fused ones."""
        config = model.config
        self.eps = config.rms_norm_eps
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.head_size = model.model.layers[0].self_attn.head_dim
        self.order = neighbours(self.head_size).to(model.device)
        self.embedding = model.model.embed_tokens.weight
        self.rotary = model.model.rotary_emb
        self.norm = model.model.norm.weight
        self.head = model.lm_head
        self.layers = [self._layer(i, layer) for i, layer in enumerate(model.model.layers)]

    def _layer(self, i: int, layer: nn.Module) -> Layer:
        attention, mlp = layer.self_attn, layer.mlp
        linears = [attention.q_proj, attention.k_proj, attention.v_proj]
        ordered = [True, True, False]  # values are not rotated
        gate_up = [mlp.gate_proj, mlp.up_proj]
        qk_norm = [None]  # only Qwen3 has these norms
        if hasattr(attention, "q_norm"):
            qk_norm = [attention.q_norm.weight.expand(self.heads, -1)]
            qk_norm += [attention.k_norm.weight.expand(self.kv_heads, -1)]
            qk_norm = [weight[:, self.order] for weight in qk_norm]
        return Layer(
            norm=layer.input_layernorm.weight,
            qkv=self._fuse((i, "qkv"), [linear.weight for linear in linears], ordered),
            qkv_bias=self._fuse((i, "qkv bias"), [linear.bias for linear in linears], ordered),
            qk_norm=self._fuse((i, "qk norm"), qk_norm),
            out=attention.o_proj,
            mlp_norm=layer.post_attention_layernorm.weight,
            gate_up=self._fuse((i, "gate up"), [linear.weight for linear in gate_up]),
            gate_up_bias=self._fuse((i, "gate up bias"), [linear.bias for linear in gate_up]),
            down=mlp.down_proj,
        )

    def _fuse(self, key: tuple, parts: list, ordered: list[bool] | None = None) -> Tensor | None:
        """Stack the parts into one tensor; write in place if one of that shape is kept."""
        if parts[0] is None:
            return None
        if ordered is not None:
            parts = [self._reorder(x) if o else x for x, o in zip(parts, ordered)]
        fused = torch.cat(parts)
        kept = self.fused.get(key)
        same = kept is not None and kept.shape == fused.shape and kept.dtype == fused.dtype
        if same and kept.device == fused.device:
            kept.copy_(fused)
        else:
            self.fused[key] = fused
        return self.fused[key]

    def _reorder(self, weight: Tensor) -> Tensor:
        heads = weight.unflatten(0, (-1, self.head_size))
        return heads[:, self.order].flatten(0, 1)

    def __call__(self, token: Tensor, position: Tensor, cache: GroupCache) -> Tensor:
        """Put one token per slot through the model: token, position (S, 1) -> logits (S, V)."""
        x = F.embedding(token[:, 0], self.embedding)  # (S, E)
        cos, sin = self.rotary(x[:, None].float(), position)  # (S, 1, D), both halves alike
        half = self.head_size // 2
        turn = torch.complex(cos[..., :half], sin[..., :half])  # (S, 1, D / 2)
        for i, layer in enumerate(self.layers):
            x = self.attention(i, layer, x, turn, cache)
            x = self.mlp(layer, x)
        return self.head(F.rms_norm(x, x.shape[-1:], self.norm, self.eps))

    def attention(self, i: int, layer: Layer, x: Tensor, turn: Tensor, cache: GroupCache) -> Tensor:
        """Return x (S, E) plus the attention output of layer i."""
        H, K, D = self.heads, self.kv_heads, self.head_size
        normed = F.rms_norm(x, x.shape[-1:], layer.norm, self.eps)
        qkv = F.linear(normed, layer.qkv, layer.qkv_bias).view(len(x), H + 2 * K, D)
        qk = qkv[:, : H + K]
        if layer.qk_norm is not None:
            torch.mul(F.rms_norm(qk, (D,), eps=self.eps), layer.qk_norm, out=qk)
        rotate(qk, turn)
        query = qkv[:, :H].unflatten(1, (K, -1))  # (S, K, h, D)
        out = cache.attend(i, query, qkv[:, H:], D**-0.5)
        return add_linear(x, out.reshape(len(x), -1), layer.out)

    def mlp(self, layer: Layer, x: Tensor) -> Tensor:
        """Return x (S, E) plus its MLP output."""
        normed = F.rms_norm(x, x.shape[-1:], layer.mlp_norm, self.eps)
        gate, up = F.linear(normed, layer.gate_up, layer.gate_up_bias).chunk(2, -1)  # (S, I)
        return add_linear(x, F.silu(gate) * up, layer.down)


def rotate(heads: Tensor, turn: Tensor) -> None:
    """Rotate neighbouring numbers, in place: heads (S, heads, D), turn (S, 1, D / 2), complex."""
    pairs = heads.unflatten(-1, (-1, 2))
    if heads.dtype == torch.float32:
        torch.view_as_complex(pairs).mul_(turn)
    else:  # complex numbers have no half precision
        turned = torch.view_as_complex(pairs.float()).mul_(turn)
        pairs.copy_(torch.view_as_real(turned))


def add_linear(residual: Tensor, x: Tensor, linear: nn.Linear) -> Tensor:
    """Return residual + linear(x), (S, E), in one operator where there is no bias."""
    out = torch.addmm(residual, x, linear.weight.T)
    return out if linear.bias is None else out.add_(linear.bias)
