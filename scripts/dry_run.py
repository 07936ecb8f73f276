"""The whole loop with scripted players: no language model, no GPU, a few seconds.

    python -m scripts.dry_run                 # its files are in runs/dry-run/

selfplay.py runs unchanged, so a `breakpoint()` anywhere stops there.  Only the players are fake:
they write what the tables below say and improve after each phase, whatever they are trained on.
The update trains a stand-in, a model of ten thousand weights that reads bytes.
"""

import json
import random
import re
import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import eval
import generator
import grpo
import selfplay
import solver
from ast_match import Call, Tool, last_block
from config import Config
from examples import Example
from phases import Batches, GeneratorBatches, SolverBatches
from plumbing import cli, report
from plumbing.command import run_command
from plumbing.run import Run
from plumbing.runfolder import delete, write_jsonl
from rollout import Rollout
from template import Chat

NAMES = "Ada Bo Cleo Dan Eve Finn Gil Hana".split()
VERBS = "book find move cancel list rate share close".split()
SKILL = (  # after 0, 1 and 2 iterations: how often the Solver is right about each verb
    (1, 0.5, 0.25, 0, 0, 0, 0, 0),
    (1, 1, 0.75, 0.5, 0.25, 0, 0, 0),
    (1, 1, 1, 1, 0.75, 0.5, 0.25, 0),
)
FLAWS = (  # of the Generator: old text, new text, how often before and after training
    (r"</tool_call_answer>", "", 0.2, 0.05),  # cut off
    (r'("name": "\w+)(", "arguments")', r"\1_it\2", 0.2, 0.05),  # a tool that is not in the menu
    (r'("arguments": .*")\w+("})', r"\1Nobody\2", 0.2, 0.05),  # a value that is not in the question
)
COUNTS = dict(
    iterations=2,
    group=4,
    generator_steps=1,
    generator_batch=2,
    candidates=60,
    solver_steps=2,
    solver_batch=4,
)


class Scripted:
    """A player without a language model; its name, such as iter1/solver, sets its skill."""

    def __init__(self, name: str, *_, **__) -> None:
        found = re.findall(r"iter(\d)", name)
        self.trained = int(found[-1]) if found else 0  # iterations
        config = LlamaConfig(
            vocab_size=256,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=1,
        )
        self.model = LlamaForCausalLM(config)

    def prepare_training(self, cfg: Config) -> tuple[list[torch.nn.Parameter], None]:
        """Return the weights of the stand-in, and no reference model."""
        return list(self.model.parameters()), None

    def save(self, folder: Path) -> None:
        """Write no checkpoint, since the folder's name alone sets the player's skill."""
        folder.mkdir(parents=True)

    def ids(self, chat: Chat) -> list[int]:
        """Return the bytes of the user message."""
        return list(chat[-1]["content"].encode())

    def text(self, rollout: Rollout, chat: Chat = ()) -> str:
        """Return a completion as text."""
        return bytes(rollout.completion).decode()

    def sample(
        self, chats: list[Chat], group: int, max_new_tokens: int, temperature: float, seed: int = 0
    ) -> list[Rollout]:
        """Write `group` completions of each chat, prompt-major."""
        rng = random.Random(seed)
        rollouts = []
        for chat in [chat for chat in chats for _ in range(group)]:
            user = chat[-1]["content"]
            text = self.invent(user, rng) if "Domain: " in user else self.solve(user, rng)
            rollouts.append(Rollout(self.ids(chat), list(text.encode()), True))
        return rollouts

    def digit_logits(self, chats: list[Chat]) -> torch.Tensor:
        """Return equal logits: as a judge, this player scores all tasks alike."""
        return torch.zeros(len(chats), 5)

    def invent(self, prompt: str, rng: random.Random) -> str:
        """Write a task that meets its spec, perhaps with a flaw."""
        domain, context, size, calls = re.findall(r": (\w+)", prompt)
        verbs = rng.sample(VERBS, int(size))
        wanted = list(zip(verbs, rng.sample(NAMES, int(calls))))
        person = {"person": {"type": "string"}}
        menu = [Tool(f"{verb}_{domain}", f"{verb} it", person, ("person",)) for verb in verbs]
        gold = [Call(f"{verb}_{domain}", {"person": name}) for verb, name in wanted]
        request = " and ".join(f"{verb} {domain} for {name}" for verb, name in wanted)
        text = generator.write(Example(domain, context, f"Please {request}.", menu, gold))
        for old, new, before, after in FLAWS:
            if rng.random() < (after if self.trained else before):
                text = re.sub(old, new, text)
        return text

    def solve(self, prompt: str, rng: random.Random) -> str:
        """Answer correctly as often as the table says, otherwise with a wrong value."""
        skill = dict(zip(VERBS, SKILL[min(self.trained, 2)]))
        calls = []
        for verb, noun, name in re.findall(r"(\w+) (\w+) for (\w+)", prompt):
            said = name if rng.random() < skill[verb] else "?"
            calls.append({"name": f"{verb}_{noun}", "arguments": {"person": said}})
        return f"<think>hm</think>\n<tool_call_answer>\n{json.dumps(calls)}\n</tool_call_answer>"


def print_batch(batches: Batches, group: int) -> None:
    """Print what the last step of a phase learned from: completions, rewards, advantages."""
    print(f"\nThe last batch of the {batches.role} in iteration 1:")
    batches.open()
    player = Scripted("base")
    batch = batches.play(player, batches.steps - 1)
    A = grpo.advantages(batch.totals(group)).flatten().tolist()
    for i, (rollout, reward, a) in enumerate(zip(batch.rollouts, batch.rewards, A)):
        if i % group == 0:
            print("  prompt: ..." + bytes(rollout.prompt).decode().replace("\n", " ")[-120:])
        text = player.text(rollout)
        calls = [f"{c.name}({', '.join(c.arguments.values())})" for c in solver.parse(text).calls]
        parts = " ".join(f"{name} {value:.2f}" for name, value in vars(reward).items())
        said = f"{last_block(text, 'question') or ''} {' '.join(calls) or 'no call'}"
        print(f"    R {reward.total:.2f}  A {a:+.2f}  {parts} | {said.strip()}")


def write_heldout(path: Path, count: int) -> None:
    """Write held-out tasks: what the trained Generator writes, if it can be read."""
    author = Scripted("iter1")
    chats = [generator.prompt(spec) for spec in generator.sample_specs(7, count)]
    tasks = []
    for i, rollout in enumerate(author.sample(chats, 1, 0, 0.0)):
        tasks.append(generator.parse(author.text(rollout)).task(f"heldout-{i}", ""))
    write_jsonl(path, [task.to_json() for task in tasks if task])


def play() -> None:
    """Play two iterations; print the report's tables and two batches in full."""
    print("The players are scripted: what they can do is written in a table, not learned.\n")
    heldout = Path("runs/dry-run/heldout.jsonl")
    cfg = Config("scripted", "dry-run", heldout=str(heldout), device="cpu", beta=0.0, **COUNTS)
    delete(heldout.parent)
    write_heldout(heldout, 60)
    torch.manual_seed(0)
    run = Run(cfg, cli.open_folder(cfg, set_changed=False), make_player=Scripted)
    selfplay.selfplay(cfg, run)
    print(report.table(run.folder), report.training(run.folder), sep="\n")
    tasks = eval.load_tasks(run.path(1, "tasks.jsonl"))
    print_batch(GeneratorBatches(cfg, run, 1, "base"), cfg.group)
    print_batch(SolverBatches(cfg, run, 1, tasks), cfg.group)
    print("\nThe players were scripted: nothing was learned, and there is no checkpoint to use.")


if __name__ == "__main__":
    sys.exit(run_command("dry_run", play))
