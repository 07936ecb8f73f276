"""The run folder: whole files, checkpoints that are checked, one process at a time."""

import errno
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, random_model
from safetensors import SafetensorError

from config import Config
from errors import UsageError
from grpo import step
from plumbing import runfolder
from plumbing.checkpoint import load_step, save_step
from plumbing.runfolder import append, atomic_write, in_pieces, locked, read_jsonl, write_whole
from rollout import Rollout

PAIR = [Rollout([5, 6], [9, 2], True), Rollout([5, 6], [8, 2], True)]


def trained(steps, folder=None):
    """Return a random model after some GRPO steps, from `folder` if given, and its optimizer."""
    model, cfg = random_model(), Config(beta=0.0, lr=1e-3)
    optimizer = torch.optim.AdamW(model.parameters(), cfg.lr)
    for _ in range(load_step(folder, model, optimizer) if folder else 0, steps):
        step(model, optimizer, PAIR, torch.tensor([[1.0, 0.0]]), cfg)
    return model, optimizer


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))


def test_from_a_checkpoint_the_steps_go_on_to_the_same_bits(tmp_path):
    save_step(tmp_path, 2, *trained(2))
    assert same(trained(5, tmp_path)[0], trained(5)[0])


def test_a_damaged_checkpoint_is_reported_and_the_previous_one_is_used(tmp_path, capsys):
    for steps in (1, 2, 3):
        save_step(tmp_path, steps, *trained(steps))
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2  # older ones are removed
    files[1].write_bytes(files[1].read_bytes()[:-1] + b"!")
    model = random_model()
    optimizer = torch.optim.AdamW(model.parameters())
    assert load_step(tmp_path, model, optimizer) == 2 and same(model, trained(2)[0])
    assert f"{files[1]} is damaged" in capsys.readouterr().out
    files[0].write_bytes(b"")  # a truncated one
    assert load_step(tmp_path, model, optimizer) == 0


def test_a_damaged_checkpoint_is_deleted_and_pushes_out_no_good_one(tmp_path):
    for steps in (1, 3):
        save_step(tmp_path, steps, *trained(steps))
    good, damaged = sorted(tmp_path.iterdir())
    damaged.write_bytes(b"")
    model, optimizer = trained(2, tmp_path)
    assert list(tmp_path.iterdir()) == [good]
    save_step(tmp_path, 2, model, optimizer)
    kept = sorted(tmp_path.iterdir())
    assert [path.name[:6] for path in kept] == ["000001", "000002"] and kept[0] == good


def test_when_the_disk_is_full_the_earlier_file_stays_and_nothing_is_left_over(
    tmp_path, monkeypatch
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    write_whole(tmp_path / "file", "old")
    monkeypatch.setattr(runfolder.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "file", "new")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_of_a_folder_that_could_not_be_written_whole_nothing_is_left(tmp_path):
    with pytest.raises(OSError, match="solver: no room"), atomic_write(tmp_path / "solver") as part:
        part.mkdir()
        (part / "config.json").write_text("{}")
        raise SafetensorError("no room")
    assert not list(tmp_path.iterdir())


def test_finished_pieces_of_work_are_not_done_again(tmp_path):
    done, path = [], tmp_path / "pieces.jsonl"

    def work(n, piece):
        if n == 2 and not done.count(2):
            done.append(2)
            raise KeyboardInterrupt
        done.append(n)
        return [x * 10 for x in piece]

    with pytest.raises(KeyboardInterrupt):
        in_pieces(path, list(range(7)), 3, work, "title")
    path.write_text(path.read_text() + "[0, 0")  # a line that a kill cut off
    assert in_pieces(path, list(range(7)), 3, work, "title") == [0, 10, 20, 30, 40, 50, 60]
    assert done == [0, 1, 2, 2] and len(read_jsonl(path)) == 3


def test_a_line_that_cannot_be_read_is_named_by_file_and_number(tmp_path):
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"a": 1}\n\n{"a": \n')
    with pytest.raises(UsageError, match=r"tasks\.jsonl, line 3: .* Fix or delete the line"):
        read_jsonl(path)
    with pytest.raises(UsageError, match=r"gone\.jsonl: cannot be read"):
        read_jsonl(tmp_path / "gone.jsonl")
    assert read_jsonl(tmp_path / "gone.jsonl", torn=True) == []


def test_an_appended_line_that_a_kill_cut_off_is_dropped_by_its_reader(tmp_path):
    path = tmp_path / "log.jsonl"
    append(path, {"a": 1})
    append(path, {"a": float("nan")})
    with open(path, "a") as file:
        file.write('{"a": 3')
    first, second = read_jsonl(path, torn=True)
    assert first == {"a": 1} and second["a"] != second["a"]


def test_a_second_process_on_a_run_folder_is_refused_with_the_id_of_the_first(tmp_path):
    hold = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from plumbing import runfolder; import pathlib, time\n"
    hold += f"with runfolder.locked(pathlib.Path({str(tmp_path)!r})): print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(UsageError, match=f"in use by process {holder.pid}"):
            with locked(tmp_path):
                pass
        holder.kill()
    with locked(tmp_path):  # its process died, so the lock is stale and free
        pass


def test_a_step_whose_gradient_is_not_finite_changes_nothing_and_is_counted():
    model, optimizer = trained(1)
    before = [p.detach().clone() for p in model.parameters()]
    metrics = step(model, optimizer, PAIR, torch.tensor([[torch.inf, 0.0]]), Config(beta=0.0))
    assert metrics["skipped"] == 1
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
