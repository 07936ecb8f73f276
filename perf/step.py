"""One whole GRPO step, ours against TRL's GRPOTrainer: rollout, reward, update.

    pip install trl                     # only for this benchmark
    python perf/step.py                # prompt 200, completion 128
    python perf/step.py --long         # prompt 800, completion 200

Both get the same model (2.8 M parameters, random), 8 prompts x 8 samples, temperature 1, no KL,
AdamW, and a reward that costs nothing.  Our step runs inside TRL's callback after each of its
steps, so the two are measured in turns; peak memory is that of two processes of their own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
import torch
from transformers import PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM, TrainerCallback

import grpo
import rollout
from plumbing import player

PROMPTS, GROUP = 8, 8
NEVER = [10**6]  # an end id that no model has: all completions are as long as the limit


def problem(width: int) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerBase, list[str]]:
    """A random model of 2.8 M parameters, a tokenizer, and prompts of exactly `width` tokens."""
    tokenizer = player.load_model(str(measure.HERE.parent / "tiny"))[1]
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=256,
            intermediate_size=688,
            num_hidden_layers=3,
            num_attention_heads=8,
            num_key_value_heads=4,
            tie_word_embeddings=True,
            max_position_embeddings=2048,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    return model, tokenizer, ["0+" * (width // 2 - 1) + f"{i}+" for i in range(PROMPTS)]


def reward(ids: list[int]) -> float:
    """Something that differs from completion to completion."""
    return (sum(ids) % 100) / 100


def our_step(model, tokenizer, prompts: list[str], new_tokens: int):
    """A function that makes one GRPO step of ours."""
    cfg = grpo.GRPOConfig(beta=0.0, max_new_tokens=new_tokens, micro_batch=16)
    optimizer = torch.optim.AdamW(model.parameters(), cfg.lr, weight_decay=cfg.weight_decay)
    ids, shape = [tokenizer(p)["input_ids"] for p in prompts], (len(prompts), GROUP, new_tokens)

    def step():
        uniforms = torch.rand(shape, dtype=torch.float64)
        rollouts = rollout.sample(
            model, ids, GROUP, rollout.SamplingParams(new_tokens, 1.0, NEVER), uniforms
        )
        rewards = torch.tensor([reward(r.completion) for r in rollouts]).view(-1, GROUP)
        return grpo.step(model, optimizer, rollouts, rewards, cfg)

    return step


def trl_trainer(model, tokenizer, prompts: list[str], new_tokens: int, steps: int, callback):
    """TRL's trainer on the same problem."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    cpu = model.device.type == "cpu"
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        max_steps=steps,
        per_device_train_batch_size=PROMPTS * GROUP,
        num_generations=GROUP,
        max_completion_length=new_tokens,
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
    rewards = lambda completion_ids, **_: [reward(ids) for ids in completion_ids]
    return GRPOTrainer(
        model=model,
        reward_funcs=rewards,
        args=config,
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"prompt": prompts * steps}),
        callbacks=[callback],
    )


class InTurns(TrainerCallback):
    """Times TRL's steps, and one of ours after each."""

    def __init__(self, ours) -> None:
        self.ours, self.seconds = ours, {"ours": [], "TRL": []}

    def on_step_begin(self, *_, **__) -> None:
        self.began = time.perf_counter(), time.process_time()

    def on_step_end(self, *_, **__) -> None:
        self.note("TRL")
        if self.ours:
            self.began = time.perf_counter(), time.process_time()
            self.ours()
            self.note("ours")

    def note(self, who: str) -> None:
        self.seconds[who].append(
            (time.perf_counter() - self.began[0], time.process_time() - self.began[1])
        )


def peak(who: str, width: int, new_tokens: int) -> float:
    """Peak memory in MB that two steps add to a process that has loaded everything."""
    text = subprocess.run(
        [sys.executable, __file__, "--peak", who, "--sizes", str(width), str(new_tokens)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return json.loads(text.splitlines()[-1])


def measure_peak(who: str, width: int, new_tokens: int) -> None:
    """Print the peak of two steps of one contender."""
    model, tokenizer, prompts = problem(width)
    trainer = trl_trainer(model, tokenizer, prompts, new_tokens, 2, InTurns(None))
    ours = our_step(model, tokenizer, prompts, new_tokens)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten (Linux)
    base = high_water()
    if who == "TRL":
        trainer.train()
    else:
        model.eval()
        ours(), ours()
    print(json.dumps(high_water() - base))


def high_water() -> float:
    """The largest resident memory of this process since it was last forgotten, in MB."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) / 1024


def main() -> None:
    """Measure and report; see the head of this file."""
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("--long", action="store_true")
    ap.add_argument("--steps", type=int, default=4, help="of which the first is not counted")
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--peak", help=argparse.SUPPRESS)
    ap.add_argument("--sizes", type=int, nargs=2, help=argparse.SUPPRESS)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    sizes = tuple(a.sizes or ((800, 200) if a.long else (200, 128)))
    if a.peak:
        return measure_peak(a.peak, *sizes)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, tokenizer, prompts = problem(sizes[0])
    twin = problem(sizes[0])[0].to(device)
    turns = InTurns(our_step(twin.eval(), tokenizer, prompts, sizes[1]))
    trl_trainer(model.to(device), tokenizer, prompts, sizes[1], a.steps, turns).train()
    rows = []
    for who, runs in turns.seconds.items():
        wall, cpu = (measure.median(column) for column in zip(*runs[1:]))
        rows.append(
            {
                "": who,
                "prompt": sizes[0],
                "completion": sizes[1],
                "wall s": wall,
                "CPU s": cpu,
                "peak MB": peak(who, *sizes),
            }
        )
    ours, trl = rows
    rows.append(
        {
            "": "TRL / ours",
            "prompt": sizes[0],
            "completion": sizes[1],
            **{key: trl[key] / ours[key] for key in ("wall s", "CPU s", "peak MB")},
        }
    )
    measure.report("step_long" if a.long else "step", rows)


if __name__ == "__main__":
    main()
