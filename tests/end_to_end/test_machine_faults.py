"""What machines do to a run: a full disk, a directory that becomes read-only, a second process,
a clock that is set, a signal while updates are long. It says so, and goes on bit for bit.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.end_to_end.commands import TRAIN, environment, rows, run, start, theta
from tests.end_to_end.kills import tensorboard_steps

UPDATES = 1000
SETTINGS = (
    "--preset=tiny",
    "--config.task=quadratic32",
    "--config.devices=2",
    "--config.particles=4",
    f"--config.updates={UPDATES}",
)
OFTEN_SAVED = (*SETTINGS, "--config.checkpoint_every=20")
OFTEN_LOGGED = (*SETTINGS, "--config.checkpoint_every=1000")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    code, _, error = run(TRAIN, f"--workdir={workdir}", *OFTEN_LOGGED)
    assert code == 0, error
    return workdir


def goes_on_as_undisturbed(workdir, settings, undisturbed):
    code, output, error = run(TRAIN, f"--workdir={workdir}", *settings)
    assert (code, output) == (0, ""), error
    assert theta(workdir) == theta(undisturbed)
    ours, theirs = rows(workdir), rows(undisturbed)
    assert [row["step"] for row in ours] == list(range(10, UPDATES + 1, 10))
    assert [row["meta_loss"] for row in ours] == [row["meta_loss"] for row in theirs]
    assert tensorboard_steps(workdir / "tensorboard") == [row["step"] for row in ours]
    return error


def wait_until(condition, process):
    deadline = time.monotonic() + 200
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def count_rows(workdir):
    path = workdir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def ended(process):
    """The last line of a process that ended by itself, with 1 and no traceback."""
    output, error = process.communicate(timeout=120)
    assert process.returncode == 1, error
    assert output == ""
    assert "Traceback" not in error
    return error.strip().splitlines()[-1]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 16 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16m", "none", disk], check=False
        ).returncode
    ):
        pytest.skip("a file system cannot be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk, leave):
    """Write to the disk until ``leave`` bytes are free."""
    with open(disk / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            if free <= leave:
                break
            file.write(bytes(min(free - leave, 1 << 20)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "leave"), [(OFTEN_LOGGED, 0), (OFTEN_SAVED, 40_000)], ids=["log", "checkpoint"]
)
def test_a_disk_that_fills_up_in_the_middle(undisturbed, small_disk, settings, leave):
    """Where a row of the log does not fit, and where only a checkpoint does not."""
    workdir = small_disk / "run"
    process = start(TRAIN, f"--workdir={workdir}", *settings)
    wait_until(lambda: count_rows(workdir) >= 5, process)
    fill(small_disk, leave)
    last = ended(process)
    assert last.startswith("error: no space left"), last
    assert last.endswith("free some and run the same command"), last

    code, _, error = run(TRAIN, f"--workdir={workdir}", *settings)  # still full
    assert code in (1, 2), error
    assert "no space left" in error
    assert "Traceback" not in error
    (small_disk / "filler").unlink()
    error = goes_on_as_undisturbed(workdir, settings, undisturbed)
    assert ("resuming after update" in error) == (settings is OFTEN_SAVED)


@pytest.fixture
def read_only():
    """A function that lets nothing more be made in a folder."""
    frozen = []

    def freeze(folder):
        if os.geteuid():
            folder.chmod(0o555)
        elif subprocess.run(
            ["chattr", "+i", folder], check=False, stderr=subprocess.DEVNULL
        ).returncode:
            pytest.skip("a folder cannot be made read-only here")
        frozen.append(folder)

    def thaw():
        for folder in frozen:
            if os.geteuid():
                folder.chmod(0o755)
            else:
                subprocess.run(["chattr", "-i", folder], check=True)
        frozen.clear()

    yield freeze, thaw
    thaw()


@pytest.mark.slow
def test_checkpoints_that_become_read_only_in_the_middle(undisturbed, tmp_path, read_only):
    freeze, thaw = read_only
    workdir = tmp_path / "run"
    process = start(TRAIN, f"--workdir={workdir}", *OFTEN_SAVED)
    wait_until(lambda: count_rows(workdir) >= 5, process)
    freeze(workdir / "checkpoints")
    last = ended(process)
    assert last.startswith("error: a checkpoint could not be written to"), last
    assert re.search("not permitted|ermission denied|[Rr]ead-only", last), last

    line = ended(start(TRAIN, f"--workdir={workdir}", *OFTEN_SAVED))  # still read-only
    assert "could not be written to" in line
    thaw()
    error = goes_on_as_undisturbed(workdir, OFTEN_SAVED, undisturbed)
    assert "resuming after update" in error


@pytest.mark.slow
def test_a_second_process_in_the_same_directory_is_refused(undisturbed, tmp_path):
    workdir = tmp_path / "run"
    first = start(TRAIN, f"--workdir={workdir}", *OFTEN_SAVED)
    wait_until(lambda: (workdir / "config.json").exists(), first)
    first.send_signal(signal.SIGSTOP)  # or it may end before the second looks
    code, output, error = run(TRAIN, f"--workdir={workdir}", *OFTEN_SAVED)
    first.send_signal(signal.SIGCONT)
    assert (code, output) == (2, "")
    (line,) = error.strip().splitlines()
    assert line.startswith(f"error: another process works in --workdir='{workdir}'; wait for it")
    assert first.communicate(timeout=200)[0] == ""
    assert first.returncode == 0
    assert len(rows(workdir)) == UPDATES // 10
    assert theta(workdir) == theta(undisturbed)


CLOCK_THAT_IS_SET = """
import random, runpy, sys, time
chance, real, offset = random.Random(0), time.time, 0.0
def jumping():
    global offset
    if chance.random() < 0.05:
        offset = chance.uniform(-1e9, 1e9)
    return real() + offset
time.time, time.time_ns = jumping, lambda: int(jumping() * 1e9)
sys.argv[0] = "meta_train"
runpy.run_module("meta_train", run_name="__main__")
"""


@pytest.mark.slow
def test_a_clock_that_jumps_by_years_changes_nothing(undisturbed, tmp_path):
    workdir = tmp_path / "run"
    settings = (*SETTINGS, "--config.checkpoint_every=100")
    jumping = subprocess.Popen(
        [sys.executable, "-c", CLOCK_THAT_IS_SET, f"--workdir={workdir}", *settings],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: (workdir / "checkpoints/200").exists(), jumping)
    jumping.send_signal(signal.SIGTERM)
    _, error = jumping.communicate(timeout=60)
    assert jumping.returncode == 128 + signal.SIGTERM, error
    assert "saved; the same command goes on" in error
    goes_on_as_undisturbed(workdir, settings, undisturbed)
    assert all(0 <= row["seconds"] < 100 for row in rows(workdir))


@pytest.mark.slow
def test_ten_seconds_are_enough_to_stop_a_run_whose_rows_take_minutes(tmp_path):
    workdir = tmp_path / "run"
    long = ("--window=100", "--length_min=100", "--length_max=100", "--updates=2000")
    rare = ("--log_every=2000", "--checkpoint_every=2000")
    settings = [argument.replace("--", "--config.") for argument in (*long, *rare)]
    process = start(TRAIN, "--preset=tiny", f"--workdir={workdir}", *settings)
    for line in process.stderr:
        if "compiled in" in line:
            break
    time.sleep(5)
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert time.monotonic() - sent < 10
    assert process.returncode == 128 + signal.SIGTERM, error
    (stopped,) = re.findall(r"stopped by SIGTERM after update (\d+) of 2000, saved", error)
    assert 0 < int(stopped) < 2000
    assert [path.name for path in (workdir / "checkpoints").iterdir()] == [stopped]
