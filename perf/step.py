"""One whole GRPO step, ours against TRL's GRPOTrainer: rollout, reward, update.

    pip install trl                    # only for this benchmark
    python -m perf.step                # prompt 200, completion 128
    python -m perf.step --long         # prompt 800, completion 200

Both get the same model (2.8 M parameters, random), 8 prompts x 8 samples, temperature 1, no KL,
AdamW, and a reward that costs nothing.  Our step runs inside TRL's callback after each of its
steps, so the two take turns.  Each peak of memory is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase, Qwen2ForCausalLM, TrainerCallback

import grpo
from config import Config
from perf import measure
from perf.measure import GROUP
from plumbing.loading import ROOT, load_model
from plumbing.precision import sampling_model
from rollout import SamplingParams, sample

PROMPTS = 8


def problem(
    width: int, shape: str = "2.8M", vocabulary: int = 0, device: str = "cpu"
) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerBase, list[str]]:
    """Return a random model, a tokenizer, and prompts of exactly `width` tokens (an even number).

    By default the vocabulary is the tokenizer's.
    """
    tokenizer = load_model("tiny")[1]
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = measure.qwen(shape, vocabulary or len(tokenizer), device, **ids)
    prompts = ["0+" * (width // 2 - 1) + f"{i}+" for i in range(PROMPTS)]
    return model, tokenizer, prompts


def reward(ids: list[int]) -> float:
    """Return a reward that differs from completion to completion."""
    return (sum(ids) % 100) / 100


def our_step(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerBase, prompts: list[str], new: int
) -> Callable[[], dict]:
    """Return a function that makes one GRPO step of ours."""
    cfg = Config(beta=0.0, max_new_tokens=new, micro_batch=16)
    optimizer = grpo.make_optimizer(list(model.parameters()), cfg)
    ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    params = SamplingParams(new, 1.0, measure.NEVER)

    def step() -> dict:
        uniforms = torch.rand(len(ids), GROUP, new, dtype=torch.float64)
        rollouts = sample(sampling_model(model), ids, GROUP, params, uniforms)
        rewards = torch.tensor([reward(r.completion) for r in rollouts])
        return grpo.step(model, optimizer, rollouts, rewards.view(-1, GROUP), cfg)

    return step


def trl_trainer(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    new: int,
    steps: int,
    callback: TrainerCallback,
):
    """Return TRL's trainer on the same problem."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    cpu = model.device.type == "cpu"
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        max_steps=steps,
        per_device_train_batch_size=PROMPTS * GROUP,
        num_generations=GROUP,
        max_completion_length=new,
        beta=0.0,
        temperature=1.0,
        loss_type="grpo",
        learning_rate=1e-6,
        weight_decay=1e-2,
        lr_scheduler_type="constant",
        gradient_checkpointing=False,
        use_cpu=cpu,
        bf16=not cpu,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )

    def rewards(completion_ids: list[list[int]], **_) -> list[float]:
        return [reward(ids) for ids in completion_ids]

    return GRPOTrainer(
        model=model,
        reward_funcs=rewards,
        args=config,
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"prompt": prompts * steps}),
        callbacks=[callback],
    )


class InTurns(TrainerCallback):
    """Time TRL's steps, and one of ours after each."""

    def __init__(self, ours: Callable[[], dict] | None) -> None:
        self.ours = ours
        self.seconds: dict[str, list] = {"ours": [], "TRL": []}

    def on_step_begin(self, *_, **__) -> None:
        """Start the clock."""
        self.clock = measure.Clock()

    def on_step_end(self, *_, **__) -> None:
        """Stop the clock, then time one step of ours."""
        self.seconds["TRL"].append(self.clock.seconds())
        if self.ours:
            self.seconds["ours"].append(measure.seconds_of(self.ours))


def peak(who: str, width: int, new: int) -> float:
    """Return the MB that two steps add to a process that has loaded everything."""
    done = subprocess.run(
        [sys.executable, "-m", "perf.step", "--peak", who, "--sizes", str(width), str(new)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure_peak(who: str, width: int, new: int) -> None:
    """Print the peak of two steps of one contender."""
    model, tokenizer, prompts = problem(width)
    trainer = trl_trainer(model, tokenizer, prompts, new, 2, InTurns(None))
    ours = our_step(model, tokenizer, prompts, new)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak that Linux keeps
    before = measure.high_water()
    if who == "TRL":
        trainer.train()
    else:
        model.eval()
        ours()
        ours()
    print(json.dumps(measure.high_water() - before))


def main() -> None:
    """Measure and report; see the head of this file."""
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("--long", action="store_true")
    ap.add_argument("--steps", type=int, default=4, help="steps; the first one is not counted")
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--peak", help=argparse.SUPPRESS)
    ap.add_argument("--sizes", type=int, nargs=2, help=argparse.SUPPRESS)
    a = ap.parse_args()
    if a.steps < 2:
        ap.error("--steps: the first step is not counted, so give at least 2")
    torch.set_num_threads(a.threads)
    width, new = a.sizes or ((800, 200) if a.long else (200, 128))
    if a.peak:
        return measure_peak(a.peak, width, new)
    device = measure.device()
    model, tokenizer, prompts = problem(width, device=device)
    twin = problem(width, device=device)[0]
    turns = InTurns(our_step(twin, tokenizer, prompts, new))
    trl_trainer(model, tokenizer, prompts, new, a.steps, turns).train()
    rows = {}
    for who, runs in turns.seconds.items():
        wall, cpu = zip(*runs[1:])
        rows[who] = {
            "wall s": statistics.median_low(wall),
            "CPU s": statistics.median_low(cpu),
            "peak MB": peak(who, width, new),
        }
    rows["TRL / ours"] = {key: rows["TRL"][key] / rows["ours"][key] for key in rows["ours"]}
    sizes = {"prompt": width, "completion": new}
    lines = [{"": who, **sizes, **row} for who, row in rows.items()]
    measure.report("step_long" if a.long else "step", lines)


if __name__ == "__main__":
    main()
