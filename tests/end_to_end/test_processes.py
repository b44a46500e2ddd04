"""A run in several processes, real ones, on the loopback address: the same θ, one log, and what
they say when one is missing, differs or is killed.
"""

import re
import signal
import socket
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

import learned_opt
from meta_train.hosts.peers import LOST
from tests.end_to_end.commands import TRAIN, rows, start
from tests.meta_train.hosts.company import free_port

UPDATES = 120
SETTINGS = ("--preset=tiny", f"--config.updates={UPDATES}", "--config.checkpoint_every=20")
BOUND = 15.0  # seconds in which the others end once one is gone


def devices(count):
    flags = f"--xla_force_host_platform_device_count={count} --xla_backend_optimization_level=1"
    return {"XLA_FLAGS": flags}


def start_one(workdir, process, count, port, *settings, each=1):
    place = (f"--coordinator=127.0.0.1:{port}", f"--process_id={process}")
    return start(
        TRAIN,
        f"--workdir={workdir}",
        *SETTINGS,
        *place,
        f"--num_processes={count}",
        *settings,
        **devices(each),
    )


def start_all(workdir, count, *settings, each=1):
    """``count`` processes of a run, with so many devices ``each``; one is a plain command."""
    if count == 1:
        return [start(TRAIN, f"--workdir={workdir}", *SETTINGS, *settings, **devices(each))]
    port = free_port()
    return [start_one(workdir, p, count, port, *settings, each=each) for p in range(count)]


def ended(processes, seconds=400.0):
    """[(exit status, standard error)] of processes that end in time."""
    deadline = time.monotonic() + seconds
    try:
        results = []
        for process in processes:
            _, error = process.communicate(timeout=max(deadline - time.monotonic(), 0.1))
            results.append((process.returncode, error))
        return results
    finally:
        for process in processes:
            process.kill()


def finished(workdir, count, *settings, each=1):
    """The standard errors of a run that goes well."""
    results = ended(start_all(workdir, count, *settings, each=each))
    assert [code for code, _ in results] == [0] * count, results
    return [error for _, error in results]


def wait_for_rows(workdir, count, processes, seconds=400.0):
    deadline = time.monotonic() + seconds
    path = workdir / "metrics.jsonl"
    while not path.exists() or path.read_text().count("\n") < count:
        assert all(p.poll() is None for p in processes), ended(processes)
        assert time.monotonic() < deadline, ended(processes, 1)
        time.sleep(0.01)


def assert_same_run(workdir, reference):
    ours, theirs = (load_file(w / "optimizer/theta.safetensors") for w in (workdir, reference))
    assert ours.keys() == theirs.keys()
    for name, leaf in ours.items():
        np.testing.assert_allclose(leaf, theirs[name], rtol=0, atol=1e-5, err_msg=name)
    assert [row["step"] for row in rows(workdir)] == list(range(10, UPDATES + 1, 10))
    for row, other in zip(rows(workdir), rows(reference), strict=True):
        assert row["meta_loss"] == pytest.approx(other["meta_loss"], abs=1e-4)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """One process with one device."""
    workdir = tmp_path_factory.mktemp("reference") / "run"
    finished(workdir, 1)
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize(("count", "each"), [(1, 8), (2, 1), (2, 4), (4, 2)])
def test_the_same_theta_and_one_log_whatever_the_processes_and_devices(
    reference, tmp_path, count, each
):
    workdir = tmp_path / "run"
    first, *others = finished(workdir, count, each=each)
    assert_same_run(workdir, reference)
    assert f"16 particles on {count * each} cpu device(s)" in first
    for error in others:  # people are spoken to by the first alone
        told = [line for line in error.splitlines() if "Gloo" not in line and line.strip()]
        assert [line for line in told if not line.startswith("waiting for process 0")] == []
    (process,) = learned_opt.describe(workdir / "optimizer")["meta_training"]["processes"]
    assert process["processes"] == count
    assert len(process["devices"]) == count * each
    assert len(list((workdir / "tensorboard").iterdir())) == 1
    writers = [path.name for path in (workdir / f"checkpoints/{UPDATES}/state").glob("ocdbt.*")]
    assert sorted(writers) == [f"ocdbt.process_{p}" for p in range(count)]
    assert not (workdir / ".shared").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "number"),
    [(2, 1, signal.SIGTERM), (1, 2, signal.SIGTERM), (4, 2, signal.SIGINT)],
)
def test_a_signal_to_one_stops_all_and_another_number_goes_on(
    reference, tmp_path, before, after, number
):
    workdir = tmp_path / "run"
    processes = start_all(workdir, before, each=2 // before or 1)
    wait_for_rows(workdir, 3, processes)
    processes[-1].send_signal(number)
    results = ended(processes, 60)
    assert [code for code, _ in results] == [128 + number] * before, results
    stopped = re.search(rf"stopped by {number.name} after update (\d+) of", results[0][1])
    assert stopped, results
    assert 30 <= int(stopped[1]) < UPDATES
    first, *_ = finished(workdir, after)
    assert f"resuming after update {stopped[1]}" in first
    assert f"note: processes was {before} and is {after}" in first
    assert_same_run(workdir, reference)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "victim"), [(2, 0), (2, 1), (4, 2)])
def test_killed_one_the_others_end_soon_and_the_run_goes_on(reference, tmp_path, count, victim):
    workdir = tmp_path / "run"
    processes = start_all(workdir, count)
    wait_for_rows(workdir, 5, processes)
    processes[victim].kill()
    killed = time.monotonic()
    results = ended(processes, BOUND)
    assert time.monotonic() - killed < BOUND
    for process, (code, error) in enumerate(results):
        if process == victim:
            assert code == -signal.SIGKILL
            continue
        assert code == LOST, results
        assert re.search(rf"error: process {victim} \(.*, pid {processes[victim].pid}\) is", error)
        assert "the same commands go on from the last checkpoint" in error
        assert "Traceback" not in error
        assert "Check failure" not in error  # of JAX's runtime in C++
    first, *_ = finished(workdir, count)
    assert "resuming after update" in first
    assert_same_run(workdir, reference)


@pytest.mark.slow
def test_one_that_hangs_is_given_up(tmp_path):
    """Its connection stays open, and the collective would wait for it for ever."""
    processes = start_all(tmp_path / "run", 2, "--peer_timeout=15")
    wait_for_rows(tmp_path / "run", 2, processes)
    processes[1].send_signal(signal.SIGSTOP)
    ((code, error),) = ended(processes[:1], 45)
    processes[1].kill()
    processes[1].communicate()
    assert code == LOST
    assert re.search(r"process 1 \(.*\) is gone: it was silent for 15 s", error)


@pytest.mark.slow
def test_a_directory_of_another_run_is_told_to_all(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    results = ended(start_all(tmp_path, 2), 120)
    assert [code for code, _ in results] == [2, LOST]
    for _, error in results:
        assert "is not empty and holds no config.json" in error


@pytest.mark.slow
def test_killed_while_the_others_wait_for_it_at_the_beginning(tmp_path):
    """Process 1 of three dies while it waits for process 2; process 0 names both."""
    port = free_port()
    zero = start_one(tmp_path / "run", 0, 3, port, "--join_timeout=12")
    one = start_one(tmp_path / "run", 1, 3, port, "--join_timeout=60")
    time.sleep(6)
    one.kill()
    (code, error), _ = ended([zero, one], 60)
    assert code == 2
    assert f"--coordinator=127.0.0.1:{port}: --process_id 1, 2 of 3 did not come in 12 s" in error


def test_a_peer_that_does_not_come_is_named_with_the_address(tmp_path):
    port = free_port()
    started = time.monotonic()
    zero = start_one(tmp_path / "run", 0, 3, port, "--join_timeout=2")
    ((code, error),) = ended([zero], 60)
    assert time.monotonic() - started < 45
    assert code == 2
    assert f"--coordinator=127.0.0.1:{port}: --process_id 1, 2 of 3 did not come in 2 s" in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_what_is_wrong_at_the_beginning_is_told_by_all(tmp_path):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        ((code, error),) = ended([start_one(tmp_path / "run", 0, 2, port)], 60)
    assert code == 2
    assert f"127.0.0.1:{port}: process 0 cannot listen there (Address already in use)" in error

    differing = "config.seed is 0 in process 0 and 7 in 1"
    zero = start_one(tmp_path / "run", 0, 2, port)
    one = start_one(tmp_path / "run", 1, 2, port, "--config.seed=7")
    for code, error in ended([zero, one], 90):
        assert code == 2
        assert differing in error

    zero = start_one(tmp_path / "run", 0, 2, port, "--config.particles=6")
    one = start_one(tmp_path / "run", 1, 2, port, "--config.particles=6")
    for code, error in ended([zero, one], 90):
        assert code in (2, LOST)
        assert "--num_processes=2 does not divide the 3 rows" in error


@pytest.mark.slow
def test_a_directory_that_is_not_shared_is_refused(tmp_path):
    port = free_port()
    processes = [start_one(tmp_path / f"run{p}", p, 2, port) for p in range(2)]
    (tmp_path / "run1").mkdir()
    for code, error in ended(processes, 120):
        assert code in (2, LOST)
        assert "process 1 does not see there what process 0 writes" in error
