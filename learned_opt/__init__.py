"""Learned optimizers as optax transformations.

tx = learned_opt.load("NAME_OR_PATH")
state = tx.init(params)
updates, state = tx.update(grads, state, params, value=loss)
params = optax.apply_updates(params, updates)
"""

from learned_opt.base import LearnedOptimizer
from learned_opt.guard import guard
from learned_opt.portable import (
    OptimizerFormatError,
    PortableOptimizer,
    describe,
    list_pretrained,
    load,
    read,
    save,
)
from learned_opt.portable.envelope import OutsideEnvelopeWarning
from learned_opt.rules import RULES
from learned_opt.rules.optax_rule import from_optax

__all__ = [
    "RULES",
    "LearnedOptimizer",
    "OptimizerFormatError",
    "OutsideEnvelopeWarning",
    "PortableOptimizer",
    "describe",
    "from_optax",
    "guard",
    "list_pretrained",
    "load",
    "read",
    "save",
]
