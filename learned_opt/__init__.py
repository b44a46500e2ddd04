"""Learned optimizers as optax transformations.

tx = learned_opt.load("NAME_OR_DIRECTORY")
state = tx.init(params)
updates, state = tx.update(grads, state, params, value=loss)
params = optax.apply_updates(params, updates)
"""

from learned_opt.base import LearnedOptimizer
from learned_opt.portable import (
    OptimizerFormatError,
    PortableOptimizer,
    describe,
    list_pretrained,
    load,
    read,
    save,
)
from learned_opt.rules import RULES

__all__ = [
    "RULES",
    "LearnedOptimizer",
    "OptimizerFormatError",
    "PortableOptimizer",
    "describe",
    "list_pretrained",
    "load",
    "read",
    "save",
]
