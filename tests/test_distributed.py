"""Two processes make the same update as one, and a run that lost one goes on with any number."""

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
from test_selfplay import run_here  # noqa: F401, a fixture

import distributed
import grpo
from player import Player
from rollout import Rollout
from runfolder import load_step, save_step

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
FEW = ["--smoke", "--candidates", "32", "--eval-tasks", "4"]
ROLLOUTS = [  # groups of three, three, one and two rows, with a truncated row and one without words
    *(Rollout([5, 6, 7], ids, True) for ids in ([9, 2], [8, 30, 31, 2], [12, 2])),
    *(Rollout([5], ids, ids[-1:] == [2]) for ids in ([9, 9, 9], [2], [])),
    Rollout([20, 21], [22, 23, 2], True),
    *(Rollout([40, 41, 42, 43], ids, True) for ids in ([44, 2], [45, 46, 47, 48, 2])),
]
CASES = [dict(loss=loss, beta=beta, shard=shard, checkpointing=shard)
         for loss, beta in (("grpo", 0.1), ("dapo", 0.0)) for shard in (False, True)]


def updates(case, tmp, steps=2):
    """The weights after some steps, and the metrics of the last; a sharded model is saved and read."""
    cfg = grpo.GRPOConfig(**case, lr=1e-2, micro_batch=2)
    player = Player.__new__(Player)
    player.model, player.dtype, player.copy = random_model(tie_word_embeddings=True), torch.float32, None
    reference = random_model(seed=1, tie_word_embeddings=True)
    if cfg.checkpointing:
        player.model.gradient_checkpointing_enable()
        player.model.train()
    if cfg.shard:
        player.shard(grpo.token_logprobs)
        distributed.shard(reference, grpo.token_logprobs)
    optimizer = torch.optim.SGD(player.model.parameters(), cfg.lr, momentum=0.9)
    rewards = torch.tensor([[1.0, 0, 0], [0, 1, 2], [1, 3, 2]])
    for n in range(steps):
        metrics = grpo.step(player.model, optimizer, ROLLOUTS, rewards, cfg, reference if cfg.beta else None)
        save_step(tmp, n + 1, player.model, optimizer)
    distributed.gather([])  # all wait until it is there
    with torch.no_grad():
        for p in player.model.parameters():
            p.zero_()
    assert load_step(tmp, player.model, optimizer) == steps
    assert cfg.shard == (player.speaking() is not player.model)
    return dict(player.speaking().named_parameters()), metrics


def worker(folder):
    """What each of the two processes does."""
    distributed.start("cpu")
    for n, case in enumerate(CASES):
        weights, metrics = updates(case, folder / f"steps{n}")
        more = {f"metric {name}": torch.tensor(value) for name, value in metrics.items()}
        distributed.first_alone(save_file)({k: w.detach() for k, w in weights.items()} | more, folder / f"{n}")


@pytest.fixture(autouse=True)
def one_thread():
    """As torchrun gives each process."""
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
def test_two_processes_make_the_update_of_one(n, by_two, tmp_path):
    found = load_file(by_two / str(n))
    weights, metrics = updates(CASES[n] | {"shard": False, "checkpointing": False}, tmp_path)
    for name, value in metrics.items():
        assert found[f"metric {name}"].item() == pytest.approx(value, abs=1e-6, rel=1e-5), name
    for name, weight in weights.items():
        assert (found[name] - weight).abs().max() <= 1e-6, name


def test_two_curate_the_tasks_of_one_and_after_a_kill_one_goes_on(tmp_path, run_here):  # noqa: F811
    (tmp_path / "one").mkdir()
    assert run_here(tmp_path / "one", *FEW)[0] == 0
    two = subprocess.Popen([*TORCHRUN, "2", str(ROOT / "selfplay.py"), *FEW], cwd=tmp_path, text=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while two.poll() is None and not list(tmp_path.glob("runs/smoke/iter1/solver.steps/*.safetensors")):
        time.sleep(0.05)
    os.kill(int((tmp_path / "runs/smoke/lock").read_text()), signal.SIGKILL)
    err = two.communicate()[1]
    assert "another process of this run has ended" in err and "the same command goes on" in err, err
    code, out, err = run_here(tmp_path, *FEW)
    assert code == 0 and "trained Solver: runs/smoke/iter1/solver" in out, err
    for name in ("candidates.jsonl", "tasks.jsonl"):
        of_one, of_two = (f / "runs/smoke/iter1" / name for f in (tmp_path / "one", tmp_path))
        assert of_one.read_text() == of_two.read_text()
    assert len((tmp_path / "runs/smoke/log.jsonl").read_text().splitlines()) == 6  # no line twice


def test_sharding_by_one_process_is_refused(tmp_path, run_here):  # noqa: F811
    code, _, err = run_here(tmp_path, "--smoke", "--shard")
    assert code == 2 and "torchrun --nproc_per_node 2" in err


if __name__ == "__main__":
    worker(Path(sys.argv[1]))
