"""Streamed runs: the data of every update, read ahead, and the same after a stop or a kill."""

import dataclasses
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from checkpoints import TrainingCheckpoints
from meta_train.assemble import assemble
from meta_train.config import ConfigError, check_config
from meta_train.feed import Feed
from meta_train.loop import compile_advance, train
from meta_train.memory import predict
from meta_train.parallel import device_mesh
from meta_train.presets import TINY
from meta_train.runner import resume_or_init
from tasks import get_streamed_family
from tests.end_to_end import commands
from tests.end_to_end.test_processes import assert_same_run, finished
from tests.meta_train.test_loop import rows
from tests.tasks.prepared_sets import prepare

CONFIG = dataclasses.replace(
    TINY,
    task="shapes_4x4_softmax",
    devices=1,
    particles=4,
    updates=20,
    log_every=10,
    checkpoint_every=10,
    stream_pool=16,
    stream_every=3,
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = prepare(tmp_path_factory.mktemp("tfds"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(directory))
        patch.setenv("LEARNED_OPT_CACHE", str(directory / "cache"))
        yield directory


@pytest.fixture(scope="module")
def compiled(data_dir):
    run = assemble(CONFIG)
    return run, compile_advance(run, run.training.init(run.key_init))


class KilledError(Exception):
    """In place of a kill: nothing of the loop is done after it."""


def trained(compiled, workdir, until=CONFIG.updates):
    """(outcome, [(step, count, data)]) of a loop that is killed before it passes ``until``."""
    run, advance = compiled
    workdir.mkdir(exist_ok=True)
    checkpoints = TrainingCheckpoints(workdir / "checkpoints", keep=3, run={})
    state = resume_or_init(run, checkpoints)
    step, seen = int(state.step), []

    def recorded(state, count, key, data):
        nonlocal step
        if step + int(count) > until:
            raise KilledError
        seen.append((step, int(count), data))
        step += int(count)
        return advance(state, count, key, data)

    try:
        outcome = train(run, recorded, state, workdir, checkpoints)
    except KilledError:
        outcome = None
        checkpoints.wait()
    checkpoints.close()
    return outcome, seen


@pytest.fixture(scope="module")
def undisturbed(compiled, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    outcome, seen = trained(compiled, workdir)
    return workdir, jax.device_get(outcome.state), seen


def same(left, right):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(left), jax.device_get(right))


def test_every_update_sees_its_pool_and_no_call_straddles_a_refresh(compiled, undisturbed):
    family = get_streamed_family(CONFIG.task, rows=16, seed=CONFIG.seed)
    _, _, seen = undisturbed
    assert sum(count for _, count, _ in seen) == CONFIG.updates
    for step, count, data in seen:
        assert step // 3 == (step + count - 1) // 3
        same(data["train"], dict(family.pool(step // 3)))
    assert len({np.asarray(data["train"]["label"]).tobytes() for _, _, data in seen}) == 7


@pytest.mark.parametrize("until", [10, 14, 19])
def test_a_killed_run_goes_on_with_the_right_pool_bit_for_bit(
    compiled, undisturbed, tmp_path, until
):
    workdir, state, _ = undisturbed
    outcome, _ = trained(compiled, tmp_path, until)
    assert outcome is None
    outcome, second = trained(compiled, tmp_path)
    assert second[0][0] == 10  # the checkpoint, in the middle of a refresh
    same(outcome.state, state)
    assert rows(tmp_path) == rows(workdir)


def test_the_data_decide_what_is_learned(compiled, undisturbed, tmp_path):
    """Updates made with the first pool throughout end elsewhere."""
    run, advance = compiled
    state, _ = advance(
        run.training.init(run.key_init), np.int32(CONFIG.updates), run.key_updates, run.data
    )
    theta = jax.tree.leaves(jax.device_get(state.theta))
    assert any((a != b).any() for a, b in zip(theta, jax.tree.leaves(undisturbed[1].theta)))  # noqa: B905


def kinds(data):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), data)


def test_tasks_of_a_list_are_streamed_together(data_dir):
    listed = "shapes_4x4_softmax,shapes_8x8_mlp4"
    run = assemble(dataclasses.replace(CONFIG, task=listed, tasks_per_update=1))
    with Feed(run) as feed:
        for step in (0, 2, 3, 7):
            data = feed.at(step)
            assert set(data) == set(run.data)
            for family in run.families:
                same(data[family.name]["train"], dict(family.pool(step // 3)))
            assert kinds(data) == kinds(run.data)  # for the programs that there are


def slow_run(seconds, updates=12, every=2):
    """A run of one task whose pools take so long to read; a pool is its number."""

    def pool(refresh):
        time.sleep(seconds)
        return {"x": np.full(3, refresh)}

    family = SimpleNamespace(name="slow", pool=pool)
    return SimpleNamespace(
        config=SimpleNamespace(stream_every=every, updates=updates),
        families=(family,),
        family=family,
        mesh=device_mesh(1, jax.devices()[:1]),
        data={"train": {"x": np.zeros(3)}, "inner_validation": 7},
    )


def test_reading_ahead_overlaps_with_the_updates():
    """Six pools of 0.2 s and six times two updates of 0.1 s: 1.4 s together, 2.2 s in turn."""
    started = time.perf_counter()
    with Feed(slow_run(0.2)) as feed:
        for step in range(12):
            data = feed.at(step)
            assert data["inner_validation"] == 7
            assert (np.asarray(data["train"]["x"]) == step // 2).all()
            time.sleep(0.1)
    seconds = time.perf_counter() - started
    assert seconds < 1.8, seconds


def test_a_feed_resumes_anywhere_and_reads_nothing_that_no_update_sees():
    read = []
    run = slow_run(0)
    pool = run.family.pool
    run.family.pool = lambda refresh: read.append(refresh) or pool(refresh)
    with Feed(run) as feed:
        assert [feed.updates(step, 10) for step in (7, 8)] == [1, 2]
        assert (np.asarray(feed.at(7)["train"]["x"]) == 3).all()
        feed.at(11)
    assert read == [3, 4, 5]
    run.config.stream_every = 0
    run.family.pool = None
    with Feed(run) as feed:
        assert feed.at(11) is run.data
        assert feed.updates(7, 10) == 10


def test_a_pool_that_cannot_be_read_ends_the_run_with_its_reason():
    run = slow_run(0)

    def fail(refresh):
        raise OSError(f"pool {refresh} is gone")

    run.family.pool = fail
    with Feed(run) as feed:
        feed.at(0)
        with pytest.raises(OSError, match="pool 1 is gone"):
            feed.at(2)


def test_the_pools_ahead_are_in_the_predicted_memory(compiled, data_dir):
    run, _ = compiled
    pool = sum(x.nbytes for x in jax.tree.leaves(run.data["train"]))
    assert predict(run).data == sum(x.nbytes for x in jax.tree.leaves(run.data)) + 2 * pool


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stream_every": 0}, "`config.stream_pool`=16 and `config.stream_every`=0 go together"),
        ({"stream_pool": 0}, "`config.stream_pool`=0 and `config.stream_every`=3 go together"),
        ({"stream_pool": -1}, "`config.stream_pool`=-1: must be at least 0"),
        ({"task": "quadratic8"}, "`config.stream_pool`=16: the task 'quadratic8' has no TFDS"),
        ({"task": "shapes_4x4_softmax,quadratic8"}, "'quadratic8' has no TFDS .* at 0, or change"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together_are_refused(changes, message):
    check_config(CONFIG)
    with pytest.raises(ConfigError, match=message):
        check_config(dataclasses.replace(CONFIG, **changes))


def test_a_pool_larger_than_the_set_is_refused(data_dir):
    with pytest.raises(ConfigError, match=r"`config.stream_pool`=41: a pool of 41 images: .* 40"):
        assemble(dataclasses.replace(CONFIG, stream_pool=41))


@pytest.mark.slow
def test_killed_by_signal_9_the_command_ends_bit_for_bit_the_same(data_dir, tmp_path):
    settings = [
        f"--config.{name}={getattr(CONFIG, name)}"
        for name in ("task", "devices", "particles", "stream_pool", "stream_every")
    ]
    settings += ["--preset=tiny", "--config.updates=400", "--config.checkpoint_every=10"]
    code, _, error = commands.run("meta_train", f"--workdir={tmp_path / 'one'}", *settings)
    assert code == 0, error
    killed = tmp_path / "two"
    process = commands.start("meta_train", f"--workdir={killed}", *settings)
    while not (killed / "checkpoints/20").exists():
        time.sleep(0.005)
        assert process.poll() is None
    process.kill()
    process.communicate()
    code, _, error = commands.run("meta_train", f"--workdir={killed}", *settings)
    assert code == 0, error
    assert "resuming after update" in error
    assert commands.theta(killed) == commands.theta(tmp_path / "one")


@pytest.mark.slow
def test_several_processes_stream_the_same(data_dir, tmp_path):
    """Each reads the pools by itself; two devices of one process are the reference."""
    settings = [
        f"--config.{name}={getattr(CONFIG, name)}"
        for name in ("task", "particles", "stream_pool", "stream_every")
    ]
    finished(tmp_path / "one", 1, *settings, each=2)
    finished(tmp_path / "two", 2, *settings)
    assert_same_run(tmp_path / "two", tmp_path / "one")
