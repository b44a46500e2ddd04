"""Learned optimizers as contestants: as saved, and with the rate tuned where they take one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from learned_opt import RULES, LearnedOptimizer, PortableOptimizer
from meta_train.evaluate.baselines import BASELINES
from meta_train.evaluate.contestant import (
    FIRST_SCHEDULE,
    RATE,
    SCHEDULES,
    Contestant,
    as_arrays,
    schedule_of,
)

TUNED = "/tuned"
UNTELLING = ("optimizer", "optimizer_last", "evaluation", "runs", ".", "..", "/")


def learned_contestants(name: str, saved: PortableOptimizer) -> list[Contestant]:
    """A saved optimizer as it is; and with its rate tuned, if its rule takes one."""
    identity = {"manifest": saved.manifest["sha256"]}
    theta = jax.tree.map(np.asarray, saved.theta)
    as_saved = Contestant(name, name, True, identity, saved.optimizer, lambda _: theta)
    if RATE not in saved.optimizer.constants:
        return [as_saved]
    tuned = Contestant(
        name + TUNED,
        f"{name}, rate tuned",
        True,
        identity | {"tuned": True},
        _with_settings(saved.optimizer),
        lambda settings: {"rule": theta, "settings": as_arrays(settings)},
        SCHEDULES,
    )
    return [as_saved, tuned]


def _with_settings(rule: LearnedOptimizer) -> LearnedOptimizer:
    """The rule with {"rule": its θ, "settings": rate and schedule} as θ."""

    def init(key: jax.Array) -> Any:
        return {"rule": rule.init(key), "settings": as_arrays(FIRST_SCHEDULE)}

    def build(theta: Any, num_steps: Any = None) -> optax.GradientTransformationExtraArgs:
        constants = {**rule.constants, RATE: schedule_of(theta["settings"])}
        return RULES[rule.name](**constants).build(theta["rule"], num_steps=num_steps)

    return rule._replace(init=init, build=build)


def short_names(sources: Sequence[str]) -> list[str]:
    """A name for each source: that of a shipped optimizer, or the last telling part of a path.

    ``runs/mine/optimizer`` is ``mine``; a name that is taken gets a number.
    """
    names: list[str] = []
    for source in sources:
        parts = [part.removesuffix(".safetensors") for part in Path(source).parts]
        name = next((part for part in reversed(parts) if part not in UNTELLING), "learned")
        name = f"learned-{name}" if name in BASELINES else name
        number, unique = 2, name
        while unique in names:
            number, unique = number + 1, f"{name}-{number}"
        names.append(unique)
    return names
