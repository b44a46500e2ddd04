"""The update rules, by name: ``RULES[name](**constants)`` is a `LearnedOptimizer`."""

from collections.abc import Callable, Mapping

from learned_opt.base import LearnedOptimizer
from learned_opt.rules.mlp import mlp

RULES: Mapping[str, Callable[..., LearnedOptimizer]] = {"mlp": mlp}
