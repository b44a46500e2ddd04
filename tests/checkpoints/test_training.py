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


@pytest.mark.parametrize("damage", [cut_files, remove_arrays, remove_identity])
def test_a_damaged_checkpoint_is_refused_with_the_way_out(tmp_path, damage):
    checkpoints = opened(tmp_path / "c")
    checkpoints.save(5, state(1.0))
    checkpoints.wait()
    damage(tmp_path / "c/5")
    with pytest.raises(
        CheckpointError, match=r"checkpoint '.*/c/5' is damaged .*remove this folder"
    ):
        checkpoints.restore(5, state(0.0))
    checkpoints.close()


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
    with pytest.raises(CheckpointError, match=r"c/5' is damaged .*remove this folder"):
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
