"""What the evolution-strategies estimators share: antithetic noise, the unroll, the credit.

ĝ = 1/(Nσ²) Σ_i (credited noise)_i · (window loss)_i = 1/n Σ_pairs (L⁺ − L⁻)/2 · score

Only forward evaluations of the problem: it is never differentiated. The estimators differ
in when noise is drawn anew and in which noise is credited, which is all that their files say.
"""

from collections.abc import Callable
from numbers import Integral
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp

from meta_train.estimators.base import (
    ALL_AT_ONCE,
    CommonArguments,
    EstimatorInfo,
    GradientEstimator,
    Layout,
    Length,
    check_problem,
    check_theta,
    check_windows,
    empty_rows,
    legal_arguments,
    plain_integer,
    signal_to_noise,
    squared_norm,
    variance_of_mean,
    window_loss,
)
from meta_train.estimators.differences import DivergenceRule, Transform, identity, leave_out
from meta_train.estimators.episodes import Episodes, begin_episodes, end_window, no_episodes
from meta_train.estimators.noise import (
    Perturbation,
    Sigma,
    check_sigma,
    pair_keys,
    perturbation,
    sample_normal,
    sigma_like,
)
from meta_train.estimators.unroll import PairsOfWindow, both_signs, unroll_pairs
from meta_train.problem import Data, Theta, UnrolledProblem

Memory = Any
Perturb = Callable[[Perturbation, jax.Array, jax.Array, Memory], tuple[Perturbation, Memory]]


class AntitheticArguments(CommonArguments, total=False):
    """Keyword arguments of the evolution strategies; those of `CommonArguments`, and

    particles: N, both members of a pair counted; required.
    sigma: σ, standard deviation of the noise: a number, a pytree of numbers that is a
      prefix of θ, or a function from the number of windows so far (int32, traced) to
      either. Required.
    transform: of the loss differences; see `differences`.
    divergence: the rule for window losses that are not finite; see `differences`. Such a
      pair begins a new episode with the next window, whatever the rule.
    """

    particles: int
    sigma: Sigma
    transform: Transform
    divergence: DivergenceRule


class AntitheticSettings(NamedTuple):
    """`AntitheticArguments`, with their defaults."""

    window: int
    particles: int
    sigma: Sigma
    length: Length = None
    reduction: str = "sum"
    stagger: bool = False
    loss_bound: float | None = None
    layout: Layout = ALL_AT_ONCE
    transform: Transform = identity
    divergence: DivergenceRule = leave_out


def antithetic_settings(**arguments: Unpack[AntitheticArguments]) -> AntitheticSettings:
    """The settings; TypeError or ValueError names an argument that is unknown or out of range."""
    legal_arguments(arguments, AntitheticSettings._fields, AntitheticSettings._field_defaults)
    s = AntitheticSettings(**arguments)
    check_windows(s.window, s.length, s.reduction, s.stagger, s.loss_bound)
    if not isinstance(s.particles, Integral) or s.particles < 2 or s.particles % 2:
        raise ValueError(
            f"`particles`={s.particles!r}: must be an even integer, both members of a pair counted"
        )
    check_sigma(s.sigma)
    for name in ("transform", "divergence"):
        if not callable(getattr(s, name)):
            raise ValueError(
                f"`{name}`={getattr(s, name)!r}: must be a function, such as those of "
                "`meta_train.estimators.differences`"
            )
    return s._replace(window=plain_integer(s.window), length=plain_integer(s.length))


class AntitheticState(NamedTuple):
    """``inner`` [pairs, 2, …]; ``memory``: what the estimator keeps of the noise, [pairs, …];
    ``windows``, int32: how many there were.
    """

    inner: Any
    memory: Memory
    episodes: Episodes
    windows: jax.Array


class Window(NamedTuple):
    """What a window begins with, of every pair: leading axis [pairs] everywhere."""

    fresh: Perturbation
    restart: jax.Array
    episodes: Episodes
    init_key: jax.Array
    unroll_key: jax.Array


def begin_window(
    settings: AntitheticSettings,
    key: jax.Array,
    theta: Theta,
    episodes: Episodes,
    windows: jax.Array,
) -> Window:
    """Draw fresh noise for every pair, and begin the episodes that are due."""
    pairs = settings.particles // 2
    key_noise, key_length, key_init, key_unroll = (
        pair_keys(k, pairs) for k in jax.random.split(key, 4)
    )
    normal = settings.layout.everywhere(sample_normal(key_noise, theta))
    restart, episodes = begin_episodes(
        key_length,
        episodes,
        length=settings.length,
        window=settings.window,
        stagger=settings.stagger,
    )
    return Window(
        fresh=perturbation(normal, sigma_like(settings.sigma, windows, theta)),
        restart=settings.layout.everywhere(restart),
        episodes=episodes,
        init_key=key_init,
        unroll_key=key_unroll,
    )


def pairs_in(window: Window, noise: Theta, inner: Any) -> PairsOfWindow:
    """What is unrolled in a window: ``noise`` [pairs, …] like θ, ``inner`` [pairs, 2, …]."""
    return PairsOfWindow(
        noise=noise,
        inner=inner,
        restart=window.restart,
        init_key=window.init_key,
        unroll_key=window.unroll_key,
        length=window.episodes.length,
    )


def loss_differences(
    settings: AntitheticSettings, losses: jax.Array, expected: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """(L⁺ − L⁻)/2 of pairs, less what was ``expected`` [pairs], transformed; and who counts.

    Shapes: losses [pairs, 2] → [pairs]; bool [pairs].
    """
    counting, counted = settings.divergence(losses)
    differences = (counting[:, 0] - counting[:, 1]) / 2
    if expected is not None:
        differences = differences - expected
    return jnp.where(counted, settings.transform(differences, counted), 0), counted


def credit(score: Theta, differences: jax.Array, counted: jax.Array) -> tuple[Theta, jax.Array]:
    """ĝ = 1/n Σ_pairs d · score over the n pairs that count, zero where none does.

    Shapes: score [pairs, …] like θ; d [pairs], zero where not counted; counted, bool [pairs]
    → like θ; and its variance, as `variance_of_mean`.
    """
    weight = differences / jnp.maximum(counted.sum(), 1)

    def one(leaf: jax.Array) -> jax.Array:
        return jnp.tensordot(
            weight.astype(leaf.dtype), leaf, axes=1, precision=jax.lax.Precision.HIGHEST
        )

    gradient = jax.tree.map(one, score)
    squares = jnp.square(differences) * jax.vmap(squared_norm)(score)
    return gradient, variance_of_mean(squares, counted, gradient)


def close_window(
    settings: AntitheticSettings,
    window: Window,
    packed: jax.Array,
    score: Theta,
    gradient: Theta,
    variance: jax.Array,
) -> tuple[Episodes, EstimatorInfo]:
    """The episodes after a window, and what it showed; ``packed`` is of `unroll_pairs`."""
    losses = packed[..., 0]
    finite = jnp.isfinite(losses).all(axis=1)
    episodes = end_window(window.episodes, settings.window, finite)
    info = EstimatorInfo(
        losses=losses,
        sign_gap=jnp.abs(losses[:, 0] - losses[:, 1]),
        ages=episodes.age,
        restarts=window.restart.sum(),
        diverged=(packed[..., 1] > 0).any(axis=1).sum(),
        accumulator_norm=jnp.sqrt(jax.vmap(squared_norm)(score)),
        variance=variance,
        signal_to_noise=signal_to_noise(gradient, variance),
    )
    return episodes, info


def antithetic_estimator(
    problem: UnrolledProblem,
    settings: AntitheticSettings,
    empty_memory: Callable[[Theta], Memory],
    perturb: Perturb,
) -> GradientEstimator:
    """An evolution-strategies estimator, from what it does with noise.

    Args:
      problem: what to unroll; only evaluated forward.
      settings: of `antithetic_settings`.
      empty_memory: from zeros like θ with a leading axis [pairs] to the first memory.
      perturb: ``(fresh, restart [pairs], age [pairs], memory) -> (perturbation, memory)``:
        what pairs are unrolled with and credited to, from fresh noise; ``age`` is that at the
        beginning of the window.
    """
    pairs, layout = settings.particles // 2, settings.layout
    reduce = window_loss(settings.reduction, settings.loss_bound)
    unroll = unroll_pairs(problem, settings.window, reduce)

    def init(key: jax.Array, theta: Theta) -> AntitheticState:
        theta = check_theta(theta)
        sigma_like(settings.sigma, jnp.zeros((), jnp.int32), theta)
        return AntitheticState(
            inner=empty_rows(both_signs(jax.eval_shape(problem.init, key, theta)), pairs),
            memory=empty_memory(empty_rows(theta, pairs)),
            episodes=no_episodes(pairs),
            windows=jnp.zeros((), jnp.int32),
        )

    def step(
        key: jax.Array, theta: Theta, state: AntitheticState, data: Data = None
    ) -> tuple[Theta, AntitheticState, EstimatorInfo]:
        theta = check_theta(theta)
        check_problem(problem, key, theta, data)
        window = begin_window(settings, key, theta, state.episodes, state.windows)
        (noise, score), memory = perturb(
            window.fresh, window.restart, window.episodes.age, state.memory
        )
        # Else the episodes would be spread as their lengths are, and gathered over and over.
        window = layout.everywhere(window)
        pairs_of_window = pairs_in(window, noise, state.inner)
        inner, packed = layout.spread(unroll)(pairs_of_window, (theta, data))
        # The losses are the only thing that devices tell each other: noise and credit are
        # computed alike on all of them.
        packed = layout.everywhere(packed)
        differences, counted = loss_differences(settings, packed[..., 0])
        gradient, variance = credit(score, differences, counted)
        episodes, info = close_window(settings, window, packed, score, gradient, variance)
        return gradient, AntitheticState(inner, memory, episodes, state.windows + 1), info

    return GradientEstimator(init, step)
