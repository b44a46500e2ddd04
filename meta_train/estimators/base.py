"""The interface of every gradient estimator, and the settings they share.

N particles are N/2 antithetic pairs; W is the window, in inner steps; θ is any pytree of
floating-point arrays. What an estimator computes side by side are its *rows*: pairs of
particles, or episodes where it differentiates. In a state, arrays have a leading axis [rows].
"""

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypedDict

import jax
import jax.numpy as jnp

from meta_train.problem import Data, Theta, UnrolledProblem

LONGEST = 2**31 - 1  # inner steps are counted in int32

EstimatorState = Any
Length = int | Callable[[jax.Array], jax.Array] | None
RowFunction = Callable[[Any, Any], Any]


class Layout(NamedTuple):
    """How a computation on rows is spread over devices and over time.

    ``spread``: from ``f(mapped, shared)``, whose ``mapped`` arguments and results have a
    leading axis [rows, …], to an equal function computed in parts;
    ``everywhere``: a pytree as it is, whole on every device.
    """

    spread: Callable[[RowFunction], RowFunction]
    everywhere: Callable[[Any], Any]


ALL_AT_ONCE = Layout(spread=lambda function: function, everywhere=lambda tree: tree)
"""The layout that computes all rows together, on one device."""


class GradientEstimator(NamedTuple):
    """``init(key, θ) -> state``; ``step(key, θ, state, data) -> (gradient, state, info)``.

    One step is one window. The gradient is like θ; ``info`` is an `EstimatorInfo`. The state
    is a NamedTuple; its field ``inner`` [rows, …] may be split over devices.
    """

    init: Callable[[jax.Array, Theta], EstimatorState]
    step: Callable[
        [jax.Array, Theta, EstimatorState, Data], tuple[Theta, EstimatorState, "EstimatorInfo"]
    ]


class EstimatorInfo(NamedTuple):
    """What one window showed, for people: arrays only.

    ``losses`` [rows, signs]: window loss of every particle, reduced as the estimator was
    told; two signs, + first, where rows are pairs, else one;
    ``sign_gap`` [rows]: |L⁺ − L⁻|, 0 where there is one sign;
    ``ages`` int32 [rows]: inner steps of the episode done, this window included;
    ``restarts``, ``diverged``: int32 numbers of rows that began an episode in this
    window, and that had a loss in it that was not finite;
    ``accumulator_norm`` float32 [rows]: norm of what carries influence from window to
    window: the credited Σ ε/σ² of evolution strategies, the derivative of the state in
    forward modes, 0 in truncated backpropagation;
    ``variance``: tr Var of the estimate, from its spread over rows; not a number where
    fewer than two rows count;
    ``signal_to_noise``: ‖ĝ‖²/variance, 1 where the estimate is all noise.
    """

    losses: jax.Array
    sign_gap: jax.Array
    ages: jax.Array
    restarts: jax.Array
    diverged: jax.Array
    accumulator_norm: jax.Array
    variance: jax.Array
    signal_to_noise: jax.Array


class CommonArguments(TypedDict, total=False):
    """Keyword arguments of every estimator; ``window`` is required.

    window: W, inner steps a call of ``step``.
    length: T, inner steps of an episode, a multiple of W; None never restarts; a function
      ``key -> length`` draws it anew for every episode, rounded up to whole windows.
    reduction: the window loss is the "sum" or the "mean" of its W losses. With "sum"
      the estimates of an episode add up to that of ∇ Σ_t L_t.
    stagger: shorten the first episodes so that the rows cover all ages.
    loss_bound: what a loss counts at most; one that is not a number counts as that.
    layout: how rows are spread over devices and in time.
    """

    window: int
    length: Length
    reduction: str
    stagger: bool
    loss_bound: float | None
    layout: Layout


def legal_arguments(
    arguments: Mapping[str, Any], legal: tuple[str, ...], defaults: Mapping[str, Any]
) -> None:
    """Raise TypeError for an argument that an estimator does not know, or that it misses."""
    for name in arguments:
        if name not in legal:
            raise TypeError(f"unknown argument `{name}`; legal ones: {', '.join(legal)}")
    for name in legal:
        if name not in arguments and name not in defaults:
            raise TypeError(f"`{name}` is missing; it has no default")


def plain_integer(value: Any) -> Any:
    """An integer of any kind as Python's, so that it takes the dtype of what it meets."""
    return int(value) if isinstance(value, numbers.Integral) else value


def check_windows(
    window: int, length: Length, reduction: str, stagger: bool, loss_bound: float | None
) -> None:
    """Raise ValueError for settings of windows and episodes that no estimator takes."""
    check_count("window", window, "inner step")
    if isinstance(length, numbers.Integral) and length > LONGEST:
        raise ValueError(f"`length`={length}: must be at most {LONGEST}, or None to never restart")
    if isinstance(length, numbers.Integral) and (length < 1 or length % window):
        raise ValueError(
            f"`window`={window} does not divide `length`={length}; "
            "episode lengths must be multiples of the window"
        )
    if not (length is None or callable(length) or isinstance(length, numbers.Integral)):
        raise ValueError(f"`length`={length!r}: must be an integer, a function of a key, or None")
    if reduction not in ("sum", "mean"):
        raise ValueError(f"`reduction`={reduction!r}: must be 'sum' or 'mean'")
    if stagger and length is None:
        raise ValueError("`stagger`=True needs episodes that end; give a `length`")
    if loss_bound is not None and not math.isfinite(loss_bound):
        raise ValueError(f"`loss_bound`={loss_bound}: must be finite, or None for no bound")


def check_count(name: str, value: int, unit: str) -> None:
    """Raise ValueError for a number that counts nothing."""
    if not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"`{name}`={value!r}: must be an integer, at least 1 {unit}")


def check_whole_episode(estimator: str, window: int, length: Length) -> None:
    """Raise ValueError unless one window is one episode."""
    if not (isinstance(length, numbers.Integral) and length == window):
        raise ValueError(
            f"`window`={window} is not `length`={length}; `{estimator}` unrolls whole episodes: "
            "make them equal, or choose a truncated estimator"
        )


def check_theta(theta: Theta) -> Theta:
    """θ as arrays; ValueError where it has no gradient."""
    for path, leaf in jax.tree.leaves_with_path(theta):
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                f"`theta`{jax.tree_util.keystr(path)} has dtype {dtype}; "
                "every leaf of θ must be floating-point"
            )
    return jax.tree.map(jnp.asarray, theta)


def check_problem(problem: UnrolledProblem, key: jax.Array, theta: Theta, data: Data) -> None:
    """Raise ValueError, while tracing, for a step that no estimator can unroll."""
    state = jax.eval_shape(problem.init, key, theta)
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


def count_losses(losses: jax.Array, bound: float | None) -> jax.Array:
    """What losses count: with a ``bound`` at most that, and as the bound if not a number."""
    if bound is None:
        return losses
    return jnp.where(jnp.isnan(losses), bound, jnp.minimum(losses, bound))


def window_loss(reduction: str, bound: float | None) -> Callable[[jax.Array], jax.Array]:
    """The function that makes [value, diverged] of the losses [W] of a window, in float32 or
    better.
    """
    reduce = jnp.sum if reduction == "sum" else jnp.mean

    def of_steps(losses: jax.Array) -> jax.Array:
        losses = losses.astype(jnp.promote_types(losses.dtype, jnp.float32))
        value = reduce(count_losses(losses, bound))
        finite = jnp.isfinite(losses).all() & jnp.isfinite(value)
        return jnp.stack([value, (~finite).astype(losses.dtype)])

    return of_steps


def empty_rows(like: Any, rows: int) -> Any:
    """Zeros [rows, …] in the shapes and dtypes of a pytree."""
    return jax.tree.map(lambda x: jnp.zeros((rows, *jnp.shape(x)), jnp.result_type(x)), like)


def choose_rows(restart: jax.Array, fresh: Any, old: Any) -> Any:
    """Row by row, ``fresh`` where ``restart`` [rows] says so: pytrees [rows, …]."""

    def choose(new: jax.Array, kept: jax.Array) -> jax.Array:
        return jnp.where(restart.reshape(-1, *[1] * (kept.ndim - 1)), new, kept)

    return jax.tree.map(choose, fresh, old)


def squared_norm(tree: Any) -> jax.Array:
    """Σ of squares over all leaves, in float32."""
    squares = (jnp.sum(jnp.square(x.astype(jnp.float32))) for x in jax.tree.leaves(tree))
    return sum(squares, start=jnp.zeros((), jnp.float32))


def variance_of_mean(squares: jax.Array, counted: jax.Array, gradient: Theta) -> jax.Array:
    """Trace of the variance of a mean over n rows, (Σ‖g_i‖²/n − ‖ḡ‖²)/(n − 1).

    Not a number where n < 2. Shapes: ``squares``, the ‖g_i‖², and ``counted``, bool: [rows].
    """
    n = counted.sum()
    spread = jnp.where(counted, squares, 0).sum() / n - squared_norm(gradient)
    return jnp.where(n > 1, jnp.maximum(spread, 0) / (n - 1), jnp.nan)


def mean_of_rows(rows: Theta, counted: jax.Array) -> tuple[Theta, jax.Array]:
    """Mean over the rows that count, zero where none does, and its `variance_of_mean`.

    Shapes: like θ with a leading axis [rows]; counted, bool [rows].
    """
    kept = choose_rows(counted, rows, jax.tree.map(jnp.zeros_like, rows))
    n = jnp.maximum(counted.sum(), 1)
    mean = jax.tree.map(lambda x: (x.sum(axis=0) / n).astype(x.dtype), kept)
    return mean, variance_of_mean(jax.vmap(squared_norm)(kept), counted, mean)


def signal_to_noise(gradient: Theta, variance: jax.Array) -> jax.Array:
    """‖ĝ‖² over its variance; 0 where the gradient is exactly zero."""
    squares = squared_norm(gradient)
    return jnp.where(squares > 0, squares / variance, 0.0)
