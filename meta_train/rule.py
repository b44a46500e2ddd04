"""The update rule of a configuration, and which part of its θ is trained."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

import learned_opt
from learned_opt import RULES, LearnedOptimizer
from meta_train.config import ConfigError, MetaTrainConfig
from meta_train.problem import Theta


class TrainedRule(NamedTuple):
    """``optimizer``: the rule as it is meta-trained, whose θ is the part that is not frozen;
    ``whole``: the rule itself, and ``complete`` its θ from that part; ``initial_sha256``: of
    the optimizer that it begins with, or empty.
    """

    optimizer: LearnedOptimizer
    whole: LearnedOptimizer
    complete: Callable[[Theta], Theta]
    initial_sha256: str = ""


def make_rule(config: MetaTrainConfig, key: jax.Array) -> TrainedRule:
    """The rule of ``config.rule`` and ``config.constants``, begun and frozen as it says.

    ``key`` draws what is frozen, where there is no ``config.initial``.

    Raises:
      ConfigError: the constants do not fit the rule, there is nothing to train, or
        ``config.freeze`` or ``config.initial`` do not go with it.
      FileNotFoundError, OptimizerFormatError: of ``config.initial``.
    """
    whole = rule_of(config)
    shapes = jax.eval_shape(whole.init, key)
    if not jax.tree.leaves(shapes):
        raise ConfigError(f"`config.rule`={config.rule!r} has no meta-parameters to train")
    if not config.initial and not config.freeze:
        return TrainedRule(whole, whole, lambda theta: theta)
    first, initial_sha256 = (
        _read_initial(config, shapes) if config.initial else (whole.init(key), "")
    )
    frozen = {name: first[name] for name in _frozen_names(config, shapes)}
    trained = {name: part for name, part in first.items() if name not in frozen}

    def complete(theta: Theta) -> Theta:
        return {name: frozen[name] if name in frozen else theta[name] for name in first}

    optimizer = whole._replace(
        init=lambda key: trained,
        build=lambda theta, num_steps=None: whole.build(complete(theta), num_steps),
    )
    return TrainedRule(optimizer, whole, complete, initial_sha256)


def rule_of(config: MetaTrainConfig) -> LearnedOptimizer:
    """``RULES[config.rule]`` with its constants; ConfigError where they do not fit."""
    try:
        constants = json.loads(config.constants)
        if not isinstance(constants, dict):
            raise ValueError("it must be an object")
    except ValueError as error:
        raise ConfigError(
            f"`config.constants`={config.constants!r} is not JSON ({error}); give the constants "
            "of the rule as in '{\"step_multiplier\": 0.01}'"
        ) from None
    try:
        return RULES[config.rule](**constants)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"`config.constants`={config.constants!r} do not fit the rule {config.rule!r}: {error}"
        ) from None


def _frozen_names(config: MetaTrainConfig, shapes: Any) -> list[str]:
    names = [name.strip() for name in config.freeze.split(",") if name.strip()]
    if unknown := sorted(set(names) - set(shapes)):
        raise ConfigError(
            f"`config.freeze`={config.freeze!r}: θ of {config.rule!r} has no part {unknown}; its "
            f"parts: {sorted(shapes)}"
        )
    if set(names) == set(shapes):
        raise ConfigError(f"`config.freeze`={config.freeze!r} leaves nothing to train")
    return names


def _read_initial(config: MetaTrainConfig, shapes: Mapping[str, Any]) -> tuple[Theta, str]:
    found = learned_opt.read(config.initial)
    theirs, ours = (_kinds(tree) for tree in (found.theta, shapes))
    if theirs != ours:
        raise ConfigError(
            f"`config.initial`={config.initial!r} is of the rule {found.optimizer.name!r} with "
            f"another θ than that of `config.rule`={config.rule!r} and its constants"
        )
    return found.theta, found.manifest["sha256"]


def _kinds(tree: Any) -> dict[str, tuple]:
    return {
        jax.tree_util.keystr(path): (leaf.shape, str(leaf.dtype))
        for path, leaf in jax.tree.leaves_with_path(tree)
    }
