"""What the processes of a run agree on before each call: how many updates, and whether to stop.

The talk goes on while the devices work on the call before. θ is the same everywhere, computed
everywhere: its checksums are compared, for a host that computes otherwise ruins a run unseen.
"""

import signal
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from meta_train.hosts.peers import Peers
from meta_train.hosts.place import HostsError


class Turn(NamedTuple):
    """``updates`` of the next call; ``signal``: one that a process got, or None; ``enough``:
    whether the run is to end for another reason.
    """

    updates: int
    signal: signal.Signals | None
    enough: bool


class Turns:
    """Agrees on one turn after the other with the peers."""

    def __init__(self, peers: Peers):
        self._peers = peers
        self._computing: list[tuple[int, jax.Array]] = []
        self._checksums: dict[int, dict[int, int]] = {}

    def agree(
        self, step: int, *, updates: int, signal_got: signal.Signals | None, enough: bool
    ) -> Turn:
        """The turn after update ``step``: as many updates as process 0 wants, unless one stops.

        Raises:
          HostsError: θ is not the same in all processes.
        """
        own = {
            "updates": updates,
            "signal": signal_got,
            "enough": enough,
            "checksums": self._known([c for c in self._computing if _is_ready(c[1])]),
        }
        said = self._peers.gather(f"the turn after update {step}", own)
        self._compare([of_process["checksums"] for of_process in said])
        got = [of_process["signal"] for of_process in said if of_process["signal"] is not None]
        return Turn(
            said[0]["updates"],
            signal.Signals(got[0]) if got else None,
            any(of_process["enough"] for of_process in said),
        )

    def note(self, step: int, theta: Any) -> None:
        """Have the checksum of θ after update ``step`` computed, if there is who to compare with.

        Its buffers may be donated afterwards.
        """
        if self._peers.processes > 1:
            own = jax.tree.map(lambda x: x.addressable_data(0), theta)
            self._computing.append((step, checksum(own)))

    def settle(self, step: int) -> None:
        """Compare all that was noted, before what is made of it is kept; raises as `agree`."""
        known = self._known(list(self._computing))
        self._compare(self._peers.gather(f"the checksums until update {step}", known))

    def _known(self, ready: list[tuple[int, jax.Array]]) -> list[tuple[int, int]]:
        self._computing = [c for c in self._computing if all(c is not r for r in ready)]
        return [(step, int(value)) for step, value in ready]

    def _compare(self, of_processes: list[list[tuple[int, int]]]) -> None:
        for process, known in enumerate(of_processes):
            for step, value in known:
                self._checksums.setdefault(step, {})[process] = value
        for step in sorted(self._checksums):
            found = self._checksums[step]
            if len(found) < self._peers.processes:
                continue
            del self._checksums[step]
            for process, value in found.items():
                if value != found[0]:
                    raise HostsError(
                        f"θ after update {step} is another in process {process} than in process "
                        "0; use hosts of one kind with the same libraries, and go on from the "
                        "last checkpoint with the same commands"
                    )


def _is_ready(array: jax.Array) -> bool:
    return array.is_ready()  # type: ignore[attr-defined]


@jax.jit
def checksum(tree: Any) -> jax.Array:
    """A number, uint32, that changes with any bit of a pytree of arrays."""
    total = jnp.zeros((), jnp.uint32)
    for leaf in jax.tree.leaves(tree):
        leaf = leaf.astype(jnp.uint8) if leaf.dtype == bool else leaf
        parts = jax.lax.bitcast_convert_type(leaf, jnp.uint8).ravel().astype(jnp.uint32)
        place = jnp.arange(parts.size, dtype=jnp.uint32)
        mixed = (place ^ (place >> 15)) * jnp.uint32(0x2C1B3C6D)
        weight = (mixed ^ (mixed >> 12)) * jnp.uint32(0x297A2D39) | 1  # odd: no bit is lost
        total = total * jnp.uint32(0x9E3779B1) + (parts * weight).sum(dtype=jnp.uint32)
    return total
