"""The one thing an estimator knows: an unrolled computation with parameters θ."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # so that a command can heed signals before JAX is imported
    import jax

Theta = Any
InnerState = Any
Data = Any


NEVER = 2**31 - 1
"""The length of an episode that does not end, in inner steps."""


class UnrolledProblem(NamedTuple):
    """s_0 = init(key, θ);  s_t, L_t = step(key, θ, s_{t−1}, data).

    Training with a learned optimizer is one; so are a recurrent network, a
    learning-rate schedule or a policy. L_t is a scalar; the state keeps its shapes;
    ``data`` is any pytree (or None), handed unchanged to every step.

    A problem that plans for its end has ``init_of_length(key, θ, length)`` too, for an episode
    of so many steps, an int32 scalar; ``init`` then begins one that does not end.
    """

    init: Callable[[jax.Array, Theta], InnerState]
    step: Callable[[jax.Array, Theta, InnerState, Data], tuple[InnerState, jax.Array]]
    init_of_length: Callable[[jax.Array, Theta, jax.Array], InnerState] | None = None

    def begin(self, key: jax.Array, theta: Theta, length: jax.Array) -> InnerState:
        """The first state of an episode of ``length`` steps."""
        if self.init_of_length is None:
            return self.init(key, theta)
        return self.init_of_length(key, theta, length)
