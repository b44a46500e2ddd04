"""All make the same calls, stop together, and find out when θ is not the same everywhere."""

import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.hosts.peers import ALONE, Peers
from meta_train.hosts.place import HostsError
from meta_train.hosts.turns import Turn, Turns, checksum


def among(own, *others):
    """Peers of which the others say what the functions make of what this one says."""
    count = 1 + len(others)
    return Peers(own, count, lambda topic, value: [value, *(other(value) for other in others)])


def turn(turns, step=0, **changes):
    return turns.agree(step, **{"updates": 5, "signal_got": None, "enough": False} | changes)


def test_alone_one_does_as_one_wants():
    turns = Turns(ALONE)
    assert turn(turns) == Turn(5, None, False)
    assert turn(turns, signal_got=signal.SIGTERM).signal is signal.SIGTERM
    assert turn(turns, enough=True).enough
    turns.note(5, {"w": jnp.ones(3)})
    assert turns._computing == []  # nobody to compare with
    turns.settle(5)


def test_the_first_decides_how_many_and_any_one_may_stop_all():
    def other(value):
        return value | {"updates": 99, "signal": int(signal.SIGINT), "enough": True}

    assert turn(Turns(among(0, other))) == Turn(5, signal.SIGINT, True)


@pytest.mark.parametrize("at_the_end", [False, True])
def test_another_theta_in_one_process_is_found(at_the_end):
    def change(checksums):
        return [(step, value + (step == 20)) for step, value in checksums]

    def other(value):
        return value | {"checksums": change(value["checksums"])} if "updates" in value else value

    def other_at_the_end(value):
        return change(value) if isinstance(value, list) else value

    turns = Turns(among(0, lambda v: v, other_at_the_end if at_the_end else other))
    theta = {"w": jnp.arange(3.0)}
    turns.note(10, theta)
    jax.block_until_ready(turns._computing[0][1])
    if at_the_end:
        turns.settle(10)
    else:
        turn(turns, 10)
    turns.note(20, theta)
    jax.block_until_ready(turns._computing[0][1])
    with pytest.raises(HostsError, match="θ after update 20 is another in process 2 than in proc"):
        turns.settle(20) if at_the_end else turn(turns, 20)


def test_the_checksum_sees_every_bit():
    theta = {"a": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(4, jnp.bfloat16), "c": jnp.ones(())}
    seen = {int(checksum(theta))}
    for name, leaf in theta.items():
        for place in range(leaf.size):
            raw = np.asarray(leaf).copy()
            bits = raw.reshape(-1).view(f"u{raw.itemsize}")
            bits[place] ^= 1
            seen.add(int(checksum(theta | {name: jnp.asarray(raw)})))
    swapped = jnp.asarray([[1.0, 0, 2], [3, 4, 5]])
    seen.add(int(checksum(theta | {"a": swapped})))
    assert len(seen) == 1 + 6 + 4 + 1 + 1
