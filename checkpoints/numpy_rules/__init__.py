"""The update rules again in plain NumPy, to be read, copied and ported.

Each module is one rule in the form its paper gives: features [n, inputs], each divided by its root
mean square, an ordinary network on every row. They import NumPy and `common`, nothing else, and
are tested against the JAX rules. A module has one class::

    optimizer = Optimizer(theta, constants, num_steps=None)
    state = optimizer.init(params)
    updates, state = optimizer.update(gradients, state, params, value=loss)
    params = {name: params[name] + updates[name] for name in params}

``theta``, ``params``, ``gradients`` and ``updates`` map paths to float32 arrays.
"""

import importlib
from types import ModuleType

NAMES = (
    "mlp", "adafactor_mlp", "mu_mlp", "normalized_mlp", "scheduled_mlp", "rnn_mlp", "nn_adam",
    "nominal_mlp", "hyper",
)  # fmt: skip
"""The rules, each the name of a module; the rule "optax" has no θ, and its code is optax's."""


def rule_module(name: str) -> ModuleType:
    """The module of the rule ``name``, one of `NAMES`."""
    return importlib.import_module(f"{__name__}.{name}")
