"""Checkpoints come back bit for bit, newest first, or with a clear refusal."""

import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from checkpoints import CheckpointError, TrainingCheckpoints
from checkpoints.training import free_bytes


class State(NamedTuple):
    step: Any
    theta: Any
    empty: Any


def state(value):
    theta = {"mlp/~/linear_0": {"w": jnp.full((3, 4), value), "b": jnp.full(4, -value)}}
    return State(jnp.asarray(7, jnp.int32), theta, ())


def test_the_newest_are_kept_and_restored_bit_for_bit(tmp_path):
    checkpoints = TrainingCheckpoints(tmp_path / "c", keep=2)
    assert checkpoints.latest() is None
    for step in (10, 20, 30):
        checkpoints.save(step, state(step / 3))
    checkpoints.close()
    again = TrainingCheckpoints(tmp_path / "c", keep=2)
    assert again.latest() == 30
    assert sorted(int(p.name) for p in (tmp_path / "c").iterdir()) == [20, 30]
    restored = again.restore(30, jax.eval_shape(lambda: state(0.0)))
    assert isinstance(restored, State)
    jax.tree.map(np.testing.assert_array_equal, restored, state(10.0))
    again.close()


def test_the_state_may_be_donated_while_it_is_written(tmp_path):
    checkpoints = TrainingCheckpoints(tmp_path / "c", keep=1)
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
    shutil.rmtree(folder / "default")


@pytest.mark.parametrize("damage", [cut_files, remove_arrays])
def test_a_damaged_checkpoint_is_refused_with_the_way_out(tmp_path, damage):
    checkpoints = TrainingCheckpoints(tmp_path / "c", keep=2)
    checkpoints.save(5, state(1.0))
    checkpoints.wait()
    damage(tmp_path / "c/5")
    with pytest.raises(
        CheckpointError, match=r"checkpoint '.*/c/5' is damaged .*remove this folder"
    ):
        checkpoints.restore(5, state(0.0))
    checkpoints.close()


@pytest.mark.parametrize(
    "other",
    [
        State(jnp.asarray(0, jnp.int32), {"other": jnp.ones(3)}, ()),
        State(
            jnp.asarray(0, jnp.int32),
            {"mlp/~/linear_0": {"w": jnp.ones((3, 5)), "b": jnp.ones(4)}},
            (),
        ),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, other):
    checkpoints = TrainingCheckpoints(tmp_path / "c", keep=2)
    checkpoints.save(5, state(1.0))
    checkpoints.wait()
    with pytest.raises(CheckpointError, match="another run"):
        checkpoints.restore(5, other)
    checkpoints.close()


def test_free_bytes_of_a_directory_that_is_not_there_yet(tmp_path):
    assert free_bytes(tmp_path / "a/b/c") == pytest.approx(
        shutil.disk_usage(tmp_path).free, rel=0.1
    )
