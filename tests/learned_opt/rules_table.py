"""Every rule of the registry with constants that make its steps visible, and what it needs."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_opt import RULES

STEPS = 50

# Compilation is what costs in these tests.
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class Row(NamedTuple):
    """``hyperparameter``: a constant whose value `optax.inject_hyperparams` may change."""

    rule: str
    constants: dict
    hyperparameter: str = "step_multiplier"
    state_dtype: bool = True  # whether the rule has such a constant


LOUD = {"step_multiplier": 0.02, "exponent_multiplier": 0.3}
ROWS = {
    "mlp": Row("mlp", LOUD),
    "adafactor_mlp": Row("adafactor_mlp", LOUD),
    "mu_mlp": Row("mu_mlp", LOUD),
    "normalized_mlp": Row(
        "normalized_mlp", {"learning_rate": 0.01, "weight_decay": 0.1}, "learning_rate"
    ),
    "normalized_mlp orthogonal, AdamW": Row(
        "normalized_mlp",
        {"learning_rate": 0.01, "newton_schulz_steps": 5, "vectors": "adamw"},
        "learning_rate",
    ),
    "scheduled_mlp": Row("scheduled_mlp", LOUD),
    "rnn_mlp": Row("rnn_mlp", LOUD),
    "nn_adam": Row("nn_adam", {"initial_learning_rate": 0.01}, "output_scale"),
    "nominal_mlp": Row("nominal_mlp", LOUD),
    "hyper": Row("hyper", {"optimizer": "adamw"}, state_dtype=False),
    "hyper, cosine": Row(
        "hyper", {"optimizer": "momentum", "schedule": "cosine"}, state_dtype=False
    ),
    "optax": Row("optax", {"transformation": "lion"}, "arguments", state_dtype=False),
}


def make(row, **constants):
    """The rule, and a θ of it that says something everywhere."""
    rule = RULES[row.rule](**{**row.constants, **constants})
    theta = rule.init(jax.random.key(0))
    leaves, tree = jax.tree.flatten(theta)
    keys = jax.random.split(jax.random.key(7), max(len(leaves), 1))
    shifted = [x + 0.02 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=False)]
    return rule, tree.unflatten(shifted)


def build(row, **constants):
    rule, theta = make(row, **constants)
    return rule.build(theta, num_steps=STEPS)


def small():
    """A matrix and a vector."""
    keys = jax.random.split(jax.random.key(2))
    return {"matrix": jax.random.normal(keys[0], (4, 3)), "v": jax.random.normal(keys[1], (5,))}


def parameters():
    """A matrix, vectors, a scalar, ranks 4 and 5, an empty tensor; two of one shape."""
    keys = iter(jax.random.split(jax.random.key(1), 8))

    def draw(*shape):
        return jax.random.normal(next(keys), shape)

    return {
        "matrix": draw(4, 3),
        "nested": [draw(5), draw()],
        "kernel": draw(2, 2, 3, 4),
        "another": draw(5),
        "fifth": draw(2, 1, 2, 3, 2),
        "empty": jnp.zeros((0, 3)),
    }
