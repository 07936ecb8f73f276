"""What the three phases sample and reward: the batches of GRPO, and the proposals of curation.

Paper: Sec. 3.2 (Generator), 3.3 (proposals), 3.4 (Solver).  selfplay.py has the loop around them.

Letters: N prompts per step, G completions per prompt, K answers per task.  Our decision: --replay
puts tasks of earlier iterations before the new ones, in random order (0 by default).
"""

import math
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch

import curate
import eval
import examples
import generator
import guards
import rewards
import solver
from ast_match import Tool
from config import Config
from curate import Candidate
from generator import Draft, Spec, Task
from plumbing import toolset
from plumbing.padding import batched
from plumbing.player import Player
from plumbing.run import Run
from plumbing.runfolder import SELF_MADE, TOOLS, write_whole
from rewards import GeneratorReward, SolverReward
from rollout import Rollout
from template import Chat

PIECE = 512  # completions per saved piece of an unfinished curation
PIECES = {"cuda": 4096}  # the same on fast devices: larger pieces leave fewer slots empty


def check_inputs(cfg: Config, run: Run) -> None:
    """Raise UsageError if a prompt, tools or domains file is unusable; copy the user's tools."""
    generator.template_of(cfg.generator_prompt, bool(cfg.tools))
    solver.template_of(cfg.solver_prompt)
    _, tools = world(cfg)
    if tools:
        write_whole(run.folder / TOOLS, generator.as_json(tools))


def world(cfg: Config) -> tuple[list[str], tuple[Tool, ...]]:
    """Return domains and the user's tools; with --tools the only domain is the name of the file."""
    if cfg.tools:
        return [Path(cfg.tools).stem], toolset.read_tools(cfg.tools)
    domains = toolset.read_domains(cfg.domains) if cfg.domains else generator.DOMAINS
    return domains, ()


@dataclass
class Batch:
    """What one step learns from: rollouts, prompt-major, and the reward of each."""

    rollouts: list[Rollout]
    rewards: list[GeneratorReward] | list[SolverReward]
    metrics: dict[str, float] = field(default_factory=dict)

    def totals(self, group: int) -> torch.Tensor:
        """Return the total rewards, (N, G)."""
        totals = [reward.total for reward in self.rewards]
        return torch.tensor(totals).view(-1, group)


class Batches:
    """What both training phases share."""

    role = ""
    shown: tuple[str, ...] = ()  # numbers beside the progress bar

    def __init__(
        self,
        cfg: Config,
        run: Run,
        k: int,
        steps: int,
    ) -> None:
        self.cfg = cfg
        self.run = run
        self.k = k
        self.steps = steps

    def open(self) -> None:
        """Load what the phase needs."""

    def play(self, player: Player, step: int) -> Batch:
        """Return the rollouts and rewards of one step."""
        raise NotImplementedError

    def sample(
        self,
        player: Player,
        chats: list[Chat],
        max_new_tokens: int,
        seed: int,
    ) -> list[Rollout]:
        """Sample G completions of each prompt at the training temperature."""
        group = self.cfg.group
        temperature = self.cfg.temperature
        with self.run.clock("sample"):
            return player.sample(chats, group, max_new_tokens, temperature, seed)


class GeneratorBatches(Batches):
    """Phase 1: specs -> tasks -> R_G, for which the frozen Solver answers every usable task."""

    role = "generator"
    shown = ("reward", "usable", "p", "copies", "near_duplicates", "menu_met", "entropy")

    def __init__(
        self,
        cfg: Config,
        run: Run,
        k: int,
        solver_path: str,
    ) -> None:
        super().__init__(cfg, run, k, cfg.generator_steps)
        self.template = generator.template_of(cfg.generator_prompt, bool(cfg.tools))
        self.solver_path = solver_path

    def open(self) -> None:
        """Load the frozen Solver."""
        self.frozen = self.run.load(self.solver_path)

    def play(self, player: Player, step: int) -> Batch:
        """Let the Generator write G tasks for each of N specs, and reward them."""
        cfg = self.cfg
        seed = self.run.seed(self.k, f"generator/{step}")
        specs = generator.sample_specs(seed, cfg.generator_batch, cfg.p_large_menu, *world(cfg))
        chats = [generator.prompt(spec, self.template) for spec in specs]
        rollouts = self.sample(player, chats, cfg.max_new_tokens, seed)
        drafts = []
        candidates = []
        for i, rollout in enumerate(rollouts):
            n = i // cfg.group
            draft = generator.parse(player.text(rollout, chats[n]), chats[n], specs[n].menu)
            drafts.append(draft)
            candidates.append(curate.candidate(str(i), specs[n], draft))
        usable = curate.refuse_flawed(candidates, cfg)
        with self.run.clock("probe"):
            measure(cfg, self.frozen, usable, seed)
            judge(cfg, self.frozen, usable)
        near = guards.near_duplicates([c.task for c in candidates], bool(cfg.tools))
        parts = reward_drafts(cfg, drafts, candidates, near)
        metrics = describe(candidates, usable)
        met = [curate.obedience(c.task, c.spec, cfg) for c in usable]
        metrics["obedience"] = sum(met) / max(1, len(met))
        metrics["near_duplicates"] = sum(near) / len(near)  # logged even with --guards off
        return Batch(rollouts, parts, metrics)


def reward_drafts(
    cfg: Config,
    drafts: list[Draft],
    candidates: list[Candidate],
    near_duplicates: list[int],
) -> list[GeneratorReward]:
    """Return R_G of each draft; needs p and sem of the usable candidates."""
    forms = {"no-difficulty": "none", "hard-cliff": "cliff"}
    form = forms.get(cfg.ablation, "band")  # Table 3
    parts = []
    for draft, c, near in zip(drafts, candidates, near_duplicates):
        known = {}  # arguments of `generator_reward` that differ from its defaults
        if c.reason is None:
            known["diff"] = rewards.r_diff(c.p, cfg.num_probes, form)
            known["sem"] = c.sem
            known["obedience"] = curate.obedience(c.task, c.spec, cfg)
        if cfg.guards == "on" and c.task:
            known["near_duplicates"] = near
            known["valid_factor"] = guards.valid_factor(c.task, *generator.examples_of(c.spec))
        parts.append(rewards.generator_reward(draft, **known))
    return parts


class SolverBatches(Batches):
    """Phase 3: curated tasks -> answers -> R_S."""

    role = "solver"
    shown = ("reward", "acc", "leaks", "zero_advantage_groups", "entropy")

    def __init__(
        self,
        cfg: Config,
        run: Run,
        k: int,
        tasks: list[Task],
    ) -> None:
        tasks = replay(cfg, run, k, len(tasks)) + tasks
        steps = math.ceil(cfg.passes * len(tasks) / cfg.solver_batch)
        super().__init__(cfg, run, k, min(cfg.solver_steps, steps))
        self.template = solver.template_of(cfg.solver_prompt)
        self.tasks = schedule(tasks, self.steps * cfg.solver_batch)
        uses = Counter(task.id for task in self.tasks)
        most = max(uses.values(), default=0)
        self.top_task = most / max(1, len(self.tasks))  # largest share of one task

    def play(self, player: Player, step: int) -> Batch:
        """Let the Solver answer each of N tasks G times, and reward the answers."""
        cfg = self.cfg
        seed = self.run.seed(self.k, f"solver/{step}")
        start = step * cfg.solver_batch
        tasks = self.tasks[start : start + cfg.solver_batch]
        chats = [solver.prompt(task, self.template) for task in tasks]
        rollouts = self.sample(player, chats, cfg.answer_tokens, seed)
        parts = []
        leaked = 0
        for i, rollout in enumerate(rollouts):
            task = tasks[i // cfg.group]
            answer = solver.parse(player.text(rollout, chats[i // cfg.group]))
            leaks = guards.leaks(answer.calls, solver.example_of(task), task.question)
            leaked += any(leaks)
            blocked = leaks if cfg.guards == "on" else None
            parts.append(rewards.solver_reward(answer, task.calls, blocked))
        metrics = {"leaks": leaked / len(rollouts), "top_task": self.top_task}
        return Batch(rollouts, parts, metrics)


def replay(cfg: Config, run: Run, k: int, new: int) -> list[Task]:
    """Return tasks of earlier iterations in random order, `cfg.replay` for each new one."""
    if cfg.replay == 0:
        return []
    earlier = []
    for i in range(1, k):
        earlier += eval.load_tasks(run.path(i, "tasks.jsonl"))
    random.Random(run.seed(k, "replay")).shuffle(earlier)
    return earlier[: round(cfg.replay * new)]


def schedule(tasks: list[Task], length: int) -> list[Task]:
    """Return the sequence of `length` tasks that a Solver phase trains on, in the order given.

    If there are more tasks, take evenly spaced ones; if there are fewer, repeat the list.
    """
    count = len(tasks)
    if count > length:
        return [tasks[i * count // length] for i in range(length)]  # Sec. 3.3
    return [tasks[i % count] for i in range(length)]


def piece(cfg: Config) -> int:
    """Return how many completions of a curation are saved together."""
    return PIECES.get(cfg.device.partition(":")[0], PIECE)


def awaits_heldout(cfg: Config, run: Run) -> bool:
    """Return whether the held-out tasks are self-made and do not exist yet."""
    return bool(cfg.tools) and not cfg.heldout and not run.path(1, "tasks.jsonl").exists()


def heldout(cfg: Config, run: Run) -> dict[str, list[Task]]:
    """Return the held-out tasks by name: self-made with --tools and no --heldout."""
    own = str(run.path(1, SELF_MADE)) if cfg.tools else ""
    return eval.load_heldout(cfg.heldout or own, cfg.eval_tasks)


def set_aside(cfg: Config, run: Run, k: int, selected: list[Candidate]) -> list[Candidate]:
    """Hold out every fifth task of the first selection if there are no other held-out tasks.

    Return the tasks to train on.  Later selections lose tasks that are already held out.
    """
    if cfg.heldout or not cfg.tools:
        return selected
    aside = selected[::5]
    if k > 1:
        known = {curate.signature(task, True) for task in eval.load_tasks(run.path(1, SELF_MADE))}
        aside = [c for c in selected if curate.signature(c.task, True) in known]
    for c in aside:
        c.reason = "held out"
    if k == 1:
        run.write_lines(k, SELF_MADE, [c.task.to_json() for c in aside])
    return [c for c in selected if c.reason is None]


def uncalled(cfg: Config, selected: list[Candidate]) -> list[str]:
    """Return the names of the user's tools that no training task calls."""
    called = set()
    for c in selected:
        called |= {call.name for call in c.task.calls}
    return [tool.name for tool in world(cfg)[1] if tool.name not in called]


def propose(
    cfg: Config,
    run: Run,
    k: int,
    player: Player,
) -> list[Candidate]:
    """Sample the candidates of an iteration, one per spec."""
    template = generator.template_of(cfg.generator_prompt, bool(cfg.tools))
    seed = run.seed(k, "specs")
    specs = generator.sample_specs(seed, cfg.candidates, cfg.p_large_menu, *world(cfg))

    def write(n: int, some: list[Spec]) -> list[str]:
        chats = [generator.prompt(spec, template) for spec in some]
        seed = run.seed(k, f"write/{n}")
        rollouts = player.sample(
            chats,
            1,
            cfg.max_new_tokens,
            cfg.candidate_temperature,
            seed,
        )
        return [player.text(rollout, chat) for rollout, chat in zip(rollouts, chats)]

    texts = run.in_pieces(k, "texts", specs, piece(cfg), write)
    candidates = []
    for i, (spec, text) in enumerate(zip(specs, texts)):
        draft = generator.parse(text, generator.prompt(spec, template), spec.menu)
        id = f"{k}-{i:05d}"
        candidates.append(curate.candidate(id, spec, draft))
    return candidates


def measure_in_pieces(
    cfg: Config,
    run: Run,
    k: int,
    frozen: Player,
    usable: list[Candidate],
) -> None:
    """Set p of every usable candidate; finished pieces survive an interruption."""

    def rate(n: int, some: list[Candidate]) -> list[float]:
        measure(cfg, frozen, some, run.seed(k, f"rate/{n}"))
        return [c.p for c in some]

    size = max(1, piece(cfg) // cfg.num_probes)
    rates = run.in_pieces(k, "rates", usable, size, rate)
    for c, p in zip(usable, rates):
        c.p = p


def measure(
    cfg: Config,
    frozen: Player,
    candidates: list[Candidate],
    seed: int,
) -> None:
    """Set p of each candidate: the share of the Solver's K answers that equal the gold answer."""
    K = cfg.num_probes
    template = solver.template_of(cfg.solver_prompt)
    chats = [solver.prompt(c.task, template) for c in candidates]
    rollouts = frozen.sample(
        chats,
        K,
        cfg.answer_tokens,
        cfg.probe_temperature,
        seed,
    )
    texts = [frozen.text(rollout, chats[i // K]) for i, rollout in enumerate(rollouts)]
    answers = [solver.parse(text).calls for text in texts]
    for c, own in zip(candidates, batched(answers, K)):
        c.p = curate.pass_rate(own, c.task.calls)  # Sec. 3.2.1: pass@K


def judge(cfg: Config, frozen: Player, candidates: list[Candidate]) -> None:
    """Set r_sem of each candidate: the frozen Solver scores it from 1 to 5."""
    if cfg.ablation == "no-judge":
        return
    chats = [solver.judge_prompt(c.task) for c in candidates]
    scores = rewards.r_sem(frozen.digit_logits(chats))
    for c, score in zip(candidates, scores):
        c.sem = score


def describe(candidates: list[Candidate], usable: list[Candidate]) -> dict[str, float]:
    """Return the shares that show whether the Generator writes tasks or exploits its reward."""
    readable = [c for c in candidates if c.task]
    copies = [c for c in readable if guards.copied(c.task, *generator.examples_of(c.spec))]
    met = [c for c in readable if len(c.task.tools) == c.spec.menu_size]
    omits = [c for c in usable if examples.leaves_optional_out(c.task.calls, c.task.tools)]
    rates = [c.p for c in usable]
    return {
        "usable": len(usable) / len(candidates),
        "p": sum(rates) / max(1, len(usable)),
        "copies": len(copies) / len(candidates),
        "menu_met": len(met) / max(1, len(readable)),
        "omits": len(omits) / max(1, len(usable)),
    }
