"""The interface of every gradient estimator, and the checks they share.

N particles are N/2 antithetic pairs; W is the window, in inner steps; θ is any pytree of
floating-point arrays. In a state, arrays of pairs have a leading axis [pairs, …] and
inner states [pairs, 2, …], the sign + first.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from meta_train.problem import Data, Theta, UnrolledProblem

EstimatorState = Any
Length = int | Callable[[jax.Array], jax.Array] | None
RowFunction = Callable[[Any, Any], Any]


class Layout(NamedTuple):
    """How a computation on pairs is spread over devices and over time.

    ``spread``: from ``f(mapped, shared)``, whose ``mapped`` arguments and results have a
    leading axis [pairs, …], to an equal function computed in parts;
    ``everywhere``: a pytree as it is, whole on every device.
    """

    spread: Callable[[RowFunction], RowFunction]
    everywhere: Callable[[Any], Any]


ALL_AT_ONCE = Layout(spread=lambda function: function, everywhere=lambda tree: tree)
"""The layout that computes all pairs together, on one device."""


class GradientEstimator(NamedTuple):
    """``init(key, θ) -> state``; ``step(key, θ, state, data) -> (gradient, state, info)``.

    One step is one window. The gradient is like θ; ``info`` is an `EstimatorInfo`. The state
    is a NamedTuple; its field ``inner`` [pairs, 2, …] may be split over devices.
    """

    init: Callable[[jax.Array, Theta], EstimatorState]
    step: Callable[
        [jax.Array, Theta, EstimatorState, Data], tuple[Theta, EstimatorState, "EstimatorInfo"]
    ]


class EstimatorInfo(NamedTuple):
    """What one window showed, for people: arrays only.

    ``losses`` [pairs, 2]: window loss of both signs, reduced as the estimator was told;
    ``ages`` int32 [pairs]: inner steps of the episode done, this window included;
    ``restarts``, ``diverged``: int32 numbers of pairs that began an episode in this
    window, and that had a loss in it that was not finite;
    ``accumulator_norm`` float32 [pairs]: norm of the credited noise.
    """

    losses: jax.Array
    ages: jax.Array
    restarts: jax.Array
    diverged: jax.Array
    accumulator_norm: jax.Array


def check_settings(
    *,
    window: int,
    particles: int,
    sigma: float,
    length: Length,
    reduction: str,
    stagger: bool,
    loss_bound: float | None,
) -> None:
    """Raise ValueError for settings that no antithetic estimator takes."""
    if window < 1:
        raise ValueError(f"`window`={window}: must be at least 1 inner step")
    if particles < 2 or particles % 2:
        raise ValueError(f"`particles`={particles}: must be even, both members of a pair counted")
    if not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(f"`sigma`={sigma}: the standard deviation of the noise must be positive")
    if isinstance(length, int) and (length < 1 or length % window):
        raise ValueError(
            f"`window`={window} does not divide `length`={length}; "
            "episode lengths must be multiples of the window"
        )
    if reduction not in ("sum", "mean"):
        raise ValueError(f"`reduction`={reduction!r}: must be 'sum' or 'mean'")
    if stagger and length is None:
        raise ValueError("`stagger`=True needs episodes that end; give a `length`")
    if loss_bound is not None and not math.isfinite(loss_bound):
        raise ValueError(f"`loss_bound`={loss_bound}: must be finite, or None for no bound")


def check_theta(theta: Theta) -> None:
    """Raise ValueError for a θ that noise cannot be added to."""
    for path, leaf in jax.tree.leaves_with_path(theta):
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                f"`theta`{jax.tree_util.keystr(path)} has dtype {dtype}; "
                "every leaf of θ must be floating-point"
            )


def check_problem(
    problem: UnrolledProblem, key: jax.Array, theta: Theta, state: Any, data: Data
) -> None:
    """Raise ValueError, while tracing, for a step that no estimator can unroll."""
    after, loss = jax.eval_shape(problem.step, key, theta, state, data)
    if getattr(loss, "shape", None) != () or not jnp.issubdtype(loss.dtype, jnp.floating):
        raise ValueError(f"`problem.step` returned the loss {loss}; it must be a scalar, floating")

    def describe(tree: Any) -> Any:
        return jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), tree)

    if describe(after) != describe(state):
        raise ValueError(
            "`problem.step` changed the shapes or dtypes of its state: "
            f"from {describe(state)} to {describe(after)}"
        )
