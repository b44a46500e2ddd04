"""The host loop: calls of any length leave the same log, and a stop is heeded in the middle."""

import dataclasses
import os
import re
import signal
import time
from typing import NamedTuple

import jax
import numpy as np
import pytest

from checkpoints import TrainingCheckpoints
from learned_opt import read
from meta_train.assemble import assemble
from meta_train.config import ConfigError
from meta_train.loop import compile_advance, train
from meta_train.metrics import read_rows
from meta_train.presets import TINY
from meta_train.runner import meta_train, resume_or_init
from meta_train.workdir import begin_workdir
from tasks import Task
from tests.meta_train.stubs import scalar_family

CONFIG = dataclasses.replace(
    TINY,
    task="quadratic32",
    devices=1,
    particles=4,
    updates=40,
    log_every=20,
    checkpoint_every=20,
)
TIMES = ("seconds", "inner_steps_per_second")


class Trained(NamedTuple):
    outcome: object
    calls: list
    seconds: float


@pytest.fixture(scope="module")
def compiled():
    run = assemble(CONFIG)
    return run, compile_advance(run, run.training.init(run.key_init))


def trained(compiled, workdir, call=lambda count, calls: None):
    """Train, or go on; ``call`` happens at every call of the compiled step."""
    run, advance = compiled
    workdir.mkdir(exist_ok=True)
    checkpoints = TrainingCheckpoints(workdir / "checkpoints", keep=3, run={})
    calls = []

    def counted(state, count, key, data):
        calls.append(int(count))
        call(int(count), calls)
        state, metrics = advance(state, count, key, data)
        return state, metrics

    started = time.monotonic()
    outcome = train(run, counted, resume_or_init(run, checkpoints), workdir, checkpoints)
    checkpoints.close()
    return Trained(outcome, calls, time.monotonic() - started)


def rows(workdir):
    found = read_rows(workdir / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in TIMES} for row in found]


@pytest.fixture(scope="module")
def undisturbed(compiled, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    outcome, calls, _ = trained(compiled, workdir)
    assert sum(calls) == outcome.step == outcome.advanced == 40
    assert [row["step"] for row in rows(workdir)] == [20, 40]
    return workdir, jax.device_get(outcome.state)


@pytest.fixture
def slow(monkeypatch):
    """Seconds by which to hold up an update, so that three fit into a call."""
    monkeypatch.setattr("meta_train.pace.CALL_SECONDS", 0.1)
    return 0.03


def test_slow_updates_make_short_calls_and_the_same_log(compiled, undisturbed, tmp_path, slow):
    _, calls, _ = trained(compiled, tmp_path, lambda count, calls: time.sleep(slow * count))
    assert max(calls) <= 3
    assert rows(tmp_path) == rows(undisturbed[0])


def test_one_call_at_a_time_where_an_update_takes_long(compiled, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("meta_train.pace.CALL_SECONDS", 1e-9)
    monkeypatch.setattr("meta_train.pace.LONG_UPDATE_SECONDS", 1e-9)
    outcome, calls, _ = trained(compiled, tmp_path)
    assert calls == [1] * 40
    assert outcome.step == 40
    assert capsys.readouterr().err.count("note: an update takes more than") == 1


@pytest.mark.parametrize("after", [2, 22])
def test_a_stop_in_the_middle_of_a_row_leaves_no_gap_and_no_repeat(
    compiled, undisturbed, tmp_path, slow, after
):
    stopped_at = []

    def call(count, calls):
        time.sleep(slow * count)
        if sum(calls) > after and not stopped_at and sum(calls) % CONFIG.log_every:
            stopped_at.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGTERM)

    outcome, calls, _ = trained(compiled, tmp_path, call)
    assert time.monotonic() - stopped_at[0] < 10
    assert outcome.stopped_by is signal.SIGTERM
    assert outcome.step % CONFIG.log_every  # not at the end of a row
    assert outcome.step == sum(calls)
    assert [row["step"] for row in rows(tmp_path)] == [20] * (outcome.step > 20)
    again, _, _ = trained(compiled, tmp_path)
    assert again.advanced == 40 - outcome.step
    assert rows(tmp_path) == rows(undisturbed[0])
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again.state), undisturbed[1])


def sick_family(steps=5):
    """Training runs of every second task give NaN from step ``steps`` on."""
    family = scalar_family()

    def build(cfg):
        healthy = family.build({})

        def loss(params, model_state, key, batch):
            value, rest = healthy.loss(params, model_state, key, batch)
            return jax.numpy.where(cfg["sick"] & (model_state >= steps), np.nan, value), rest

        return Task(healthy.init, loss)

    return family._replace(sample=lambda key: {"sick": jax.random.bernoulli(key)}, build=build)


def test_particles_that_turn_to_nan_are_counted_in_the_log_the_result_and_the_report(
    tmp_path, capsys
):
    config = dataclasses.replace(CONFIG, task="scalar", length_min=10, length_max=10)
    run = assemble(config, sick_family())
    tmp_path.joinpath("run").mkdir()
    assert meta_train(run, tmp_path / "run") == 0
    logged = rows(tmp_path / "run")
    windows = config.updates * config.particles // 2
    counted = round(sum(row["diverged"] * config.log_every for row in logged))
    assert 0.1 < counted / windows < 0.4  # half of the tasks, in their second windows
    assert all(row["theta_norm"] > 0 and row["skipped_updates"] == 0 for row in logged)
    optimizer = read(tmp_path / "run/optimizer")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(optimizer.theta))
    met = optimizer.manifest["meta_training"]
    assert (met["diverged_windows"], met["skipped_updates"]) == (counted, 0)
    assert f"{counted} of {windows} windows of pairs had a loss" in capsys.readouterr().err


def finished(config, workdir):
    workdir.mkdir(exist_ok=True)
    assert meta_train(assemble(config), workdir) == 0
    return read(workdir / "optimizer")


@pytest.mark.slow
def test_a_run_that_skips_too_much_ends_saved_and_can_go_on(tmp_path):
    """With a limit at the median itself many updates explode, once there is a median."""
    strict = dataclasses.replace(CONFIG, gradient_limit=1.0001, updates=120, max_skipped=3)
    workdir = tmp_path / "run"
    workdir.mkdir()
    told = r"\d+ updates in a row were skipped, `config.max_skipped`=3: .* update (\d+) is saved"
    with pytest.raises(ConfigError, match=told) as ended:
        meta_train(assemble(strict), workdir)
    saved = int(re.search(told, str(ended.value))[1])
    assert 64 < saved < 120
    newest = max(int(path.name) for path in (workdir / "checkpoints").iterdir())
    assert newest == saved
    assert not (workdir / "optimizer").exists()

    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=f"update {saved} is saved"):
        meta_train(assemble(strict), workdir)  # the same again: nothing is trained
    assert before == {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}

    patient = dataclasses.replace(strict, max_skipped=1000)
    begin_workdir(workdir, patient)  # this setting may change from one process to the next
    ours = finished(patient, workdir)
    theirs = finished(patient, tmp_path / "patient")
    jax.tree.map(np.testing.assert_array_equal, ours.theta, theirs.theta)
    assert rows(workdir) == rows(tmp_path / "patient")
    skipped = ours.manifest["meta_training"]["skipped_updates"]
    assert skipped == sum(row["skipped_updates"] for row in rows(workdir)) > 3
