"""A weighted mean of several estimators of the same gradient; Metz et al. 2019
(arXiv:1810.10180) combine evolution strategies with backpropagation, by their variances.

ĝ = Σ_k w_k ĝ_k,    Σ_k w_k = 1, fixed

Unbiased where all of them are; its variance is Σ_k w_k² Var ĝ_k, their draws being independent.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from meta_train.estimators.base import EstimatorInfo, GradientEstimator, signal_to_noise
from meta_train.problem import Data, Theta, UnrolledProblem

Maker = Callable[..., GradientEstimator]


class MixtureState(NamedTuple):
    """``inner``: those of the estimators; ``rest``: their states without it."""

    inner: tuple[Any, ...]
    rest: tuple[Any, ...]


def mixture_of(makers: Mapping[str, Maker]) -> Maker:
    """The estimator at the top of this file, for the estimators of a registry."""

    def mixture(
        problem: UnrolledProblem,
        *,
        components: Sequence[tuple[str, float, Mapping[str, Any]]] = DEFAULT,
        **settings: Any,
    ) -> GradientEstimator:
        """The estimator at the top of the file.

        Args:
          problem: what to unroll; what it must allow is for the components to say.
          components: (name of an estimator, weight, settings of its own) of each; the
            weights add up to 1.
          **settings: of all components.

        Raises:
          ValueError: weights do not add up to 1, a name is unknown, or a setting is out of
            range.
        """
        check_components(components, makers)
        parts = [makers[name](problem, **{**settings, **own}) for name, _, own in components]
        return _mean_of(parts, [float(weight) for _, weight, _ in components])

    return mixture


DEFAULT: tuple[tuple[str, float, Mapping[str, Any]], ...] = (
    ("pes", 0.5, {}),
    ("truncated_es", 0.5, {}),
)


def check_components(
    components: Sequence[tuple[str, float, Mapping[str, Any]]], makers: Mapping[str, Maker]
) -> None:
    """Raise ValueError for components that make no mean."""
    for component in components:
        if len(component) != 3:
            raise ValueError(
                f"`components` has {component!r}; each is (name, weight, settings of its own)"
            )
        name = component[0]
        if name not in makers:
            raise ValueError(
                f"`components` names {name!r}, which is unknown; legal ones: {sorted(makers)}"
            )
    weights = [weight for _, weight, _ in components]
    if not math.isclose(sum(weights), 1, abs_tol=1e-6):
        raise ValueError(f"`components` has the weights {weights}; they must add up to 1")


def _mean_of(parts: Sequence[GradientEstimator], weights: Sequence[float]) -> GradientEstimator:
    def init(key: jax.Array, theta: Theta) -> MixtureState:
        keys = jax.random.split(key, len(parts))
        return _split([part.init(k, theta) for part, k in zip(parts, keys, strict=True)])

    def step(
        key: jax.Array, theta: Theta, state: MixtureState, data: Data = None
    ) -> tuple[Theta, MixtureState, EstimatorInfo]:
        gradients, states, infos = [], [], []
        for part, k, rest, inner in zip(
            parts, jax.random.split(key, len(parts)), state.rest, state.inner, strict=True
        ):
            share, after, info = part.step(k, theta, rest._replace(inner=inner), data)
            # One after the other: two collectives at once can lock XLA's threads on CPU.
            theta, share = jax.lax.optimization_barrier((theta, share))
            gradients.append(share)
            states.append(after)
            infos.append(info)
        gradient = jax.tree.map(
            lambda *gs: sum(w * g for w, g in zip(weights, gs, strict=True)), *gradients
        )
        return gradient, _split(states), _join(infos, weights, gradient)

    return GradientEstimator(init, step)


def _split(states: Sequence[Any]) -> MixtureState:
    return MixtureState(
        tuple(state.inner for state in states), tuple(state._replace(inner=()) for state in states)
    )


def _join(
    infos: Sequence[EstimatorInfo], weights: Sequence[float], gradient: Theta
) -> EstimatorInfo:
    """The rows of all of them; a loss of one sign stands for both where others have two."""
    signs = max(info.losses.shape[1] for info in infos)
    losses = [jnp.broadcast_to(i.losses, (i.losses.shape[0], signs)) for i in infos]
    shares = [w**2 * info.variance for w, info in zip(weights, infos, strict=True)]
    variance = jnp.stack(shares).sum()
    return EstimatorInfo(
        losses=jnp.concatenate(losses),
        sign_gap=jnp.concatenate([info.sign_gap for info in infos]),
        ages=jnp.concatenate([info.ages for info in infos]),
        restarts=jnp.stack([info.restarts for info in infos]).sum(),
        diverged=jnp.stack([info.diverged for info in infos]).sum(),
        accumulator_norm=jnp.concatenate([info.accumulator_norm for info in infos]),
        variance=variance,
        signal_to_noise=signal_to_noise(gradient, variance),
    )
