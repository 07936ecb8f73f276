"""GRPO: rewards of a group -> advantages -> clipped loss -> one optimizer step.

Paper: Sec. 4 and Table 4.  GRPO itself: Shao et al. 2024 (DeepSeekMath), Eq. 3; dr_grpo: Liu et
al. 2025; dapo: Yu et al. 2025.

    A_i   = (r_i - mean(r)) / (std(r) + EPS)           over the G completions i of one prompt
    ratio = pi(token) / pi_old(token)                  pi: its probability, pi_old: when sampled
    loss  = - min(ratio * A, clip(ratio, 1 - CLIP, 1 + CLIP) * A) + beta * k3        per token
    k3    = pi_ref / pi - log(pi_ref / pi) - 1         estimates the KL to pi_ref, the phase's start

The loss of a batch is the mean over its rows of the mean over a row's tokens (`reduce`).

Each batch is used for one update, as in the paper, so pi_old is pi: the ratio is 1 and nothing is
clipped.  The gradient of the ratio is then that of log pi, so a step makes tokens with A > 0 more
likely.  The advantages of a group sum to 0, so the loss itself stays near 0.  Our decisions:

  1. Log-probabilities are taken at the sampling temperature, in float32, end token included.
  2. A prompt runs through the model once, with gradient, and its completions continue on its keys
     and values (plumbing/shared_prefix.py).  The plain way, prompt and completion in one row, is
     `hidden_states` below; both have the same gradient.
  3. A group whose rewards are all equal has advantage 0.  Without a KL its rows are left out of
     the forward pass, but the mean over rows still counts them.

Shapes: N prompts, G completions per prompt, R rows, W row width (prompt and completion),
C completion width, M completion tokens, E hidden size, V vocabulary.

    >>> advantages(torch.tensor([[0.0, 1.0]]))
    tensor([[-0.7070,  0.7070]])
"""

import math
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from config import Config
from plumbing import distributed, model_check, shared_prefix
from plumbing.microbatch import in_chunks, make_room, micro_batches, retry_smaller
from plumbing.padding import right_pad
from plumbing.precision import autocast, training_model
from rollout import Rollout

EPS = 1e-4  # added to the standard deviation, as TRL does
CLIP = 0.2  # the ratio is clipped to 1 - CLIP and 1 + CLIP


def advantages(rewards: Tensor, scale: str = "group") -> Tensor:
    """Return the rewards minus the mean of their group, scaled, (N, G) -> (N, G).

    `scale` selects the divisor: the standard deviation of the group, of the batch, or "none".  A
    completion without a reward (NaN, which no reward of this project gives) is excluded from mean
    and deviation and has advantage 0.
    """
    rewards = rewards.double()  # in float32 the mean of eight rewards of 1.9 is not 1.9
    scored = ~rewards.isnan()
    mean = rewards.nanmean(1, keepdim=True)  # (N, 1)
    centred = (rewards - mean).where(scored, 0)  # (N, G)
    if scale == "group":
        squares = centred.square().sum(1, keepdim=True)
        count = scored.sum(1, keepdim=True)
        std = (squares / (count - 1).clamp(min=1)).sqrt()  # (N, 1), n - 1 as in torch.std
        A = centred / (std + EPS)  # GRPO
    elif scale == "batch":
        std = rewards[scored].std() if scored.sum() > 1 else 0.0  # a single reward has no deviation
        A = centred / (std + EPS)
    elif scale == "none":
        A = centred
    else:
        raise ValueError(f"scale {scale!r} is not group, batch or none")
    return A.float()


def token_logprobs(
    model: PreTrainedModel, rollouts: list[Rollout], temperature: float, shared: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Return log-probability, entropy (nats, no gradient) and mask of the tokens, all (R, C)."""
    ids, mask = right_pad([r.completion for r in rollouts], model.device)  # (R, C)
    with autocast(model):
        if shared and shared_prefix.supports(model, rollouts):
            hidden = shared_prefix.hidden_states(model, rollouts)
        else:
            hidden = hidden_states(model, rollouts)  # (M, E)
        head = model.get_output_embeddings()
        score_with = partial(score, head, temperature)
        vocabulary = head.weight.shape[0]
        logps, entropy = in_chunks(score_with, vocabulary, hidden, ids[mask])  # (M,)
    zeros = torch.zeros(mask.shape, device=model.device)
    return zeros.masked_scatter(mask, logps), zeros.masked_scatter(mask, entropy), mask


def hidden_states(model: PreTrainedModel, rollouts: list[Rollout]) -> Tensor:
    """Return the hidden states that predict the completion tokens, (M, E), row by row.

    Padding is on the right: attention is causal, so no real token reads it and no mask is needed.
    """
    ids, _ = right_pad([r.prompt + r.completion for r in rollouts], model.device)
    out = model.base_model(input_ids=ids, use_cache=False).last_hidden_state  # (R, W, E)
    hidden = []
    for row, r in zip(out, rollouts):
        first = len(r.prompt) - 1  # each token predicts the one after it
        last = first + len(r.completion)
        hidden.append(row[first:last])
    return torch.cat(hidden)


def score(
    head: torch.nn.Module, temperature: float, hidden: Tensor, ids: Tensor
) -> tuple[Tensor, Tensor]:
    """Return log-probability and entropy of M tokens, (M, E) and (M,) -> (M,) and (M,)."""
    logits = head(hidden).float() / temperature  # (M, V)
    logps = logits.log_softmax(-1)
    with torch.no_grad():
        entropy = -(logps.exp() * logps).sum(-1)
    return logps.gather(-1, ids[:, None])[:, 0], entropy


def token_loss(
    logps: Tensor,
    old: Tensor,
    ref: Tensor | None,
    advantage: Tensor,
    cfg: Config,
    clip_low: float = CLIP,
    clip_high: float = CLIP,
) -> tuple[Tensor, Tensor]:
    """Return loss and KL of each token.

    Log-probabilities under pi, pi_old and pi_ref (None: no KL), each (R, C); advantage (R,).
    """
    A = advantage[:, None]  # every token of a row has the row's advantage
    ratio = (logps - old).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    loss = -torch.minimum(ratio * A, clipped * A)  # GRPO
    if ref is None:
        return loss, torch.zeros_like(logps)
    kl = (ref - logps).exp() - (ref - logps) - 1  # k3
    return loss + cfg.beta * kl, kl.detach()


def reduce(per_token: Tensor, mask: Tensor, cfg: Config, rows: int, tokens: int) -> Tensor:
    """Return this micro-batch's share of the batch loss.

    The whole batch has `rows` rows and `tokens` completion tokens.
    """
    per_row = (per_token * mask).sum(1)  # (R,)
    if cfg.loss == "grpo":
        return (per_row / mask.sum(1).clamp(min=1)).sum() / rows  # GRPO: mean of row means
    if cfg.loss == "dapo":
        return per_row.sum() / tokens  # mean of all tokens
    if cfg.loss == "dr_grpo":
        return per_row.sum() / (rows * cfg.max_new_tokens)  # a constant divisor
    raise ValueError(f"loss {cfg.loss!r} is not grpo, dapo or dr_grpo")


def add_gradient(
    model: PreTrainedModel,
    rollouts: list[Rollout],
    advantage: Tensor,
    cfg: Config,
    reference: PreTrainedModel | None = None,
    micro_batch: int = 16,
) -> dict[str, float]:
    """Add the gradient of the batch loss to the model's gradients; advantage (R,).

    The result does not depend on `micro_batch`, the number of rows per forward pass.  Returns the
    loss, and sums over the tokens that were used: kl, entropy, tokens.  Raises UnusableModel if
    a batch changes the model's log-probabilities.
    """
    tokens = sum(len(r.completion) for r in rollouts)
    used = []
    for rollout, a in zip(rollouts, advantage.tolist()):
        if rollout.completion and (a != 0 or cfg.beta):
            used.append((rollout, a))
    sums = {"loss": 0.0, "kl": 0.0, "entropy": 0.0, "tokens": 0.0}
    policy = training_model(model)
    refuse_batch_effects(policy, rollouts)
    for batch in micro_batches(model, used, micro_batch, idle=rollouts[0].prompt):
        part = [rollout for rollout, _ in batch]
        A = torch.tensor([a for _, a in batch], device=model.device)
        ref = None
        logps, entropy, mask = token_logprobs(policy, part, cfg.temperature)
        if reference is not None:
            with torch.no_grad():
                ref, _, _ = token_logprobs(reference, part, cfg.temperature)
        per_token, kl = token_loss(logps, logps.detach(), ref, A, cfg)  # on policy: pi_old is pi
        loss = reduce(per_token, mask, cfg, len(rollouts), tokens)
        loss.backward()
        sums["loss"] += loss.detach()
        sums["kl"] += (kl * mask).sum()
        sums["entropy"] += entropy.sum()
        sums["tokens"] += mask.sum()
    return {name: float(value) for name, value in sums.items()}  # read once, at the end


def refuse_batch_effects(model: PreTrainedModel, rollouts: list[Rollout]) -> None:
    """Raise UnusableModel if a micro-batch changes the log-probabilities of a row.

    Sharded models are not checked.
    """
    if distributed.is_sharded(model):
        return

    def logprobs(prompts: list[list[int]], ids: Tensor) -> Tensor:
        rows = [Rollout(prompt, row, False) for prompt, row in zip(prompts, ids.tolist())]
        return token_logprobs(model, rows, 1.0)[0]

    text = rollouts[0].prompt
    longest = max(len(r.prompt) + len(r.completion) for r in rollouts)
    model_check.require(model, text, longest, "the update", logprobs)


def step(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    rollouts: list[Rollout],
    rewards: Tensor,
    cfg: Config,
    reference: PreTrainedModel | None = None,
) -> dict[str, float]:
    """Make one GRPO step and return its metrics.  Rollouts are prompt-major, rewards (N, G).

    Raises ValueError if beta > 0 but there is no reference model.
    """
    if cfg.beta and reference is None:
        raise ValueError("beta > 0 needs a reference model")
    A = advantages(rewards, "batch" if cfg.ablation == "batch-std" else "group")

    def gradient(micro_batch: int) -> dict[str, float]:
        optimizer.zero_grad(set_to_none=True)
        return add_gradient(model, rollouts, A.flatten(), cfg, reference, micro_batch)

    sums = retry_smaller(gradient, model, min(cfg.micro_batch, len(rollouts)))
    sums = distributed.add_up(model, sums)
    norm = distributed.clip_grad_norm(model, cfg.max_grad_norm).item()
    finite = math.isfinite(norm)
    if finite:  # otherwise the step would spoil every weight
        make_room(optimizer)
        optimizer.step()  # GRPO
    tokens = sums["tokens"] or math.nan  # NaN: every group was skipped
    no_signal = (A == 0).all(1)  # (N,)
    cut_off = [not r.finished for r in rollouts]
    lengths = [len(r.completion) for r in rollouts]
    return {
        "reward": rewards.nanmean().item(),
        "loss": sums["loss"],
        "grad_norm": norm,
        "skipped": float(not finite),
        "entropy": sums["entropy"] / tokens,
        "kl": sums["kl"] / tokens,
        "zero_advantage_groups": no_signal.float().mean().item(),
        "truncated": sum(cut_off) / len(rollouts),
        "length": sum(lengths) / len(rollouts),
    }


def make_optimizer(weights: list[torch.nn.Parameter], cfg: Config) -> torch.optim.Optimizer:
    """Return AdamW over these weights, with weight decay on all of them."""
    return torch.optim.AdamW(
        weights,
        cfg.lr,
        weight_decay=cfg.weight_decay,
        foreach=False,
        fused=weights[0].is_cuda and cfg.shard == "off",
    )


def learning_rate(cfg: Config, step: int, steps: int, iteration: int = 1) -> float:
    """Return the learning rate of a step, counted from 0, in an iteration, counted from 1.

    Within a phase it is constant or falls linearly towards 0.  With "harmonic" it is constant in a
    phase and divided by the iteration's number.

    >>> [learning_rate(Config(lr=1.0), step, steps=4) for step in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    if cfg.schedule == "linear":
        return cfg.lr * (1 - step / steps)
    if cfg.schedule == "harmonic":
        return cfg.lr / iteration
    return cfg.lr


def set_learning_rate(
    optimizer: torch.optim.Optimizer, cfg: Config, step: int, steps: int, iteration: int = 1
) -> None:
    """Set the learning rate for this step of `steps`."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(cfg, step, steps, iteration)
