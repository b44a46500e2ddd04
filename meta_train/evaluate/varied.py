"""A learned optimizer that is used otherwise than it was made, by settings that one program takes.

multiplier   its updates are so many times as large
num_steps    it is told so many times the steps that there will be
ablated      its network does not see a group of its inputs: their rows of the first matrix are 0
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt import LearnedOptimizer
from meta_train.evaluate.contestant import Contestant, Settings, as_arrays

UNVARIED: Settings = {"multiplier": 1.0, "num_steps": 1.0, "ablated": -1.0}
FIRST_MATRIX = re.compile(r"mlp/~/linear_0'\]\['w'\]$")


def varied(contestant: Contestant) -> Contestant:
    """The contestant, as it was saved, with the settings at the top of this file."""
    rule = contestant.optimizer
    masks = _masks(rule)
    theta = contestant.theta({})

    def init(key: jax.Array) -> Any:
        return {"rule": rule.init(key), "settings": as_arrays(UNVARIED)}

    def build(theta: Any, num_steps: Any = None) -> optax.GradientTransformationExtraArgs:
        settings = theta["settings"]
        steps = num_steps
        if num_steps is not None:
            steps = jnp.maximum(jnp.round(num_steps * settings["num_steps"]), 1).astype(jnp.int32)
        ablated = _ablated(theta["rule"], masks, settings["ablated"])
        tx = rule.build(ablated, num_steps=steps)

        def update(grads: Any, state: Any, params: Any = None, **extra: Any) -> Any:
            updates, state = tx.update(grads, state, params, **extra)
            scaled = jax.tree.map(lambda u: (settings["multiplier"] * u).astype(u.dtype), updates)
            return scaled, state

        return optax.GradientTransformationExtraArgs(tx.init, update)

    return contestant._replace(
        name=f"{contestant.name}/varied",
        identity={**contestant.identity, "varied": True},
        optimizer=rule._replace(init=init, build=build),
        theta=lambda settings: {"rule": theta, "settings": as_arrays(settings)},
    )


def input_groups(rule: LearnedOptimizer) -> dict[str, list[int]]:
    """Inputs of the network by what they are: ``m`` has the places of ``m[0]``, ``m[1]``, ….

    Empty where the rule has no network of one matrix over its inputs.
    """
    if not _has_matrix(rule):
        return {}
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(rule.inputs):
        groups.setdefault(re.sub(r"\[\d+\]$", "", name), []).append(place)
    return groups


def _has_matrix(rule: LearnedOptimizer) -> bool:
    shapes = jax.eval_shape(rule.init, jax.random.key(0))
    return any(
        FIRST_MATRIX.search(jax.tree_util.keystr(path)) and leaf.shape[0] == len(rule.inputs)
        for path, leaf in jax.tree.leaves_with_path(shapes)
    )


def _masks(rule: LearnedOptimizer) -> np.ndarray:
    """What stays of the inputs where a group is ablated: [groups, inputs]."""
    groups: Sequence[list[int]] = list(input_groups(rule).values())
    masks = np.ones((max(len(groups), 1), max(len(rule.inputs), 1)), np.float32)
    for row, places in zip(masks, groups, strict=False):
        row[places] = 0
    return masks


def _ablated(theta: Any, masks: np.ndarray, group: jax.Array) -> Any:
    chosen = jnp.asarray(masks)[jnp.maximum(group, 0).astype(jnp.int32)]
    kept = jnp.where(group >= 0, chosen, 1.0)

    def leaf(path: Any, value: Any) -> Any:
        matrix = FIRST_MATRIX.search(jax.tree_util.keystr(path))
        if not matrix or value.shape[0] != masks.shape[1]:
            return value
        return value * kept[:, None]

    return jax.tree.map_with_path(leaf, theta)


def settings_of(**changed: float) -> Mapping[str, float]:
    """`UNVARIED` but for what is given."""
    return {**UNVARIED, **changed}
