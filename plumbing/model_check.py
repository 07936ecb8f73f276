"""Check that this model computes for a batch what it computes for each of its rows alone.

Three things make a model differ silently: rotary factors that change with the length of the
batch (LongRoPE, dynamic NTK), attention that is limited by a mask that the sampler does not see
(chunks), and recurrent layers that let padding run through their state.  No list of names can be
complete, so the check runs the model.  It puts a long and a short row into one batch, scores the
last tokens of each as the caller does, and compares with the plain forward pass of each row alone.
It does so at a length of a few tokens, just past each boundary that the configuration names, and
at the greatest length asked for.  What has passed is remembered per model.

The rows are pieces of a real prompt: after random ids, rounding to bfloat16 alone moves the
log-probabilities of a trained model by whole nats.

    >>> boundaries({"sliding_window": 8, "rope": {"original_max_position_embeddings": 16}}, 99)
    [8, 16]
"""

import inspect
import math
from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from errors import UnusableModel

NEW = 4  # tokens that are scored, half of them past the boundary
SHORT = 3  # tokens of the short prompt
FEW = SHORT + NEW + 1  # tokens of the shortest long row
TOLERANCE = {torch.float32: 0.01, torch.float64: 0.01}  # mean difference of log-probabilities, nats
TOLERANCE_OF_HALF = 2.0  # in bfloat16 and float16, where rounding alone gives about .1
LENGTH_WORDS = ("position", "window", "chunk")  # in the names of settings that are lengths

# Prompts (N of them) and the ids that follow, (N, NEW) -> log-probabilities of those ids, (N, NEW).
Score = Callable[[list[list[int]], Tensor], Tensor]

_passed: WeakKeyDictionary = WeakKeyDictionary()  # model -> {what: greatest length}


def require(
    model: PreTrainedModel,
    text: list[int],
    longest: int,
    what: str,
    score: Score,
    padded: bool = True,
    advice: str = "name a --model of another family",
) -> None:
    """Raise UnusableModel if `score` differs from the plain forward pass on rows of `longest` ids.

    `text` holds the ids of a prompt.  `what` names the caller in the message, such as "the
    update".  `padded`: rows of different lengths share a batch.
    """
    passed = _passed.setdefault(model, {})
    key = (what, padded)
    before = passed.get(key, 0)
    if longest <= before:
        return
    family = model.config.model_type
    tolerance = TOLERANCE.get(model.dtype, TOLERANCE_OF_HALF)
    if before == 0:
        found = difference(model, text, FEW, score, padded)
        if found > tolerance:
            raise UnusableModel(
                f"{what}: a {family} model computes different probabilities for a row in a batch "
                f"and for the row alone (by {found:.2g} nats): {advice}."
            )
    for length in lengths_to_check(model, before, longest):
        found = difference(model, text, length, score, padded)
        if found > tolerance:
            raise UnusableModel(
                f"{what}: a batch changes the probabilities that this {family} model computes "
                f"when a row has {length} tokens (by {found:.2g} nats; its attention or its rotary "
                f"factors depend on the length): lower --max-new-tokens, or {advice}."
            )
    passed[key] = longest


def lengths_to_check(model: PreTrainedModel, passed: int, longest: int) -> list[int]:
    """Return the lengths that have not passed: just past each boundary, and the greatest."""
    config = model.config.get_text_config().to_dict()
    past = [boundary + NEW // 2 for boundary in boundaries(config, longest)]
    lengths = {length for length in [*past, longest] if passed < length <= longest}
    return sorted(length for length in lengths if length > FEW)


def boundaries(config: dict, longest: int) -> list[int]:
    """Return the lengths below `longest` that a configuration names, at any depth."""
    found = set()
    for name, value in settings(config):
        is_length = any(word in name for word in LENGTH_WORDS) and type(value) is int
        if is_length and 0 < value < longest:
            found.add(value)
    return sorted(found)


def settings(config: dict) -> Iterator[tuple[str, object]]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from settings(value)
        else:
            yield str(name), value


@torch.no_grad()
def difference(
    model: PreTrainedModel, text: list[int], length: int, score: Score, padded: bool = True
) -> float:
    """Return by how much a batch changes the log-probabilities of a row of `length` ids.

    That is the mean over a row's tokens, taken for the row where it is larger; infinity for NaN.
    """
    widths = [length - NEW, SHORT] if padded else [length - NEW]
    repeated = text * math.ceil(length / len(text))
    prompts = [repeated[:width] for width in widths]
    ids = torch.tensor([repeated[:NEW]] * len(widths))  # not the next ids: copying predicts those
    alone = torch.stack([plain_score(model, *row) for row in zip(prompts, ids)])
    together = score(prompts, ids.to(model.device))
    changes = (together.float() - alone).abs().mean(1)
    return changes.nan_to_num(nan=math.inf).max().item()


def arguments(model: torch.nn.Module) -> list[str]:
    """Return the names that the forward pass of a model, or of its base model, takes."""
    return list(inspect.signature(model.forward).parameters)


def plain_score(model: PreTrainedModel, prompt: list[int], ids: Tensor) -> Tensor:
    """Return the log-probabilities of `ids` (NEW,) after a prompt, by one plain forward pass."""
    training = model.training
    model.eval()
    row = torch.tensor([prompt + ids.tolist()], device=model.device)
    last = len(ids) + 1  # a row's logits can take a gigabyte, so only these, where possible
    limit = {"logits_to_keep": last} if "logits_to_keep" in arguments(model) else {}
    logits = model(input_ids=row, use_cache=False, **limit).logits[0, -last:-1]
    model.train(training)
    logps = logits.float().log_softmax(-1)
    return logps.gather(1, ids[:, None].to(model.device))[:, 0]
