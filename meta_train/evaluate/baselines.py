"""Hand-designed optimizers as contestants: a rate and a schedule are their θ.

Schedule-free AdamW (Defazio et al. 2024, arXiv:2405.15682) has two β₁ in the place of schedules. So
every baseline has two variants of every rate, and as many trials as any other.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from learned_opt import LearnedOptimizer
from meta_train.evaluate.contestant import (
    FIRST_SCHEDULE,
    RATE,
    SCHEDULES,
    Contestant,
    Schedule,
    Settings,
    Variants,
    as_arrays,
    schedule_of,
)

MOMENTUM = 0.9
WEIGHT_DECAY = 0.01  # of AdamW and schedule-free AdamW; Lion and the others have optax's own
BETAS: Variants = {"b1=0.9": lambda _: {"b1": 0.9}, "b1=0.98": lambda _: {"b1": 0.98}}
REFERENCE = "adam"
"""What ratios and speed-ups are measured against."""


def _of_settings(
    name: str,
    first: Settings,
    make: Callable[[Mapping[str, jax.Array]], optax.GradientTransformation],
) -> LearnedOptimizer:
    """What ``make`` makes of settings, with the settings as θ; ``first`` of them."""

    def init(key: jax.Array) -> dict[str, jax.Array]:
        del key
        return {k: jnp.float32(v) for k, v in first.items()}

    def build(
        theta: Mapping[str, jax.Array], num_steps: Any = None
    ) -> optax.GradientTransformationExtraArgs:
        del num_steps  # the horizon of a schedule is among the settings
        return optax.with_extra_args_support(make(theta))

    return LearnedOptimizer(name, {}, init, build)


def _scheduled(
    name: str, title: str, make: Callable[[Schedule], optax.GradientTransformation]
) -> Contestant:
    rule = _of_settings(name, FIRST_SCHEDULE, lambda settings: make(schedule_of(settings)))
    return Contestant(name, title, False, {"baseline": name}, rule, as_arrays, SCHEDULES)


def _schedule_free(settings: Mapping[str, jax.Array]) -> optax.GradientTransformation:
    return contrib.schedule_free_adamw(settings[RATE], b1=settings["b1"], weight_decay=WEIGHT_DECAY)


_SCHEDULE_FREE = Contestant(
    "schedule_free_adamw",
    "schedule-free AdamW",
    False,
    {"baseline": "schedule_free_adamw"},
    _of_settings("schedule_free_adamw", {RATE: 1e-3, "b1": 0.9}, _schedule_free),
    as_arrays,
    BETAS,
    contrib.schedule_free_eval_params,
)

BASELINES: Mapping[str, Contestant] = {
    contestant.name: contestant
    for contestant in (
        _scheduled(REFERENCE, "Adam", optax.adam),
        _scheduled("sgd_momentum", "SGD+momentum", lambda rate: optax.sgd(rate, momentum=MOMENTUM)),
        _scheduled("adamw", "AdamW", lambda rate: optax.adamw(rate, weight_decay=WEIGHT_DECAY)),
        _scheduled("lion", "Lion", optax.lion),
        _scheduled("muon", "Muon", contrib.muon),
        _scheduled("adafactor", "Adafactor", optax.adafactor),
        _SCHEDULE_FREE,
    )
}
