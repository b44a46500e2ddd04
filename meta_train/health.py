"""Which updates of θ are left out, and what a run counts of the harm that it met.

An update is skipped, and θ stays as it is, where its meta-gradient has a norm that is not finite or

    ‖g_k‖ > gradient_limit · median of the norms of the last `RECENT` updates made.

The median does not move for a few that explode, as a mean would. It sets no limit before there
are so many norms, nor where it is 0: most updates then have no gradient at all.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

RECENT = 64


class Health(NamedTuple):
    """Of a run so far, part of its state.

    ``norms`` float32 [RECENT]: of the meta-gradients of the last updates made, in a ring;
    ``made``, ``skipped``: int32 numbers of updates; ``skipped_in_a_row``, int32: up to now,
    and ``longest_skipped``: at most; ``diverged``, int32: rows with a loss that was not
    finite, one in every window where they had it.
    """

    norms: jax.Array
    made: jax.Array
    skipped: jax.Array
    skipped_in_a_row: jax.Array
    longest_skipped: jax.Array
    diverged: jax.Array


def healthy() -> Health:
    """Of a run that has not begun."""
    return Health(jnp.zeros(RECENT, jnp.float32), *(jnp.zeros((), jnp.int32) for _ in range(5)))


def is_harmful(norm: jax.Array, health: Health, gradient_limit: float) -> jax.Array:
    """Whether an update with a meta-gradient of this norm is to be skipped: the rule above."""
    median = jnp.sort(health.norms)[RECENT // 2]
    limited = (health.made >= RECENT) & (median > 0)
    return ~jnp.isfinite(norm) | (limited & (norm > gradient_limit * median))


def examined(health: Health, norm: jax.Array, skip: jax.Array, diverged: jax.Array) -> Health:
    """The health after an update of this norm, skipped or not, with so many diverged rows."""
    place = health.made % RECENT
    in_a_row = jnp.where(skip, health.skipped_in_a_row + 1, 0)
    return Health(
        norms=health.norms.at[place].set(jnp.where(skip, health.norms[place], norm)),
        made=health.made + ~skip,
        skipped=health.skipped + skip,
        skipped_in_a_row=in_a_row,
        longest_skipped=jnp.maximum(health.longest_skipped, in_a_row),
        diverged=health.diverged + diverged.astype(jnp.int32),
    )


def unless(skip: jax.Array, new: Any, old: Any) -> Any:
    """The pytree ``new``, or ``old`` where the update is skipped."""
    return jax.tree.map(lambda n, o: jnp.where(skip, o, n), new, old)
