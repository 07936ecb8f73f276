"""GRPO: rewards of a group -> advantages -> clipped loss -> one optimizer step.

Paper: Sec. 4 and Table 4.  GRPO itself: Shao et al. 2024 (DeepSeekMath), Eq. 3; dr_grpo: Liu et
al. 2025; dapo: Yu et al. 2025.

    A_i   = (r_i - mean(r)) / (std(r) + 1e-4)          over the G completions i of one prompt
    ratio = pi(token) / pi_old(token)                  pi: its probability, pi_old: when sampled
    loss  = - min(ratio * A, clip(ratio, 1 - eps, 1 + eps) * A) + beta * k3            a token
    k3    = pi_ref / pi - log(pi_ref / pi) - 1         estimates the KL to pi_ref, the phase's start

With one update a batch, as in the paper, pi_old is pi: the ratio's value is 1, its gradient that of
log pi.  Left out: GSPO and CISPO, without effect there; TRL's bnpo, which equals dapo here.
Our decisions:

  1. Log-probabilities are taken at the sampling temperature, in float32, end token included.
  2. A prompt runs through the model once, with gradient; its completions continue on its keys and
     values.  The plain way, prompt and completion in one row, has the same gradient; it is gone
     with `shared=False`, and where a model's cache does not allow the other.
  3. A group whose rewards are all equal has advantage 0.  Where beta is 0 its rows are skipped, but
     still count in the mean.

Shapes: N prompts, G completions a prompt, R rows, C completion width, E hidden size, V vocabulary.

    >>> advantages(torch.tensor([[0.0, 1.0]]), "none")
    tensor([[-0.5000,  0.5000]])
"""

import inspect
import math
from functools import partial

import torch
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from config import Config
from plumbing import distributed
from plumbing.padding import left_pad
from rollout import Rollout

EPS = 1e-4  # added to the standard deviation, as TRL does
CHUNK = 2**25  # elements of a chunk of logits, 128 MB in float32


def make_optimizer(weights, cfg):
    return torch.optim.AdamW(weights, cfg.lr, weight_decay=cfg.weight_decay, foreach=False)


def set_learning_rate(optimizer, cfg, step, steps):
    rate = cfg.lr * (1 - step / steps) if cfg.schedule == "linear" else cfg.lr
    for group in optimizer.param_groups:
        group["lr"] = rate


def advantages(rewards: torch.Tensor, scale: str = "group") -> torch.Tensor:
    """Rewards minus the group's mean, over std + 1e-4 of group or batch, or 1.  (N, G) -> (N, G)

    A completion that could not be scored (NaN; no reward here does that) has advantage 0.
    """
    rewards = rewards.double()  # in float32 the mean of eight times 1.9 is not 1.9
    scored = ~rewards.isnan()
    centred = (rewards - rewards.nanmean(1, keepdim=True)).where(scored, 0)  # (N, G)
    variance = centred.square().sum(1, keepdim=True) / (scored.sum(1, keepdim=True) - 1).clamp(1)
    divisor = {"group": variance.sqrt() + EPS, "batch": rewards[scored].std() + EPS, "none": 1.0}
    return (centred / divisor[scale]).float()  # GRPO


def token_logprobs(
    model: PreTrainedModel, rollouts: list[Rollout], temperature: float, shared: bool = True
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probability, entropy (nats, no gradient), completion mask of each token; all (R, C)."""
    device = model.device
    ids = pad_sequence([torch.tensor(r.completion, dtype=int) for r in rollouts], True).to(device)
    lengths = torch.tensor([len(r.completion) for r in rollouts], device=device)
    mask = torch.arange(ids.shape[1], device=device) < lengths[:, None]
    with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
        cache_name = _cache_name(model) if shared else ""
        hidden = (
            _hidden_shared(model, rollouts, ids, mask, cache_name)
            if cache_name
            else _hidden_plain(model, rollouts, ids, mask)
        )
    logps, entropies = _logps(model.get_output_embeddings(), hidden[mask], ids[mask], temperature)
    zeros = torch.zeros(mask.shape, device=device)
    return zeros.masked_scatter(mask, logps), zeros.masked_scatter(mask, entropies), mask


def _hidden_plain(model, rollouts, ids, mask) -> torch.Tensor:
    """(R, C, E): the hidden states that predict each completion token; one row each."""
    prompts, prompt_mask, _ = left_pad([r.prompt for r in rollouts], model.device)
    both = torch.cat([prompt_mask, mask], 1)
    hidden = model.base_model(
        input_ids=torch.cat([prompts, ids], 1),
        attention_mask=both,
        position_ids=(both.cumsum(1) - 1).clamp(min=0),
        use_cache=False,
    )
    return hidden.last_hidden_state[:, prompts.shape[1] - 1 : -1]


def _cache_name(model: PreTrainedModel) -> str:
    """What the forward calls its cache (that differs by version); "" if prompts cannot be shared:
    it takes no positions, remembers not only keys and values, checkpointing drops the cache, or
    sharded layers must run equally often in each process."""
    takes = inspect.signature(model.base_model.forward).parameters
    fit = "position_ids" in takes and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer)  # a subclass remembers more
        for layer in DynamicCache(config=model.config).layers
    )
    dropped = any(getattr(m, "gradient_checkpointing", False) for m in model.modules())
    names = [name for name in ("cache", "past_key_values") if name in takes]
    return names[0] if names and fit and not dropped and not distributed.is_sharded(model) else ""


def _hidden_shared(model, rollouts, ids, mask, cache_name: str) -> torch.Tensor:
    """The same, with each distinct prompt forwarded once."""
    place = {p: i for i, p in enumerate(dict.fromkeys(tuple(r.prompt) for r in rollouts))}
    of_row = torch.tensor([place[tuple(r.prompt)] for r in rollouts], device=model.device)
    prompts, prompt_mask, positions = left_pad(list(map(list, place)), model.device)
    cache = DynamicCache(config=model.config)
    forward = partial(model.base_model, use_cache=True, **{cache_name: cache})
    out = forward(input_ids=prompts, attention_mask=prompt_mask, position_ids=positions)
    first = out.last_hidden_state[of_row, -1:]  # (R, 1, E) predicts the first completion token
    if ids.shape[1] == 1:
        return first
    cache.batch_select_indices(of_row)  # the gradient flows back through the copies
    both = torch.cat([prompt_mask[of_row], mask], 1)[:, :-1]
    positions = (both.cumsum(1) - 1)[:, prompts.shape[1] :]
    rest = forward(input_ids=ids[:, :-1], attention_mask=both, position_ids=positions)
    return torch.cat([first, rest.last_hidden_state], 1)


def _logps(head, hidden: torch.Tensor, ids: torch.Tensor, temperature: float) -> tuple:
    """Of M tokens, (M, E), (M,): log-probabilities and entropies, (M,), a chunk at a time."""

    def of_chunk(hidden, ids):
        logps = (head(hidden).float() / temperature).log_softmax(-1)
        with torch.no_grad():
            entropy = -(logps.exp() * logps).sum(-1)
        return logps.gather(-1, ids[:, None])[:, 0], entropy

    size = max(1, CHUNK // head.weight.shape[0])
    if len(ids) <= size:
        return of_chunk(hidden, ids)
    parts = [
        checkpoint(of_chunk, h, i, use_reentrant=False)
        for h, i in zip(hidden.split(size), ids.split(size))
    ]
    return tuple(map(torch.cat, zip(*parts)))


def token_loss(
    logps: torch.Tensor,
    old: torch.Tensor,
    ref: torch.Tensor | None,
    advantage: torch.Tensor,
    cfg: Config,
) -> tuple[torch.Tensor, ...]:
    """Loss, KL and "was clipped" of each token; advantage (R,), all else (R, C)."""
    A = advantage[:, None]
    ratio = (logps - old).exp()
    clipped = ratio.clamp(1 - 0.2, 1 + 0.2)
    kl = torch.zeros_like(logps) if ref is None else (ref - logps).exp() - (ref - logps) - 1  # k3
    weight = ratio if False else 1.0
    loss = -torch.minimum(ratio * A, clipped * A) + cfg.beta * weight * kl  # GRPO
    return loss, kl.detach(), clipped * A < ratio * A


def reduce(
    per_token: torch.Tensor, mask: torch.Tensor, cfg: Config, rows: int, tokens: int
) -> torch.Tensor:
    """These rows' part of the batch's loss; it has `rows` rows, the kept ones `tokens` tokens."""
    per_row = (per_token * mask).sum(1)
    return {
        "grpo": (per_row / mask.sum(1).clamp(min=1)).sum() / rows,  # GRPO: mean of row means
        "dapo": per_row.sum() / tokens,  # mean of all tokens
        "dr_grpo": per_row.sum() / (rows * cfg.max_new_tokens),
    }[cfg.loss]  # a constant


def backward(
    model: PreTrainedModel,
    rollouts: list[Rollout],
    advantage: torch.Tensor,
    cfg: Config,
    reference: PreTrainedModel | None = None,
    old: dict[int, torch.Tensor] | None = None,
) -> tuple[dict, dict]:
    """Add the gradient of the batch's loss to the model, however it is split into micro-batches.

    advantage (R,).  `old`: row -> log-probabilities before the first update, (length,), or None.
    Returns the loss, and sums over the tokens that were used (kl, entropy, clipped, tokens); and
    `old` for a further update on these rollouts.
    """
    kept = [i for i, r in enumerate(rollouts) if r.completion and (r.finished or True)]
    rows, tokens = len(rollouts), sum(len(rollouts[i].completion) for i in kept)
    own, seen = distributed.own([r.prompt for r in rollouts]), {}  # all, where there is one process
    used = [i for i in kept if own[i] and (advantage[i] != 0 or cfg.beta)]
    sums = dict.fromkeys(["loss", "kl", "entropy", "clipped", "tokens"], 0.0)
    batches = [used[i : i + cfg.micro_batch] for i in range(0, len(used), cfg.micro_batch)]
    # Sharded layers need all processes: one that is done goes on with a row of no tokens.
    batches = distributed.in_step(model, batches, [rows])
    rollouts, advantage = [*rollouts, Rollout(rollouts[0].prompt, [], True)], pad(advantage, (0, 1))
    for chosen in batches:
        part, ref = [rollouts[i] for i in chosen], None
        logps, entropy, mask = token_logprobs(model, part, cfg.temperature)
        seen.update(
            {i: row[: len(r.completion)] for i, row, r in zip(chosen, logps.detach(), part)}
        )
        before = pad_sequence([(old or seen)[i] for i in chosen], True)
        if reference is not None:
            with torch.no_grad():
                ref = token_logprobs(reference, part, cfg.temperature)[0]
        per_token, kl, clipped = token_loss(logps, before, ref, advantage[chosen].to(logps), cfg)
        loss = reduce(per_token, mask, cfg, rows, tokens)
        loss.backward()
        for name, value in (
            ("loss", loss),
            ("kl", kl[mask]),
            ("entropy", entropy),
            ("clipped", clipped[mask]),
            ("tokens", mask),
        ):
            sums[name] += value.sum().item()
    return sums, old or seen  # the first update is measured against itself: ratio 1


def step(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    rollouts: list[Rollout],
    rewards: torch.Tensor,
    cfg: Config,
    reference: PreTrainedModel | None = None,
) -> dict[str, float]:
    """One GRPO step.  Rollouts are prompt-major, rewards (N, G).  Returns the metrics.

    Raises ValueError if there is a KL to pay (beta > 0), but no reference model.
    """
    if cfg.beta and reference is None:
        raise ValueError("beta > 0 needs a reference model")
    A, old = advantages(rewards, ("batch" if cfg.ablation == "batch-std" else "group")), None
    for _ in range(1):  # the first is on policy
        sums = None
        while sums is None:
            optimizer.zero_grad(set_to_none=True)
            try:
                sums, old = distributed.run_collective(
                    backward, model, rollouts, A.flatten(), cfg, reference, old
                )
            except torch.OutOfMemoryError:  # no split changes the sum, so a finer one will do
                if cfg.micro_batch == 1 or distributed.is_sharded(model):  # the others wait
                    raise
                cfg.micro_batch = min(cfg.micro_batch, len(rollouts)) // 2
                print(f"short of memory: --micro-batch is now {cfg.micro_batch}")
        sums = distributed.add_up(model, sums)
        norm = distributed.clip_grad_norm(model, cfg.max_grad_norm).item()
        if skipped := not math.isfinite(norm):  # such a step would spoil every weight
            break
        optimizer.step()  # GRPO
    tokens = max(sums["tokens"], 1.0)
    return {
        "reward": rewards.nanmean().item(),
        "loss": sums["loss"],
        "grad_norm": norm,
        "skipped": float(skipped),
        "entropy": sums["entropy"] / tokens,
        "kl": sums["kl"] / tokens,
        "clip_share": sums["clipped"] / tokens,
        "zero_advantage_groups": (A == 0).all(1).float().mean().item(),
        "truncated": sum(not r.finished for r in rollouts) / len(rollouts),
        "length": sum(len(r.completion) for r in rollouts) / len(rollouts),
    }


if __name__ == "__main__":
    from scripts.demos import demo

    demo("grpo") or print(__doc__)
