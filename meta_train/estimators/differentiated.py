"""What the estimators that differentiate the problem share: episodes, side by side.

ĝ = mean over E episodes of the gradient that a method makes of one window

A method is written for one episode; it differs from the others in the derivative that it
carries along with the inner state, and in how it takes it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from meta_train.estimators.base import (
    ALL_AT_ONCE,
    CommonArguments,
    EstimatorInfo,
    GradientEstimator,
    Layout,
    Length,
    check_count,
    check_problem,
    check_theta,
    check_windows,
    empty_rows,
    legal_arguments,
    mean_of_rows,
    plain_integer,
    signal_to_noise,
    window_loss,
)
from meta_train.estimators.derivatives import check_derivative
from meta_train.estimators.episodes import Episodes, begin_episodes, end_window, no_episodes
from meta_train.estimators.noise import pair_keys
from meta_train.problem import Data, Theta, UnrolledProblem

Carry = Any


class DifferentiatedArguments(CommonArguments, total=False):
    """Keyword arguments of estimators that differentiate; those of `CommonArguments`, and

    episodes: E, run side by side and averaged; 1 unless given.
    particles, sigma: ignored, so that a call may name any estimator.
    """

    episodes: int
    particles: Any
    sigma: Any


class DifferentiatedSettings(NamedTuple):
    """`DifferentiatedArguments`, with their defaults."""

    window: int
    length: Length = None
    reduction: str = "sum"
    stagger: bool = False
    loss_bound: float | None = None
    layout: Layout = ALL_AT_ONCE
    episodes: int = 1
    particles: Any = None
    sigma: Any = None


def differentiated_settings(
    **arguments: Unpack[DifferentiatedArguments],
) -> DifferentiatedSettings:
    """The settings; TypeError or ValueError names an argument that is unknown or out of range."""
    defaults = DifferentiatedSettings._field_defaults
    legal_arguments(arguments, DifferentiatedSettings._fields, defaults)
    s = DifferentiatedSettings(**arguments)
    check_windows(s.window, s.length, s.reduction, s.stagger, s.loss_bound)
    check_count("episodes", s.episodes, "episode")
    return s._replace(window=plain_integer(s.window), length=plain_integer(s.length))


class EpisodeKeys(NamedTuple):
    """Keys of one episode in one window: of the method's own draws, of the problem's init
    and of its W steps. They are those that a pair of an evolution strategy gets. And the
    ``length`` of the episode, in inner steps.
    """

    own: jax.Array
    init: jax.Array
    unroll: jax.Array
    length: jax.Array


class WindowOfEpisode(NamedTuple):
    """What a method makes of a window: the gradient of Σ_t L_t like θ, what it carries on,
    the losses [W], and the norm of the derivative that it carries.
    """

    gradient: Theta
    carry: Carry
    losses: jax.Array
    norm: jax.Array


class Method(NamedTuple):
    """``begin(key, θ) -> carry``, whose shapes alone are used: at the start of an episode;
    ``window(keys, restart, θ, carry, data) -> WindowOfEpisode``, for one episode;
    ``mode``: of differentiation that it takes the problem to have, "forward" or "reverse".
    """

    begin: Callable[[EpisodeKeys, Theta], Carry]
    window: Callable[[EpisodeKeys, jax.Array, Theta, Carry, Data], WindowOfEpisode]
    mode: str


class DifferentiatedState(NamedTuple):
    """``inner`` [episodes, …]: what the method carries, the inner state and its derivative."""

    inner: Carry
    episodes: Episodes


def differentiated_estimator(
    name: str, problem: UnrolledProblem, settings: DifferentiatedSettings, method: Method
) -> GradientEstimator:
    """The estimator that averages a method over episodes; ``name`` is for its errors."""
    rows, layout = settings.episodes, settings.layout
    reduce = window_loss(settings.reduction, settings.loss_bound)
    scale = 1 / settings.window if settings.reduction == "mean" else 1.0

    def init(key: jax.Array, theta: Theta) -> DifferentiatedState:
        theta = check_theta(theta)
        carry = jax.eval_shape(
            method.begin, EpisodeKeys(key, key, key, jnp.zeros((), jnp.int32)), theta
        )
        return DifferentiatedState(empty_rows(carry, rows), no_episodes(rows))

    def one_window(mapped: tuple, shared: tuple[Theta, Data]) -> tuple[Carry, jax.Array]:
        (keys, restart, carry), (theta, data) = mapped, shared
        result = method.window(keys, restart, theta, carry, data)
        flat, _ = ravel_pytree(result.gradient)
        summary = jnp.append(reduce(result.losses), result.norm)
        return result.carry, jnp.concatenate([summary, flat.astype(summary.dtype) * scale])

    def step(
        key: jax.Array, theta: Theta, state: DifferentiatedState, data: Data = None
    ) -> tuple[Theta, DifferentiatedState, EstimatorInfo]:
        theta = check_theta(theta)
        check_problem(problem, key, theta, data)
        check_derivative(name, problem, key, theta, data, method.mode)
        own, key_length, key_init, key_unroll = (
            pair_keys(k, rows) for k in jax.random.split(key, 4)
        )
        restart, episodes = begin_episodes(
            key_length,
            state.episodes,
            length=settings.length,
            window=settings.window,
            stagger=settings.stagger,
        )
        keys = EpisodeKeys(own, key_init, key_unroll, episodes.length)
        mapped = (keys, layout.everywhere(restart), state.inner)
        inner, packed = layout.spread(jax.vmap(one_window, in_axes=(0, None)))(
            mapped, (theta, data)
        )
        packed = layout.everywhere(packed)  # all that devices tell each other
        losses, flat = packed[:, :1], packed[:, 3:]
        finite = jnp.isfinite(losses[:, 0]) & jnp.isfinite(flat).all(axis=1)
        gradient, variance = mean_of_rows(jax.vmap(unravel_like(theta))(flat), finite)
        episodes = end_window(episodes, settings.window, finite)
        info = EstimatorInfo(
            losses=losses,
            sign_gap=jnp.zeros_like(losses[:, 0]),
            ages=episodes.age,
            restarts=restart.sum(),
            diverged=((packed[:, 1] > 0) | ~finite).sum(),
            accumulator_norm=packed[:, 2],
            variance=variance,
            signal_to_noise=signal_to_noise(gradient, variance),
        )
        return gradient, DifferentiatedState(inner, episodes), info

    return GradientEstimator(init, step)


def unravel_like(theta: Theta) -> Callable[[jax.Array], Theta]:
    """From a vector, in any precision, to a pytree like θ."""
    flat, unravel = ravel_pytree(theta)
    return lambda vector: unravel(vector.astype(flat.dtype))


def choose(restart: jax.Array, fresh: Carry, old: Carry) -> Carry:
    """``fresh`` where one episode restarts, else ``old``."""
    return jax.tree.map(lambda new, kept: jnp.where(restart, new, kept), fresh, old)
