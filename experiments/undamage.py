"""Remove tiny's habit: train it further on texts without mistakes.

    python -m experiments.undamage                     # about ten minutes on one core
    python selfplay.py --model runs/bases/undamaged    # self-play from an undamaged base

tiny was able to do more before the last part of its training; see tiny/README.md.
"""

import argparse
import random
import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from plumbing.command import run_command
from plumbing.loading import ROOT
from tiny.make import ROWS, encode, save, text_batches, train, write

STEPS = 200
LR = 5e-4


def undamage(out: Path, seed: int) -> None:
    """Train tiny on STEPS batches of texts without mistakes and write the model."""
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "tiny")
    model = AutoModelForCausalLM.from_pretrained(ROOT / "tiny")
    rng = random.Random(seed)
    texts = [write(rng, noise=0.0, habit=0.0) for _ in range(STEPS * ROWS)]
    ids = [encode(tokenizer, *text) for text in texts]
    train(model, text_batches(ids, ROWS, tokenizer.pad_token_id, seed), STEPS, LR, STEPS)
    save(model, tokenizer, out)


def main(argv: list[str] | None = None) -> int:
    """Write the undamaged model."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("undamage", description=__doc__, formatter_class=raw)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bases" / "undamaged")
    parser.add_argument("--seed", type=int, default=100)
    a = parser.parse_args(argv)
    return run_command("undamage", lambda: undamage(a.out, a.seed))


if __name__ == "__main__":
    sys.exit(main())
