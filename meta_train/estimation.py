"""The estimator of a run, from its configuration."""

from typing import Any

import jax

from meta_train.config import MetaTrainConfig, components_of
from meta_train.curriculum import episode_length
from meta_train.estimators import ESTIMATORS, WITHOUT_NOISE, GradientEstimator
from meta_train.estimators.base import Layout
from meta_train.estimators.differences import transform_named
from meta_train.problem import UnrolledProblem


def rows_of(config: MetaTrainConfig) -> int:
    """What may be split over devices: pairs, or episodes where nothing has noise."""
    names = {name for name, _ in components_of(config)}
    return config.particles if names <= WITHOUT_NOISE else config.particles // 2


def make_estimator(
    config: MetaTrainConfig,
    problem: UnrolledProblem,
    update: jax.Array,
    *,
    loss_bound: float | None,
    layout: Layout,
) -> GradientEstimator:
    """The estimator of a checked configuration in an ``update``, an int32 that may be traced:
    mean window losses, staggered episodes.
    """
    common: dict[str, Any] = dict(
        window=config.window,
        length=episode_length(config, update),
        reduction="mean",
        stagger=True,
        loss_bound=loss_bound,
        layout=layout,
    )
    if config.estimator != "mixture":
        return ESTIMATORS[config.estimator](problem, **common, **_own(config, config.estimator))
    components = [(name, weight, _own(config, name)) for name, weight in components_of(config)]
    return ESTIMATORS["mixture"](problem, components=components, **common)


def _own(config: MetaTrainConfig, name: str) -> dict[str, Any]:
    """The settings that not all estimators have."""
    if name in WITHOUT_NOISE:
        return {"episodes": config.particles}
    noise: dict[str, Any] = dict(
        particles=config.particles,
        sigma=config.sigma,
        transform=transform_named(config.transform),
    )
    return {**noise, "noise_period": config.noise_period} if name == "gpes" else noise
