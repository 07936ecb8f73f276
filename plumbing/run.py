"""A run: its folder, its log, its seeds, and what happens around the algorithm.

    runs/NAME/config.json  log.jsonl  report.txt  report.png  lock
    runs/NAME/iter1/generator/  solver/  candidates.jsonl  tasks.jsonl  heldout.json
    runs/NAME/iter1/solver.steps/000010-4f0c....safetensors      # while the phase is not finished

Each result is written whole (plumbing/runfolder.py), and each step and each piece of work has a
seed of its own.  So a run that was stopped at any point continues with the same command, and on a
CPU ends in the same weights.  The first Ctrl-C stops at the next safe point, a second one at once.
"""

import json
import signal
import sys
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

from config import Config
from errors import NothingToLearn, UnusableModel, first_line, is_out_of_memory
from plumbing import distributed
from plumbing.alarms import alarms
from plumbing.checkpoint import load_step, save_step
from plumbing.cuda_graph import WORKSPACES
from plumbing.intervals import describe, describe_mean
from plumbing.player import Player
from plumbing.runfolder import (
    append,
    in_pieces,
    read_jsonl,
    remove,
    write_jsonl,
    write_whole,
)

BAD_STEPS = 5  # steps in a row without a finite gradient that stop the run
QUICK = 1.0  # seconds: a checkpoint that takes no longer is never put off
PATIENCE = 20  # a slow one waits until this many times the last save's duration has passed


class Run:
    """The state of one run outside the algorithm.  `make_player` loads a checkpoint."""

    def __init__(
        self,
        cfg: Config,
        folder: Path,
        make_player: Callable[..., Player] = Player,
        date: str = "",
    ) -> None:
        self.cfg = cfg
        self.date = date  # what chat templates take for today
        self.folder = folder
        self.make_player = make_player
        self.trackers: list[Callable[[dict], None]] = []  # each gets every line of the log
        self.phase = "start"  # for messages
        self.where = {"iteration": 0, "phase": ""}
        self.step = 0
        self.began = 0.0
        self.seconds: dict[str, float] = defaultdict(float)  # since the last line of the log
        self.lines: list[dict] = []  # of this phase
        self.alarmed: set[str] = set()
        self.bar: tqdm | None = None
        self.shown: tuple[str, ...] = ()  # numbers beside the bar
        self.stopping = False
        self.last_save = 0.0  # when it ended
        self.save_seconds = 0.0  # how long it took

    # -- files ---------------------------------------------------------------------------------

    def path(self, k: int, name: str) -> Path:
        """Return the path of a file, or of a player's folder, of iteration k."""
        return self.folder / f"iter{k}" / name

    def load(self, name: str, frozen: bool = True) -> Player:
        """Load a player from a checkpoint's path or a model's name."""
        cfg = self.cfg
        return self.make_player(
            name, cfg.device, cfg.sampler, frozen=frozen, rows=cfg.rows, date=self.date
        )

    def write_lines(self, k: int, name: str, items: list[dict]) -> None:
        """Write a JSONL file of iteration k."""
        write_jsonl(self.path(k, name), items)

    def seed(self, k: int, what: str) -> int:
        """Return a seed that does not depend on what else ran in the process."""
        return zlib.crc32(f"{self.cfg.seed}/{k}/{what}".encode())

    def in_pieces(self, k: int, name: str, items: list, size: int, work: Callable) -> list:
        """Return work(n, piece) of all pieces, joined; finished pieces survive an interruption."""

        def interruptible(n: int, piece: list) -> list:
            self.leave_if_asked()
            return work(n, piece)

        path = self.path(k, f"{name}.part.jsonl")
        return in_pieces(path, items, size, interruptible, f"{self.phase}: {name}")

    # -- phases --------------------------------------------------------------------------------

    def begin(self, k: int, phase: str) -> None:
        """Start the log of a phase."""
        self.phase = f"iteration {k} {phase}" if k else f"base model {phase}"
        self.where = {"iteration": k, "phase": phase}
        self.step = 0
        self.began = time.time()
        self.lines = []
        self.alarmed = set()

    def steps(
        self, count: int, model: torch.nn.Module, optimizer: torch.optim.Optimizer, shown: tuple
    ) -> Iterator[int]:
        """Yield the remaining steps of a training phase; save, show and stop between them."""
        saved = self._saved()
        first = load_step(saved, model, optimizer)
        self._drop_lines_from(first)
        self.bar = tqdm(
            range(first, count), self.phase, count, initial=first, leave=False, dynamic_ncols=True
        )
        self.shown = shown
        bad = 0
        for step in self.bar:
            self.step = step
            yield step
            bad = bad + 1 if self.lines[-1]["skipped"] else 0
            stop = self.stopping or bad == BAD_STEPS
            if stop or self._save_is_due(step):
                self._save(saved, step + 1, model, optimizer)
            if bad == BAD_STEPS:
                raise NothingToLearn(
                    f"{self.phase}: {bad} steps in a row had no finite gradient. Lower --lr and "
                    f"continue with --set-changed: this restarts the phase and deletes {saved}."
                )
            self.leave_if_asked()
        self.bar = None
        if all(line["zero_advantage_groups"] == 1 for line in self.lines):
            raise NothingToLearn(
                f"{self.phase}: in each of the {count} steps all rewards within each group were "
                "equal, so nothing was learned. Raise --group and continue with "
                "--set-changed, or name another --model."
            )

    def record(self, values: dict) -> None:
        """Append a line to the log and show it; print each kind of alarm once per phase."""
        timed = {f"seconds_{name}": round(s, 2) for name, s in self.seconds.items()}
        line = {**self.where, "step": self.step, "seconds": round(time.time() - self.began, 1)}
        line |= values | timed | {"captures": WORKSPACES.captures}
        append(self.folder / "log.jsonl", line)
        self.lines.append(line)
        for tell in self.trackers:
            tell(line)
        if self.bar is not None:
            self.bar.set_postfix({name: f"{values[name]:.2f}" for name in self.shown})
            if self.step == 0 and timed:
                parts = ", ".join(f"{name} {s:.1f} s" for name, s in self.seconds.items())
                tqdm.write(f"{self.phase}: the first step took: {parts}")
        self.seconds.clear()
        for name, sentence in alarms(self.lines).items():
            if name not in self.alarmed:
                self.alarmed.add(name)
                tqdm.write(f"! {self.phase}, step {self.step}: {sentence}")

    def record_curation(self, funnel: dict[str, int], rates: list[float], values: dict) -> None:
        """Log and print where the candidates of an iteration ended up."""
        self._drop_lines_from(0)
        count = sum(funnel.values())
        self.record(
            {
                "candidates": count,
                "funnel": funnel,
                "selected": funnel.get("selected", 0),
                "duplicates": funnel.get("duplicate", 0) / count,
                **values,
                "rates": dict(sorted(Counter(rates).items())),
            }
        )
        print(f"{self.phase}: " + ", ".join(f"{n} {why}" for why, n in funnel.items()))

    def record_evaluation(self, k: int, verdicts: dict[str, list]) -> None:
        """Write and print the verdicts on the held-out tasks: benchmark -> [task id, right]."""
        answers = []
        for name, pairs in verdicts.items():
            right = [ok for _, ok in pairs]
            answers.append(right)
            print(f"{self.phase}: {name}, exact match {describe(right)}")
        if len(answers) > 1:
            print(f"{self.phase}: mean of {len(answers)} {describe_mean(answers)}")
        write_whole(self.path(k, "heldout.json"), json.dumps(verdicts))

    def finish(self, k: int, phase: str) -> None:
        """Remove what only an unfinished phase needs."""
        remove(self.path(k, f"{phase}.steps"))
        if phase == "curate":
            remove(*self.folder.glob(f"iter{k}/*.part.jsonl"))

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        """Add the time that the block takes to the next line of the log."""
        began = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - began

    # -- stopping ------------------------------------------------------------------------------

    def catch_interrupts(self) -> None:
        """Stop at the next safe point after one Ctrl-C, and at once after a second."""
        if distributed.size == 1:  # several processes could not agree on when to stop
            signal.signal(signal.SIGINT, self._interrupt)

    def leave_if_asked(self) -> None:
        """Stop here if Ctrl-C asked for it.  Call only where progress is saved or cheap to redo."""
        if self.stopping:
            raise KeyboardInterrupt

    def _interrupt(self, *_) -> None:
        self.stopping = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("\nstopping at the next safe point; Ctrl-C again stops at once", file=sys.stderr)

    def _save_is_due(self, step: int) -> bool:
        """Return whether to save after this step: every few steps, but large models less often.

        So saving takes at most about a twentieth of the time.  The first process decides for all.
        """
        if (step + 1) % self.cfg.save_every:
            return False
        passed = time.monotonic() - self.last_save
        due = self.save_seconds <= QUICK or passed >= PATIENCE * self.save_seconds
        return distributed.gather([due])[0]

    def _save(
        self, folder: Path, steps: int, model: torch.nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        """Save the state after this many steps, and remember how long that took."""
        began = time.monotonic()
        save_step(folder, steps, model, optimizer)
        self.last_save = time.monotonic()
        self.save_seconds = self.last_save - began

    def _saved(self) -> Path:
        return self.path(self.where["iteration"], f"{self.where['phase']}.steps")

    def _drop_lines_from(self, first: int) -> None:
        """Drop what an earlier attempt at this phase logged from step `first` on; read the rest."""
        path = self.folder / "log.jsonl"
        kept = []
        for line in read_jsonl(path, torn=True):
            mine = self.where.items() <= line.items()
            if mine and line["step"] >= first:
                continue
            kept.append(line)
            if mine:
                self.lines.append(line)
        write_jsonl(path, kept)


@contextmanager
def enough_memory(run: Run) -> Iterator[None]:
    """Replace an out-of-memory error with one that names `run.phase` and says how to need less."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        why = first_line(error) if str(error) else "no memory is left"
        raise UnusableModel(
            f"{run.phase}: out of memory ({why}). Lower --micro-batch, then --rows; use --beta 0 "
            "(no reference model), then --checkpointing on; or lower --max-new-tokens or --group. "
            "Continue with --set-changed, or name a smaller --model."
        ) from None
