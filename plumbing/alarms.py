"""What the numbers of a phase say about its health, in words."""

import math

LAST = 5  # steps whose mean stands for the end of a phase
PATIENCE = 10  # steps of a training phase before it raises alarms

BOUNDS = {  # logged number -> healthy minimum and maximum, what a value outside means
    "usable": (0.02, 1, "hardly any task is usable: name a larger --model or another prompt"),
    "copies": (0, 0.2, "the Generator copies its examples: keep --guards on, lower --lr"),
    "zero_advantage_groups": (0, 0.75, "most groups teach nothing: raise --group"),
    "top_task": (0, 0.05, "one task fills more than 5 % of the phase: raise --candidates"),
    "truncated": (0, 0.2, "completions hit the limit: raise --max-new-tokens or --answer-tokens"),
    "skipped": (0, 0, "a step had no finite gradient and was left out: lower --lr"),
    "duplicates": (0, 0.3, "the Generator repeats itself: keep --guards on"),
    "kl": (0, 1, "the policy is far from the phase's start: lower --lr or raise --beta"),
}
ENTROPY_LEFT = 1 / 3  # share of the first step's entropy below which an alarm is raised


def alarms(lines: list[dict]) -> dict[str, str]:
    """Return a sentence for each logged number that is unhealthy at the end of these lines.

    A training phase raises no alarm before it has logged PATIENCE steps.
    """
    found = {}
    if "entropy" in lines[-1] and len(lines) < PATIENCE:
        return found
    recent = recent_means(lines)
    for name, (low, high, meaning) in BOUNDS.items():
        value = recent.get(name, low)
        if value < low:
            found[name] = f"{name} {value:.2g} is below {low:g}: {meaning}"
        elif value > high:
            found[name] = f"{name} {value:.2g} is above {high:g}: {meaning}"
    if lines[-1].get("uncalled"):
        names = ", ".join(lines[-1]["uncalled"])
        found["uncalled"] = (
            f"no task calls {names}: raise --candidates or describe the tools better"
        )
    entropies = [line["entropy"] for line in lines if line.get("entropy", math.nan) > 0]
    if entropies and recent["entropy"] < ENTROPY_LEFT * entropies[0]:
        change = f"from {entropies[0]:.2g} to {recent['entropy']:.2g}"
        found["entropy"] = f"entropy fell {change}: completions are becoming alike; lower --lr"
    return found


def recent_means(lines: list[dict]) -> dict[str, float]:
    """Return the mean of each number over those of the last steps that have it, NaN if none has."""
    last = lines[-LAST:]
    result = {}
    for name, value in lines[-1].items():
        if isinstance(value, int | float):
            numbers = [line.get(name, math.nan) for line in last]
            known = [number for number in numbers if not math.isnan(number)]
            result[name] = sum(known) / len(known) if known else math.nan
    return result
