"""Our batched evaluation against one-by-one `generate`: the same cases, prompts and greedy answers.

    python perf/eval.py                         # tiny, 32 of its held-out tasks
    python perf/eval.py --model NAME --data benchmarks --cases 4      # of each benchmark

Both are timed from the cases to the texts.  `equal` counts the texts that are the same: where two
tokens are as likely as each other, rounding decides, and it differs with the shape of a batch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import measure
import torch

import eval
import solver
from evals import command
from generator import Task
from plumbing.player import Player

ROOT = measure.HERE.parent


def one_by_one(player: Player, cases: list[Task], new_tokens: int) -> dict[str, str]:
    """What people write first: a loop over the cases with `generate` in it."""
    texts = {}
    for case in cases:
        ids = torch.tensor([player.ids(solver.prompt(case))], device=player.model.device)
        out = player.sampling_model().generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=new_tokens,
            eos_token_id=player.eos_ids,
            pad_token_id=player.eos_ids[0],
        )
        new = out[0, ids.shape[1] :].tolist()
        texts[case.id] = player.tokenizer.decode(new[:-1] if new[-1] in player.eos_ids else new)
    return texts


def main() -> None:
    """Measure and report; see the head of this file."""
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("--model", default=str(ROOT / "tiny"))
    ap.add_argument("--data", default=str(ROOT / "tiny" / "heldout.jsonl"))
    ap.add_argument("--cases", type=int, default=32)
    ap.add_argument("--new-tokens", type=int, default=256)
    ap.add_argument("--repeats", type=int, default=3)
    a = ap.parse_args()
    player = Player(a.model, "cuda" if torch.cuda.is_available() else "cpu")
    cases = command.choose(command.load_cases(Path(a.data)), None, a.cases, 0)
    runs = {
        "ours": lambda: dict(eval.complete(player, cases, a.new_tokens)),
        "generate": lambda: one_by_one(player, cases, a.new_tokens),
    }
    texts = {name: run() for name, run in runs.items()}  # also warms up
    row = {
        "cases": len(cases),
        "equal": sum(texts["generate"][id] == text for id, text in texts["ours"].items()),
    }
    taken = measure.in_turns(runs, a.repeats)
    row |= {f"{name} {clock} s": t[clock] for clock in ("wall", "cpu") for name, t in taken.items()}
    row["wall ratio"] = taken["generate"]["wall"] / taken["ours"]["wall"]
    measure.report("eval", [row], model=Path(a.model).name, data=Path(a.data).name)


if __name__ == "__main__":
    main()
