"""Two processes make the update of one, and a run that lost a process continues with any number.

python -m pytest tests/two_processes.py     # a minute; not among the tests that pytest finds
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, random_model
from safetensors.torch import load_file, save_file

import grpo
from config import Config
from plumbing import distributed
from rollout import Rollout

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
FEW = ["--smoke", "--candidates", "32"]
ROLLOUTS = [  # groups of three; one row is truncated and one has no tokens
    *(Rollout([5, 6, 7], ids, True) for ids in ([9, 2], [8, 30, 31, 2], [12, 2])),
    *(Rollout([5], ids, ids[-1:] == [2]) for ids in ([9, 9, 9], [2], [])),
    *(Rollout([40, 41, 42, 43], ids, True) for ids in ([22, 23, 2], [44, 2], [45, 46, 47, 48, 2])),
]
CASES = [
    dict(loss="grpo", beta=0.1),
    dict(loss="dapo", beta=0.0),
    dict(loss="grpo", beta=0.1, shard="on", max_grad_norm=0.1),
    dict(shard="on", beta=0.0, checkpointing="on"),
]


def updates(case, steps=2):
    """Return the weights after some steps, and the metrics of the last."""
    cfg = Config(**case, lr=1e-2, micro_batch=2)
    model, reference = (random_model(seed=n, tie_word_embeddings=True) for n in (0, 1))
    if cfg.checkpointing == "on":
        model.gradient_checkpointing_enable()
        model.train()
    if cfg.shard == "on":
        distributed.shard(model)
        distributed.shard(reference)
    optimizer = torch.optim.SGD(model.parameters(), cfg.lr, momentum=0.9, foreach=False)
    rewards = torch.tensor([[1.0, 0, 0], [0, 1, 2], [1, 1, 1]])  # the last group teaches nothing
    for _ in range(steps):
        metrics = grpo.step(
            model, optimizer, ROLLOUTS, rewards, cfg, reference if cfg.beta else None
        )
    assert distributed.is_sharded(model) == (cfg.shard == "on" and distributed.size > 1)
    return {name: distributed.whole(p.detach()) for name, p in model.named_parameters()}, metrics


def worker(folder):
    """Do what each of the two processes does."""
    distributed.start("cpu")
    for n, case in enumerate(CASES):
        weights, metrics = updates(case)
        tensors = {f"metric {name}": torch.tensor(value) for name, value in metrics.items()}
        tensors |= weights
        distributed.rank0_only(save_file)(tensors, folder / f"{n}")


@pytest.fixture(autouse=True)
def one_thread():
    """Use one thread, as torchrun sets for each process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def by_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    done = subprocess.run([*TORCHRUN, "2", __file__, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("n", range(len(CASES)), ids=[str(case) for case in CASES])
def test_two_processes_make_the_update_of_one(n, by_two):
    found = load_file(by_two / str(n))
    weights, metrics = updates(CASES[n])
    for name, value in metrics.items():
        assert found[f"metric {name}"].item() == pytest.approx(value, abs=1e-6, rel=1e-5), name
    for name, weight in weights.items():
        assert (found[name] - weight).abs().max() <= 1e-6, name


def test_groups_are_never_split_and_each_item_is_someones(monkeypatch):
    monkeypatch.setattr(distributed, "size", 2)
    keys, whose = [[1], [1], [2], [3], [3], [1]], []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", rank)
        whose.append(distributed.own(keys))
    assert whose == [
        [True, True, False, True, True, True],
        [False, False, True, False, False, False],
    ]


@pytest.mark.parametrize("shard", ["off", "on"])
def test_two_curate_the_tasks_of_one_and_after_a_kill_one_goes_on(
    tmp_path,
    run_here,
    shard,
):
    few = [*FEW, "--shard", shard]
    (tmp_path / "one").mkdir()
    assert run_here(tmp_path / "one", *few)[0] == 0
    two = subprocess.Popen(
        [*TORCHRUN, "2", str(ROOT / "selfplay.py"), *few],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while two.poll() is None and not list(
        tmp_path.glob("runs/smoke/iter1/solver.steps/*.safetensors")
    ):
        time.sleep(0.05)
    assert two.poll() is None
    os.kill(int((tmp_path / "runs/smoke/lock").read_text()), signal.SIGKILL)
    err = two.communicate()[1]
    assert "another process of this run has ended" in err and "the same command continues" in err, (
        err
    )
    code, out, err = run_here(tmp_path, *few)
    assert code == 0 and "trained Solver: runs/smoke/iter1/solver" in out, err
    for name in ("candidates.jsonl", "tasks.jsonl"):
        of_one, of_two = (f / "runs/smoke/iter1" / name for f in (tmp_path / "one", tmp_path))
        assert of_one.read_text() == of_two.read_text()
    assert len((tmp_path / "runs/smoke/log.jsonl").read_text().splitlines()) == 6  # no line twice


if __name__ == "__main__":
    worker(Path(sys.argv[1]))
