"""The one thing an estimator knows: an unrolled computation with parameters θ."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # so that a command can heed signals before JAX is imported
    import jax

Theta = Any
InnerState = Any
Data = Any


class UnrolledProblem(NamedTuple):
    """s_0 = init(key, θ);  s_t, L_t = step(key, θ, s_{t−1}, data).

    Training with a learned optimizer is one; so are a recurrent network, a
    learning-rate schedule or a policy. L_t is a scalar; the state keeps its shapes;
    ``data`` is any pytree (or None), handed unchanged to every step.
    """

    init: Callable[[jax.Array, Theta], InnerState]
    step: Callable[[jax.Array, Theta, InnerState, Data], tuple[InnerState, jax.Array]]
