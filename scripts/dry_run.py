"""The loop with scripted players: `python selfplay.py --dry-run`.  No model, a few seconds.

Prompts, parsing, rewards, advantages, curation, evaluation and report are the real code; a player
writes by the tables below, and instead of an update the trained one takes the next line of a table.  What
enters and leaves each phase is printed; the files are in runs/dry-run/.  A `breakpoint()` anywhere
in the project stops it there.  Checkpoints are names alone: "scripted" is the untrained player, and
"iter1/solver" the Solver that is trained once.
"""

import json
import random
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import torch

import generator
import grpo
import selfplay
import solver
from ast_match import last_block
from generator import Task
from plumbing import cli, report
from plumbing.runfolder import write_jsonl
from rollout import Rollout

NAMES = "Ada Bo Cleo Dan Eve Finn Gil Hana".split()
VERBS = "book find move cancel list rate share close".split()
SKILL = {  # iterations the Solver was trained -> how often it is right about each verb, from "book"
    0: (1, 0.5, 0.25, 0, 0, 0, 0, 0),
    1: (1, 1, 0.75, 0.5, 0.25, 0, 0, 0),
    2: (1, 1, 1, 1, 0.75, 0.5, 0.25, 0),
}
FLAWS = (  # of the Generator: old text -> new text, how often before training and after it
    (r"</tool_call_answer>", "", 0.2, 0.05),  # cut off
    (r'("name": "\w+)(", "arguments")', r"\1_it\2", 0.2, 0.05),  # a tool that is not in the menu
    (r'("arguments": .*")\w+("})', r"\1Nobody\2", 0.2, 0.05),
)  # a value that nobody named


class Scripted:
    """A player without a model; its name, iter1/solver for one, tells how far it was trained."""

    def __init__(self, name: str, *_, **__) -> None:
        self.trained = int((re.findall(r"iter(\d)", name) or [0])[-1])
        self.model = SimpleNamespace(device=torch.device("cpu"))

    def ids(self, chat: list[dict[str, str]]) -> list[int]:
        """The bytes of the user message are its ids; a completion's likewise."""
        return list(chat[-1]["content"].encode())

    def text(self, rollout: Rollout) -> str:
        """A completion as text."""
        return bytes(rollout.completion).decode()

    def sample(
        self,
        chats: Iterable[list[dict[str, str]]],
        group: int,
        max_new_tokens: int,
        temperature: float,
        seed: int = 0,
    ) -> list[Rollout]:
        """`group` completions of each chat, prompt-major."""
        rng = random.Random(seed)
        write = {generator.SYSTEM: self.invent, solver.SYSTEM: self.solve}
        texts = [
            (chat, write[chat[0]["content"]](chat[1]["content"], rng))
            for chat in chats
            for _ in range(group)
        ]
        return [Rollout(self.ids(chat), list(text.encode()), True) for chat, text in texts]

    def digit_logits(self, chats: Iterable) -> torch.Tensor:
        """The judge is of no opinion."""
        return torch.zeros(len(list(chats)), 5)

    def invent(self, prompt: str, rng: random.Random) -> str:
        """The Generator: a task that obeys its spec, or one with a flaw."""
        domain, _, size, calls = re.findall(r": (\w+)", prompt)
        verbs = rng.sample(VERBS, int(size))
        tools = [
            {
                "name": f"{verb}_{domain}",
                "description": f"{verb} it",
                "parameters": {"person": {"type": "string"}},
                "required": ["person"],
            }
            for verb in verbs
        ]
        wanted = list(zip(verbs, rng.sample(NAMES, int(calls))))
        gold = [{"name": f"{verb}_{domain}", "arguments": {"person": who}} for verb, who in wanted]
        question = " and ".join(f"{verb} {domain} for {who}" for verb, who in wanted)
        text = (
            f"<think>\nhm\n</think>\n<question>\nPlease {question}.\n</question>\n"
            f"<available_tools>\n{json.dumps(tools)}\n</available_tools>\n"
            f"<tool_call_answer>\n{json.dumps(gold)}\n</tool_call_answer>"
        )
        for old, new, before, after in FLAWS:
            if rng.random() < (after if self.trained else before):
                text = re.sub(old, new, text)
        return text

    def solve(self, prompt: str, rng: random.Random) -> str:
        """The Solver: right as often as its skill says, else the value is wrong."""
        calls = []
        for verb, noun, who in re.findall(r"(\w+) (\w+) for (\w+)", prompt):
            right = rng.random() < SKILL[min(self.trained, 2)][VERBS.index(verb)]
            said = {"person": who if right else "?"}
            calls.append({"name": f"{verb}_{noun}", "arguments": said})
        return f"<think>hm</think>\n<tool_call_answer>\n{json.dumps(calls)}\n</tool_call_answer>"


def gist(text: str) -> str:
    """A completion in a line: a task's question, the calls, or why there are none."""
    question, answer = last_block(text, "question"), solver.parse(text)
    calls = [f"{call.name}({', '.join(call.arguments.values())})" for call in answer.calls]
    return f"{question or ''} {' '.join(calls) or answer.reason}".strip()


class DryRun(selfplay.Run):
    """The phases, told as they happen."""

    def __init__(self, cfg: selfplay.Config, folder: Path) -> None:
        super().__init__(cfg, folder)
        self.player = Scripted

    def train(self, k: int, role: str, start: str, steps: int, turn: Callable, shown: tuple) -> str:
        """Steps of GRPO up to the advantages; an update is only pretended."""
        out, player = f"iter{k}/{role}", self.player(start)
        print(f"\n== iteration {k}, {role}: in {start}, out {out}, steps: {steps}")
        for step in range(steps):
            seed = selfplay.phase_seed(self.cfg.seed, k, f"{role}/{step}")
            rollouts, parts, _ = turn(player, step, seed)
            rewards = torch.tensor([part.total for part in parts]).view(-1, self.cfg.group)
            A = grpo.advantages(rewards).flatten().tolist()
            for i, (r, part, a) in enumerate(zip(rollouts, parts, A)):
                if i % self.cfg.group == 0:
                    print("  prompt: ...", bytes(r.prompt).decode().replace("\n", " ")[-130:])
                values = " ".join(f"{name} {x:.2f}" for name, x in vars(part).items())
                print(f"    R {part.total:.2f} A {a:+.2f} = {values} | {gist(player.text(r))}")
        return out

    def curation(self, k: int, generator_at: str, solver_at: str) -> list[Task]:
        """Curation, and the tasks that it leaves."""
        print(f"\n== iteration {k}, curation: in {generator_at}, {solver_at}")
        tasks = super().curation(k, generator_at, solver_at)
        lines = (self.folder / f"iter{k}/candidates.jsonl").read_text().splitlines()
        p = {line["id"]: line["p"] for line in map(json.loads, lines)}
        for task in tasks:
            print(f"    {task.id} p {p[task.id]:.3f} {task.question}")
        return tasks


def main() -> None:
    """Play two iterations."""
    cfg = selfplay.Config(
        model="scripted",
        run="dry-run",
        device="cpu",
        iterations=2,
        group=4,
        generator_steps=1,
        generator_prompts=2,
        solver_steps=2,
        solver_prompts=4,
        candidates=60,
        select=20,
        p_large_menu=0.2,
        eval_tasks=40,
    )
    shutil.rmtree(Path("runs") / cfg.run, ignore_errors=True)
    cfg.heldout = f"runs/{cfg.run}/heldout.jsonl"
    folder = cli.open_folder(cfg, set_changed=False)
    author, rng = Scripted("iter1"), random.Random(7)
    drafts = [
        (spec, generator.parse(author.invent(generator.prompt(spec)[1]["content"], rng)))
        for spec in generator.sample_specs(7, 2 * cfg.eval_tasks)
    ]
    tasks = [draft.task(f"heldout-{i}", spec.domain) for i, (spec, draft) in enumerate(drafts)]
    write_jsonl(Path(cfg.heldout), [task.to_json() for task in tasks if task])
    selfplay.Run, report.Player = DryRun, Scripted
    print('The players are scripted: "scripted" is the untrained one, no checkpoint is written.')
    selfplay.selfplay(cfg, folder)
