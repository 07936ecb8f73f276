"""The command `python selfplay.py`: options, the run folder, and how a run ends.

Options are made from `selfplay.Config`.  A run folder that holds a run of other options (but
--save-every) is refused, unless --set-changed is given.  Exit code 2: bad input or no room; 3: a
phase had nothing to work on; 130: Ctrl-C.
"""

import argparse
import json
import platform
import sys
import zlib
from contextlib import nullcontext
from dataclasses import asdict, fields
from pathlib import Path

import torch
import transformers

import eval
import selfplay
from errors import EmptyPhase, Malformed, UnusableModel
from plumbing import distributed
from plumbing.player import ROOT
from plumbing.runfolder import Log, locked, remove, write_whole
from plumbing.trackers import tensorboard, tracker, wandb
from selfplay import SMOKE, TINY, Config

TRACKERS = (tensorboard, wandb)
LEAST = {
    "seed": 0,
    "generator_steps": 0,
    "group": 2,
    "select": 5,
    "temperature": 0.01,
    "probe_temperature": 0.01,
}
MOST = {"tau": 1, "p_large_menu": 1, "clip_low": 1}
ALL_ROWS = 10**9  # more than any batch has
MAY_CHANGE = {"save_every"}  # leaves a run the same run; micro_batch changes its last digits
AFTER_SAMPLING = {"tau", "select", "order", "heldout", "eval_tasks"}  # candidates can be kept


def flag(name: str) -> str:
    """The option of a field of Config.

    >>> flag("save_every")
    '--save-every'
    """
    return "--" + name.replace("_", "-")


def rows(text: str) -> int:
    """A number of rows, or "auto": as many as there are, until memory is short."""
    return ALL_ROWS if text == "auto" else int(text)


def parse_arguments(argv: list[str] | None = None) -> tuple[Config, bool, list]:
    """The command line: a Config, whether --set-changed was given, trackers.  Also makes --help."""
    parser = argparse.ArgumentParser(
        description=selfplay.__doc__,
        allow_abbrev=False,
        usage="selfplay.py [--help] [--OPTION VALUE ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for f in fields(Config):
        values = {"default": f.default, "paper": f.metadata["paper"], "tiny": TINY.get(f.name)}
        notes = [f"{who} {value}" for who, value in values.items() if value not in ("", None)]
        parser.add_argument(
            flag(f.name),
            type=rows if f.name == "micro_batch" else f.type,
            choices=f.metadata["choices"],
            default=argparse.SUPPRESS,
            metavar=None if f.metadata["choices"] else f.type.__name__.upper(),
            help=f"{f.metadata['help']} ({'; '.join(notes)})",
        )
    parser.add_argument("--smoke", action="store_true", help="every phase with minimal counts")
    parser.add_argument(
        "--set-changed", action="store_true", help="go on with a run although options were changed"
    )
    for make in TRACKERS:
        parser.add_argument(flag(make.__name__), action="store_true", help=make.__doc__)
    given = vars(parser.parse_args(argv))
    set_changed = given.pop("set_changed")
    told = [make for make in TRACKERS if given.pop(make.__name__)]
    smoke = SMOKE | {"run": "smoke"} if given.pop("smoke") else {}
    if Path(given.get("model", "tiny")).resolve() == ROOT / "tiny":
        given["model"] = "tiny"
    cfg = Config(**(TINY if given.get("model", "tiny") == "tiny" else {}) | smoke | given)
    cfg.run = cfg.run or Path(cfg.model).resolve().name
    if cfg.run == ".." or Path(cfg.run).name != cfg.run:
        parser.error(f"--run {cfg.run} is not the name of a folder under runs/")
    for f in fields(Config):
        low, high = LEAST.get(f.name, int(f.type is int)), MOST.get(f.name, ALL_ROWS)
        if f.type is not str and not low <= getattr(cfg, f.name) <= high:
            parser.error(f"{flag(f.name)} {getattr(cfg, f.name)} is not in [{low}, {high}]")
    return cfg, set_changed, told


def code() -> str:
    """What tells the method's files from those before a change."""
    files = sorted(ROOT.glob("*.py"))
    return f"{zlib.crc32(b''.join(file.read_bytes() for file in files)):08x}"


def open_folder(cfg: Config, set_changed: bool) -> Path:
    """The run folder; one that holds a run of another configuration is refused unless told."""
    folder, versions = (
        Path("runs") / cfg.run,
        {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "code": code(),
        },
    )
    path, wanted = folder / "config.json", asdict(cfg) | {"versions": versions}
    if path.exists() and any(folder.glob("iter*")):
        try:
            found = dict(json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise Malformed(
                f"{path} is damaged ({error}). Delete {folder}, or name another run "
                "with --run NAME."
            ) from None
        other = {key for key, value in wanted.items() if found.get(key) != value} - MAY_CHANGE
        changed = "; ".join(
            f"{flag(key)} was {found.get(key)}, is {wanted[key]}"
            for key in sorted(other - {"versions"})
        )
        if changed and not set_changed:
            raise Malformed(
                f"{folder} holds a run of another configuration: {changed}. Go on with "
                "the new values by --set-changed, name this run with --run NAME, or "
                "delete the folder."
            )
        if changed:
            print(f"{folder} goes on, an unfinished training from the start: {changed}")
            parts = () if other <= AFTER_SAMPLING | {"versions"} else ("iter*/*.part.jsonl",)
            remove(*(f for form in ("iter*/*.steps", *parts) for f in folder.glob(form)))
        if "versions" in other:
            print(
                f"{folder} goes on with other versions or code, so not to the bit, and what is "
                f"done stays: it began with {found.get('versions')}, these are {versions}"
            )
    write_whole(path, json.dumps(wanted, indent=1))
    return folder


def main() -> int:
    """Run; the exit code is explained in the head of this file."""
    cfg, set_changed, told = parse_arguments()
    again = "the same command goes on from the last checkpoint"
    try:
        given = eval.load_tasks(Path(cfg.tasks)) if cfg.tasks else []
        if cfg.tasks and len(given) < cfg.iterations:
            raise Malformed(f"--tasks {cfg.tasks} has fewer tasks than there are --iterations.")
        if silent := [task.id for task in given if not task.calls]:  # r_acc has no part for them
            raise Malformed(
                f"--tasks {cfg.tasks}: task {silent[0]} has no gold call, and the "
                "Solver's reward is for calls: leave such tasks out."
            )
        distributed.start(cfg.device)
        with locked(Path("runs") / cfg.run) if distributed.rank == 0 else nullcontext():
            folder = open_folder(cfg, set_changed)
            if distributed.rank == 0:
                Log.told = [tracker(make, folder, asdict(cfg)) for make in told]
            selfplay.selfplay(cfg, folder)
    except (Malformed, UnusableModel, EmptyPhase) as error:
        print(f"selfplay.py: error: {error}", file=sys.stderr)
        return 3 if isinstance(error, EmptyPhase) else 2
    except OSError as error:
        print(
            f"selfplay.py: error: {error}. What is on the disk is whole; {again}, once that is "
            "fixed.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(f"\nstopped; {again}", file=sys.stderr)
        return 130
    return 0
