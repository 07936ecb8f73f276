"""The benchmarks run, at toy size."""

import json
import runpy
import sys

import pytest


@pytest.fixture
def script(monkeypatch):
    """Run a module of perf/ with arguments."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_module(f"perf.{name}", run_name="__main__")

    return run


def test_the_benchmark_for_a_gpu_runs_on_a_cpu_at_toy_size(script, capsys):
    script("gpu", "--shapes", "toy")
    *_, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    assert found["limits"]["bytes"] > 1e6 and found["limits"]["operations"] > 1e6
    done = [(row["what"], row["rows"]) for row in found["rows"] if "TRL" not in row["what"]]
    assert done == [
        *(("rollout", 8), ("generate", 8), ("rollout", 16), ("generate", 16)),
        *(("update", 64), ("step", 64)),
    ]
    for row in found["rows"]:
        assert 0 < row["tokens/s"] < float("inf")
        assert (row["of limit"] or 0) < 1 and bool(row["of limit"]) == (
            row["what"] in ("rollout", "update")
        )


def test_the_table_of_what_fits_has_a_cell_for_each_model_and_gpu(script, capsys):
    script("fits")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        f"Qwen2.5-{size}B" for size in ("0.5", "1.5", "3", "7")
    ]
    assert len({line.count("|") for line in lines}) == 1
