"""`python -m meta_train`, whole: it runs, resumes bit for bit however it ended, and says so."""

import json
import random
import re
import signal
import time

import jax
import numpy as np
import pytest

import learned_opt
from meta_train.presets import TINY
from tests.end_to_end.commands import TRAIN, rows, run, start, theta

SETTINGS = ("--preset=tiny", "--config.updates=400", "--config.checkpoint_every=40")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    started = time.perf_counter()
    code, _, error = run(TRAIN, f"--workdir={workdir}", *SETTINGS)
    assert code == 0, error
    return workdir, error, time.perf_counter() - started


@pytest.mark.slow
def test_the_tiny_preset_runs_all_of_it_in_under_thirty_seconds(tmp_path):
    cold = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    started = time.perf_counter()
    code, output, error = run(TRAIN, "--preset=tiny", f"--workdir={tmp_path / 'run'}", **cold)
    seconds = time.perf_counter() - started
    assert code == 0, error
    assert output == ""
    assert "16 particles on 2 cpu device(s)" in error  # as XLA_FLAGS has it
    assert seconds < 30
    assert TINY.particles // 2 >= 8
    steps = [int(path.name) for path in (tmp_path / "run/checkpoints").iterdir()]
    assert sorted(steps) == [20, 40, 60]
    assert learned_opt.load(tmp_path / "run/optimizer")
    assert any((tmp_path / "cache").iterdir())


def test_what_a_run_leaves(undisturbed):
    workdir, error, _ = undisturbed
    logged = rows(workdir)
    assert [row["step"] for row in logged] == list(range(10, 401, 10))
    for row in logged:
        assert 0 < row["meta_loss"] < 1.5 * np.log(10)
        assert row["inner_steps_per_second"] > 0
        assert row["diverged"] == 0
        assert {"meta_gradient_norm", "theta_norm", "sign_gap", "age", "restarts"} <= set(row)
    assert re.search(r"[\d,]+ inner steps per second, compilation apart", error)
    assert re.search(r"100%.*400/400.*meta-loss \d", error.replace("\r", "\n"))
    assert f"tx = learned_opt.load('{workdir}/optimizer')" in error

    config = json.loads((workdir / "config.json").read_text())
    assert (config["updates"], config["window"]) == (400, TINY.window)
    (process,) = json.loads((workdir / "provenance.json").read_text())
    assert process["versions"]["jax"] == jax.__version__
    assert {"git_revision", "machine", "devices", "block"} <= set(process)
    assert process["command"].startswith("python -m meta_train --workdir=")
    envelope = learned_opt.describe(workdir / "optimizer")["meta_training"]
    assert envelope["tasks"][0]["name"] == "fashion_mnist_8x8_mlp32"
    assert envelope["horizons"] == [10, 40]
    assert envelope["inner_steps"] == 400 * 16 * 5
    assert envelope["seconds"] == pytest.approx(sum(row["seconds"] for row in logged), abs=0.1)
    assert envelope["processes"] == [process]


def test_a_finished_run_stays_as_it_is(undisturbed):
    workdir, _, _ = undisturbed
    before = contents(workdir)
    code, _, error = run(TRAIN, f"--workdir={workdir}", *SETTINGS)
    assert code == 0, error
    assert contents(workdir) == before


def contents(workdir):
    return {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}


def wait_until(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def logged(workdir):
    path = workdir / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def checkpoint_is_being_written(workdir):
    folder = workdir / "checkpoints"
    return folder.exists() and any("tmp" in path.name for path in folder.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_several_moments_it_ends_bit_for_bit_the_same(undisturbed, tmp_path, seed):
    """Before the first row, while a checkpoint is written, and at random moments of the loop."""
    workdir = tmp_path / "run"
    chance = random.Random(seed)
    early, late = chance.randint(8, 18), chance.randint(20, 30)
    moments = [
        lambda: workdir.exists(),
        lambda: (workdir / "config.json").exists(),
        lambda: checkpoint_is_being_written(workdir),
        lambda: logged(workdir) >= early,
        lambda: logged(workdir) >= late,
        lambda: checkpoint_is_being_written(workdir),
    ]
    for moment in moments:
        process = start(TRAIN, f"--workdir={workdir}", *SETTINGS)
        wait_until(moment, process)
        time.sleep(chance.uniform(0, 0.1))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    code, _, error = run(TRAIN, f"--workdir={workdir}", *SETTINGS)
    assert code == 0, error
    assert "resuming after update" in error
    assert theta(workdir) == theta(undisturbed[0])
    assert [row["step"] for row in rows(workdir)] == list(range(10, 401, 10))
    for ours, theirs in zip(rows(workdir), rows(undisturbed[0]), strict=True):
        assert ours["meta_loss"] == theirs["meta_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_says_how_to_go_on(undisturbed, tmp_path, number):
    workdir = tmp_path / "run"
    process = start(TRAIN, f"--workdir={workdir}", *SETTINGS)
    wait_until(lambda: logged(workdir) >= 6, process)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number, error
    stopped = re.search(
        rf"stopped by {number.name} after update (\d+) of 400, saved; the same command", error
    )
    assert stopped, error
    assert (workdir / "checkpoints" / stopped[1]).is_dir()
    assert not (workdir / "optimizer").exists()
    code, _, error = run(TRAIN, f"--workdir={workdir}", *SETTINGS)
    assert code == 0, error
    assert f"resuming after update {stopped[1]}" in error
    assert theta(workdir) == theta(undisturbed[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_a_signal_before_the_first_update_ends_it_at_once(tmp_path, number, seconds):
    """While modules are imported, or the data read and the program compiled."""
    settings = (*SETTINGS, "--config.seed=77")
    process = start(TRAIN, f"--workdir={tmp_path / 'run'}", *settings)
    time.sleep(seconds)
    process.send_signal(number)
    output, error = process.communicate(timeout=20)
    assert process.returncode == 128 + number, error
    assert output == ""
    assert "Traceback" not in error
    assert "Exception ignored" not in error
    assert f"stopped by {number.name}" in error
    assert "the same command goes on" in error


@pytest.mark.slow
def test_another_seed_is_another_optimizer(undisturbed, tmp_path):
    code, _, error = run(TRAIN, f"--workdir={tmp_path / 'run'}", *SETTINGS, "--config.seed=1")
    assert code == 0, error
    assert theta(tmp_path / "run") != theta(undisturbed[0])
