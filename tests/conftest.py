"""What the tests share: the path of the code, small random models, and runs of the command."""

import os
import signal
import subprocess
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # no test uses the hub; without it, requests would take long
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("TOOLR0_SHARED", ROOT.parent / "shared"))
ORACLE = Path(__file__).resolve().parent / "oracle"
sys.path.insert(0, str(ROOT))
torch.set_num_threads(min(2, torch.get_num_threads()))  # small models gain nothing from more


def random_model(cls=Qwen2ForCausalLM, config=Qwen2Config, seed: int = 0, **changes):
    """Return a tiny model with random weights, large enough that greedy choices have no ties."""
    torch.manual_seed(seed)
    shape = dict(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = cls(config(**{**shape, **changes}))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0, 0.3)
    return model.eval()


@pytest.fixture
def model():
    return random_model()


def on_cpu(options: tuple[str, ...]) -> list[str]:
    """Return the options of a run on the CPU, where equal runs are equal bit for bit."""
    return [*options] if "--device" in options else [*options, "--device", "cpu"]


def run_apart(folder: Path, *options: str) -> subprocess.CompletedProcess:
    """Run `python selfplay.py` in a process of its own, with as many threads as here."""
    return subprocess.run(
        [sys.executable, str(ROOT / "selfplay.py"), *on_cpu(options)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> tuple[Path, str]:
    """Return folder and output of one smoke run, for all tests that read it or a copy of it."""
    folder = tmp_path_factory.mktemp("smoke")
    done = run_apart(folder, "--smoke")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture
def four_tasks(tmp_path) -> list[str]:
    """Return the options of a smoke run that evaluates only four tasks."""
    lines = (ROOT / "tiny/heldout.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "four.jsonl").write_text("".join(lines[:4]), encoding="utf-8")
    return ["--smoke", "--heldout", str(tmp_path / "four.jsonl")]


@pytest.fixture
def run_here(monkeypatch, capsys):
    """Return a function that runs the command in this process: exit code, output, errors."""
    import selfplay
    from plumbing import cli, report

    def run(folder: Path, *options: str) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        try:
            code = cli.main(selfplay.__doc__, selfplay.selfplay, on_cpu(options))
        except SystemExit as left:
            code = left.code
        return code, *capsys.readouterr()

    monkeypatch.setattr(report, "picture", lambda folder: "")  # the whole smoke run draws one
    before = signal.getsignal(signal.SIGINT)
    yield run
    signal.signal(signal.SIGINT, before)
    torch.use_deterministic_algorithms(False)
