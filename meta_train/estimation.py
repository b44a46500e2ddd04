"""The estimator of a run, from its configuration."""

from typing import Any

from meta_train.config import MetaTrainConfig, components_of
from meta_train.estimators import ESTIMATORS, WITHOUT_NOISE, GradientEstimator
from meta_train.estimators.base import Layout, Length
from meta_train.estimators.differences import transform_named
from meta_train.estimators.episodes import log_uniform
from meta_train.problem import UnrolledProblem


def rows_of(config: MetaTrainConfig) -> int:
    """What may be split over devices: pairs, or episodes where nothing has noise."""
    names = {name for name, _ in components_of(config)}
    return config.particles if names <= WITHOUT_NOISE else config.particles // 2


def make_estimator(
    config: MetaTrainConfig, problem: UnrolledProblem, *, loss_bound: float | None, layout: Layout
) -> GradientEstimator:
    """The estimator of a checked configuration: mean window losses, staggered episodes."""
    length: Length = config.length_min
    if config.length_max > config.length_min:
        length = log_uniform(config.length_min, config.length_max)
    common: dict[str, Any] = dict(
        window=config.window,
        length=length,
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
