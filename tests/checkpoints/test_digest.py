"""The digest of a state is the same whoever holds which shards, and no bit escapes it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from checkpoints import digest as module
from checkpoints.digest import checksums_of_part, digest


def test_it_does_not_depend_on_who_holds_what(monkeypatch):
    """Eight devices as two processes of four."""
    monkeypatch.setattr(module, "CHUNK", 7)
    state = {"rows": np.arange(48, dtype=np.float32).reshape(8, 2, 3), "theta": np.ones((3, 2))}
    state |= {"half": np.arange(8, dtype=np.float16), "step": np.int32(3)}
    whole = digest(state, [checksums_of_part(state, first=True)])
    mesh = Mesh(np.asarray(jax.devices()), ("rows",))
    split = NamedSharding(mesh, PartitionSpec("rows"))
    held = [dict(state), dict(state)]
    for name in ("rows", "half"):
        shards = jax.device_put(state[name], split).addressable_shards
        for process in range(2):
            held[process][name] = PartOf(state[name], shards[4 * process : 4 * process + 4])
    parts = [checksums_of_part(held[p], first=p == 0) for p in range(2)]
    assert digest(state, parts) == whole
    assert digest(state, [parts[0], parts[0]]) != whole


class PartOf:
    """What a process holds of an array that is split over several."""

    def __init__(self, array, shards):
        self.shape, self.ndim = array.shape, array.ndim
        self.addressable_shards = shards


def test_no_bit_and_no_exchange_escapes():
    state = {"w": np.arange(5, dtype=np.float32), "n": np.arange(3, dtype=np.int8)}
    state["d"] = np.arange(1.0, 3.0)
    seen = {digest(state, [checksums_of_part(state, first=True)])}
    for name, array in state.items():
        for place in range(array.size):
            for bit in range(8 * array.itemsize):
                changed = array.copy()
                changed.view(f"u{array.itemsize}")[place] ^= np.array(
                    1 << bit, f"u{array.itemsize}"
                )
                other = state | {name: changed}
                seen.add(digest(other, [checksums_of_part(other, first=True)]))
    swapped = state | {"w": state["w"][[1, 0, 2, 3, 4]]}
    seen.add(digest(swapped, [checksums_of_part(swapped, first=True)]))
    assert len(seen) == 1 + 5 * 32 + 3 * 8 + 2 * 64 + 1
    other_names = {"v": state["w"], "n": state["n"], "d": state["d"]}
    assert digest(other_names, [checksums_of_part(other_names, first=True)]) not in seen


def test_shards_of_other_axes_are_refused():
    mesh = Mesh(np.asarray(jax.devices()[:2]), ("columns",))
    array = jax.device_put(jnp.ones((3, 4)), NamedSharding(mesh, PartitionSpec(None, "columns")))
    with pytest.raises(ValueError, match="splits more than the leading axis"):
        checksums_of_part(array, first=True)
