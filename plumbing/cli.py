"""The command line of `python selfplay.py`: options, the run folder, and how a run ends.

Options are made from `config.Config`.  A run folder that holds a run with other settings is
refused unless --set-changed is given.  Exit code 2: bad input, or out of memory or disk space; 3: a
phase had nothing to learn from; 130: Ctrl-C.
"""

import argparse
import difflib
import json
import os
import platform
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import Field, asdict, fields
from pathlib import Path

import torch
import transformers

from config import GROUPS, RUN, SMOKE, TINY, TINY_TOOLS, Config
from errors import UsageError
from plumbing import distributed, estimate, report
from plumbing.chat import today
from plumbing.command import run_command
from plumbing.loading import ROOT, pick_device, processor
from plumbing.run import Run, enough_memory
from plumbing.runfolder import locked, remove, write_whole
from plumbing.trackers import wandb

LEAST = {"seed": 0, "generator_steps": 0, "group": 2, "candidate_temperature": 0.01}
MOST = {"p_min": 1, "p_max": 1, "p_large_menu": 1}
MANY = 10**9  # upper bound of every other option
AGAIN = "All files on disk are intact; the same command continues from the last checkpoint."
MAY_CHANGE = {"iterations", "save_every", "run"}  # settings that may change without --set-changed
AFTER_SAMPLING = {"p_min", "p_max", "select", "heldout", "eval_tasks"}  # candidates stay valid


class Parser(argparse.ArgumentParser):
    """A parser that suggests the option that was probably meant."""

    def error(self, message: str) -> None:
        """Print the message with a suggestion and exit with code 2."""
        wrong = message.partition("unrecognized arguments: ")[2].split(" ")[0].split("=")[0]
        options = list(self._option_string_actions)
        close = [option for option in options if wrong and option.startswith(wrong)]
        close += difflib.get_close_matches(wrong, options, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        self.exit(2, f"{self.prog}: error: {message}{hint}\n")


def flag(name: str) -> str:
    """Return the option of a field of Config.

    >>> flag("solver_steps")
    '--solver-steps'
    """
    return "--" + name.replace("_", "-")


def shown(name: str) -> str:
    """Return the option of a setting, or the name of one that has no option."""
    field = Config.__dataclass_fields__.get(name)
    return flag(name) if field and field.metadata["group"] else name


def make_parser(doc: str) -> Parser:
    """Return the parser of all options, grouped as in config.py."""
    parser = Parser(
        "selfplay.py",
        description=doc,
        allow_abbrev=False,
        usage="selfplay.py [--help] [--OPTION VALUE ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    groups = {name: parser.add_argument_group(name) for name in GROUPS}
    for f in fields(Config):
        if f.metadata["group"]:
            add_option(groups[f.metadata["group"]], f)
    flags = groups[RUN]
    flags.add_argument("--smoke", action="store_true", help="every phase with minimal counts")
    flags.add_argument(
        "--set-changed", action="store_true", help="continue a run with changed options"
    )
    flags.add_argument("--wandb", action="store_true", help="also log to Weights & Biases")
    return parser


def add_option(group: argparse._ArgumentGroup, f: Field) -> None:
    """Add the option of one field; its help names the default, the paper's value and tiny's."""
    values = {"default": f.default, "paper": f.metadata["paper"], "tiny": TINY.get(f.name)}
    notes = [f"{who} {value}" for who, value in values.items() if value not in ("", None)]
    choices = f.metadata["choices"] or None
    group.add_argument(
        flag(f.name),
        type=f.type,
        choices=choices,
        default=argparse.SUPPRESS,
        metavar=None if choices else f.type.__name__.upper(),
        help=f"{f.metadata['help']} ({'; '.join(notes)})" if notes else f.metadata["help"],
    )


def parse_arguments(doc: str, argv: list[str] | None = None) -> tuple[Config, argparse.Namespace]:
    """Return the settings, and the flags that are not settings: smoke, set_changed and wandb."""
    parser = make_parser(doc)
    options = vars(parser.parse_args(argv))
    names = ("smoke", "set_changed", "wandb")
    flags = argparse.Namespace(**{name: options.pop(name) for name in names})
    model = options.get("model", "tiny")
    if Path(model).resolve() == ROOT / "tiny":
        model = options["model"] = "tiny"
    small = is_tiny(model)
    preset = dict(TINY) if small else {}
    if small and options.get("tools"):
        preset |= TINY_TOOLS
    if flags.smoke:
        name = Path(model).resolve().name
        preset |= SMOKE | {"run": "smoke" if model == "tiny" else f"smoke-{name}"}
    cfg = Config(**{**preset, **options})
    cfg.run = cfg.run or Path(cfg.model).resolve().name
    if cfg.tools and "run" not in options:
        cfg.run += f"-{Path(cfg.tools).stem}"
    check_values(parser, cfg)
    return cfg, flags


def is_tiny(model: str) -> bool:
    """Return whether a model is tiny or was trained from it: its config.json says so."""
    path = (ROOT if model == "tiny" else Path()) / model / "config.json"
    try:
        return json.loads(path.read_text())["selfplay_defaults"] == "tiny"
    except (OSError, ValueError, KeyError, TypeError):
        return False  # a hub name, another model, or a file that loading will refuse


def check_values(parser: Parser, cfg: Config) -> None:
    """Exit with a message if a value is out of its bounds."""
    if cfg.run == ".." or Path(cfg.run).name != cfg.run:
        parser.error(
            f"--run {cfg.run} is not the name of a folder under runs/: use neither a slash nor .."
        )
    if (Path("runs") / cfg.run).resolve() == Path(cfg.model).resolve():
        parser.error(
            f"runs/{cfg.run} is the folder of --model: name another one for the run with --run NAME"
        )
    for f in fields(Config):
        value = getattr(cfg, f.name)
        if f.type is str:
            continue
        low = LEAST.get(f.name, 1 if f.type is int else 0)
        high = MOST.get(f.name, MANY)
        if value < low:
            parser.error(f"{flag(f.name)} {value} is too small: it must be at least {low}")
        if not value <= high:
            parser.error(f"{flag(f.name)} {value} is too large: it must be at most {high}")
    if cfg.p_min > cfg.p_max:
        parser.error(f"--p-min {cfg.p_min} is above --p-max {cfg.p_max}: no task would be kept")
    if cfg.tools and cfg.generator_prompt == "placeholders":
        parser.error(
            "--generator-prompt placeholders shows no menu: with --tools use bank or a file"
        )
    if cfg.tools and cfg.domains:
        parser.error("--domains has no effect with --tools: use one of them")
    if cfg.rows != "auto" and not (cfg.rows.isdecimal() and int(cfg.rows) > 0):
        parser.error(f"--rows {cfg.rows} is neither auto nor a number of at least 1")


def machine(cfg: Config) -> dict[str, str]:
    """Return what determines a run bit for bit, besides its settings."""
    files = [*sorted(ROOT.glob("*.py")), *sorted(ROOT.glob("plumbing/*.py"))]
    named = [ROOT / "examples.txt"]
    named += map(Path, (cfg.generator_prompt, cfg.solver_prompt))
    files += [path for path in named if path.is_file()]
    code = zlib.crc32(b"".join(file.read_bytes() for file in files))
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "code": f"{code:08x}",
        "processor": processor(cfg.device),
        "threads": str(torch.get_num_threads()),
    }


def inputs(cfg: Config) -> str:
    """Return a checksum of the file of tools or domains, or ""; it is compared like a setting."""
    for name in (cfg.tools, cfg.domains):
        if os.path.isfile(name):
            return f"{zlib.crc32(Path(name).read_bytes()):08x}"
    return ""


def open_folder(cfg: Config, set_changed: bool) -> Path:
    """Return the run folder; raise UsageError if it holds a run with other settings."""
    folder = Path("runs") / cfg.run
    path = folder / "config.json"
    wanted = asdict(cfg) | {"machine": machine(cfg), "date": today(), "inputs": inputs(cfg)}
    if path.exists() and any(folder.glob("iter*")):
        found = asdict(Config()) | {"inputs": ""} | report.config(folder)
        wanted["date"] = found.get("date", today())  # prompts stay the same on another day
        other = {key for key, value in wanted.items() if found.get(key) != value} - MAY_CHANGE
        settings = sorted(other - {"machine"})
        changes = [f"{shown(key)} was {found.get(key)}, is {wanted[key]}" for key in settings]
        changed = "; ".join(changes)
        if changed and not set_changed:
            raise UsageError(
                f"{folder} holds a run with other settings: {changed}. Pass --set-changed "
                "to continue with the new values or --run NAME for a new run, or delete the folder."
            )
        if changed:
            print(
                f"{folder} continues with changed settings, so unfinished training starts again: "
                f"{changed}"
            )
            forget_unfinished(folder, keep_candidates=other <= AFTER_SAMPLING | {"machine"})
        if "machine" in other:
            print(
                f"{folder} continues with other versions, code or threads, so its result will "
                f"not be bit-identical: was {found.get('machine')}, is {wanted['machine']}"
            )
    write_whole(path, json.dumps(wanted, indent=1))
    return folder


def forget_unfinished(folder: Path, keep_candidates: bool) -> None:
    """Delete what an unfinished phase has saved under the old settings."""
    remove(*folder.glob("iter*/*.steps"))
    if not keep_candidates:
        remove(*folder.glob("iter*/*.part.jsonl"))


def main(doc: str, loop: Callable[[Config, Run], str], argv: list[str] | None = None) -> int:
    """Parse the command line, run the loop, write the report; return the exit code."""
    cfg, flags = parse_arguments(doc, argv)
    folder = Path("runs") / cfg.run
    existed = folder.exists()
    code = run_command("selfplay.py", lambda: run_loop(cfg, flags, loop), AGAIN)
    if code and not existed:
        remove_if_empty(folder)
    return code


def run_loop(cfg: Config, flags: argparse.Namespace, loop: Callable[[Config, Run], str]) -> None:
    """Run the loop in its locked folder, then write the report."""
    cfg.device = pick_device(cfg.device)
    distributed.start(cfg.device)
    torch.use_deterministic_algorithms(cfg.device == "cpu")  # gradients are added in a fixed order
    first = distributed.rank == 0
    with locked(Path("runs") / cfg.run) if first else nullcontext():
        folder = open_folder(cfg, flags.set_changed)
        run = Run(cfg, folder, date=report.config(folder)["date"])
        if first and flags.wandb:
            run.trackers.append(wandb(folder, asdict(cfg)))
        if cfg.model != "tiny":
            print(estimate.plan(cfg))
        run.catch_interrupts()
        with enough_memory(run):
            solver = loop(cfg, run)
        print(f"{report.write(folder)}\nlog: {folder}/log.jsonl\ntrained Solver: {solver}")


def remove_if_empty(folder: Path) -> None:
    """Delete the run folder of a start that failed before it had any result."""
    if folder.exists() and not any(folder.glob("iter*")):
        remove(folder)
    if folder.parent.exists() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()
