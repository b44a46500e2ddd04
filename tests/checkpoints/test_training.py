"""Checkpoints come back bit for bit, newest first, or with a clear refusal."""

import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from checkpoints import CheckpointError, TrainingCheckpoints
from checkpoints.training import free_bytes
from meta_train.runtime import quiet_failed_transfers


class State(NamedTuple):
    step: Any
    theta: Any
    empty: Any


quiet_failed_transfers()  # as the commands do

RUN = {"seed": 0, "sigma": 0.01}


def opened(directory, keep=2, run=RUN):
    return TrainingCheckpoints(directory, keep=keep, run=run)


def state(value):
    theta = {"mlp/~/linear_0": {"w": jnp.full((3, 4), value), "b": jnp.full(4, -value)}}
    return State(jnp.asarray(7, jnp.int32), theta, ())


def test_the_newest_are_kept_and_restored_bit_for_bit(tmp_path):
    checkpoints = opened(tmp_path / "c")
    assert checkpoints.latest() is None
    for step in (10, 20, 30):
        checkpoints.save(step, state(step / 3))
    checkpoints.close()
    again = opened(tmp_path / "c")
    assert again.latest() == 30
    assert sorted(int(p.name) for p in (tmp_path / "c").iterdir()) == [20, 30]
    restored = again.restore(30, jax.eval_shape(lambda: state(0.0)))
    assert isinstance(restored, State)
    jax.tree.map(np.testing.assert_array_equal, restored, state(10.0))
    again.close()


def test_the_state_may_be_donated_while_it_is_written(tmp_path):
    checkpoints = opened(tmp_path / "c", keep=1)
    grow = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    current = grow(jnp.zeros(1_000_000))
    checkpoints.save(1, current)
    for _ in range(20):
        current = grow(current)
    checkpoints.wait()
    np.testing.assert_array_equal(checkpoints.restore(1, current), np.ones(1_000_000))
    checkpoints.close()


def cut_files(folder):
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size > 20:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove_arrays(folder):
    shutil.rmtree(folder / "state")


def remove_identity(folder):
    shutil.rmtree(folder / "identity")


def remove_all(folder):
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def flip_the_seed(folder):
    """It must not pass for a checkpoint of another run, which is final."""
    path = folder / "identity/metadata"
    text = path.read_text()
    assert text.count('"seed": 0') == 1
    path.write_text(text.replace('"seed": 0', '"seed": 1'))


DAMAGES = [cut_files, remove_arrays, remove_identity, remove_all, flip_the_seed]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(tmp_path, damage):
    """It stays as it is until its number is needed, and is gone once a newer one is written."""
    saved_at(tmp_path / "c", 5, 6)
    damage(tmp_path / "c/6")
    before = files_in(tmp_path / "c")
    checkpoints = opened(tmp_path / "c")
    step, restored, passed_over = checkpoints.restore_newest(state(0.0))
    assert step == 5
    jax.tree.map(np.testing.assert_array_equal, restored, state(5.0))
    (told,) = passed_over
    assert re.fullmatch(r"checkpoint '.*/c/6' is damaged \(.+\)", told)
    assert files_in(tmp_path / "c") == before
    checkpoints.save(6, state(6.0))
    assert (tmp_path / "c/.damaged.6").is_dir()
    checkpoints.close()
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["5", "6"]
    checkpoints = opened(tmp_path / "c")
    assert checkpoints.restore_newest(state(0.0)).step == 6
    checkpoints.close()


def test_a_newer_one_may_have_a_lower_number_than_the_damaged(tmp_path):
    """A run that is stopped between the two."""
    saved_at(tmp_path / "c", 10, 20)
    cut_files(tmp_path / "c/20")
    checkpoints = opened(tmp_path / "c")
    assert checkpoints.restore_newest(state(0.0)).step == 10
    checkpoints.save(13, state(13.0))
    checkpoints.close()
    checkpoints = opened(tmp_path / "c")
    assert checkpoints.restore_newest(state(0.0)).step == 13
    checkpoints.close()


def test_a_checkpoint_of_another_run_is_not_passed_over(tmp_path):
    """The directory is not this run's, whatever else is in it."""
    saved_at(tmp_path / "c", 5)
    other = opened(tmp_path / "c", run={"seed": 1, "sigma": 0.01})
    other.save(6, state(6.0))
    other.close()
    checkpoints = opened(tmp_path / "c")
    with pytest.raises(CheckpointError, match=r"^checkpoint '.*/c/6' is of another run: seed is 1"):
        checkpoints.restore_newest(state(0.0))
    checkpoints.close()


def test_where_none_can_be_read_nothing_is_changed(tmp_path):
    saved_at(tmp_path / "c", 5, 6)
    cut_files(tmp_path / "c")
    before = files_in(tmp_path / "c")
    checkpoints = opened(tmp_path / "c")
    with pytest.raises(
        CheckpointError,
        match=r"none .* can be read: .*/c/6' is damaged.*/c/5' is damaged.*nothing was changed",
    ):
        checkpoints.restore_newest(state(0.0))
    checkpoints.close()
    assert files_in(tmp_path / "c") == before


def empty(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [empty, cut, flip, Path.unlink])
def test_whatever_file_is_damaged_a_state_that_was_saved_comes_back(tmp_path, damage):
    """Some files do not matter; those that do are found out."""
    saved_at(tmp_path / "c", 5, 6)
    names = [p.relative_to(tmp_path / "c/6") for p in files_in(tmp_path / "c/6")]
    assert len(names) > 5
    found = []
    for number, name in enumerate(names):
        folder = shutil.copytree(tmp_path / "c", tmp_path / str(number))
        damage(folder / "6" / name)
        checkpoints = opened(folder)
        step, restored, passed_over = checkpoints.restore_newest(state(0.0))
        jax.tree.map(np.testing.assert_array_equal, restored, state(float(step)))
        assert (step, len(passed_over)) in ((6, 0), (5, 1))
        found.append(step)
        checkpoints.save(7, state(7.0))  # goes on
        checkpoints.close()
        assert opened(folder).latest() == 7
    assert {5, 6} == set(found)


def saved_at(directory, *steps):
    checkpoints = opened(directory)
    for step in steps:
        checkpoints.save(step, state(float(step)))
    checkpoints.close()


def files_in(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_flipped_bit_is_found(tmp_path):
    """Orbax keeps no checksum of arrays that do not compress."""
    noise = jax.random.normal(jax.random.key(0), (10_000,))
    checkpoints = opened(tmp_path / "c")
    checkpoints.save(5, noise)
    checkpoints.wait()
    np.testing.assert_array_equal(checkpoints.restore(5, noise), noise)
    files = [p for p in (tmp_path / "c/5/state").rglob("*") if p.is_file()]
    path = max(files, key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"c/5' is damaged .its arrays are not those"):
        checkpoints.restore(5, noise)
    checkpoints.close()


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"seed": 5, "sigma": 0.01}, "seed is 0 there and 5 here"),
        ({"seed": 0, "sigma": 0.02}, "sigma is 0.01 there and 0.02 here"),
        ({"seed": 0}, "sigma is 0.01 there and None here"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, other, told):
    """Even of the same shapes."""
    checkpoints = opened(tmp_path / "c")
    checkpoints.save(5, state(1.0))
    checkpoints.close()
    checkpoints = opened(tmp_path / "c", run=other)
    with pytest.raises(CheckpointError, match=f"c/5' is of another run: {told}; choose"):
        checkpoints.restore(5, state(0.0))
    checkpoints.close()


def test_other_shapes_than_the_runs_are_refused(tmp_path):
    checkpoints = opened(tmp_path / "c")
    checkpoints.save(5, state(1.0))
    checkpoints.wait()
    layer = {"w": jnp.ones((3, 5)), "b": jnp.ones(4)}
    for theta in ({"other": jnp.ones(3)}, {"mlp/~/linear_0": layer}):
        with pytest.raises(CheckpointError, match=r"c/5' (is damaged|has other)"):
            checkpoints.restore(5, State(jnp.asarray(0, jnp.int32), theta, ()))
    checkpoints.close()


def test_a_number_that_is_taken_is_not_passed_over_in_silence(tmp_path):
    checkpoints = opened(tmp_path / "c")
    checkpoints.save(3, state(1.0))
    with pytest.raises(CheckpointError, match="checkpoint 2 was not written"):
        checkpoints.save(2, state(2.0))
    checkpoints.close()


def test_free_bytes_of_a_directory_that_is_not_there_yet(tmp_path):
    assert free_bytes(tmp_path / "a/b/c") == pytest.approx(
        shutil.disk_usage(tmp_path).free, rel=0.1
    )
