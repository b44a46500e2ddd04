"""Rules in NumPy beside the rules in JAX: variants of all, and how far their updates are apart."""

import copy
import zlib
from functools import cache, partial

import jax
import numpy as np

from checkpoints.numpy_rules import rule_module
from learned_opt import RULES
from learned_opt.portable.theta import named_leaves, theta_shapes

STEPS = 10
QUICKLY = {"xla_backend_optimization_level": 0}
"""A program that runs for ten steps takes longer to optimise than to run."""
SHAPES = {
    "layer": {"w": (5, 3), "b": (4,), "conv": (2, 3, 5, 4)},
    "scale": (),
    "none": (0, 3),
    "deep": (2, 1, 2, 3, 2),
}
BASE_SHAPES = {
    "layer/w": (2, 1), "layer/b": (2,), "layer/conv": (2, 3, 2, 2), "scale": (), "none": (0, 1),
    "deep": (2, 1, 2, 3, 1),
}  # fmt: skip
MULTIPLIERS = {"step_multiplier": 0.1, "exponent_multiplier": 0.5}
DECAYS = {
    "momentum_decays": (0.5, 0.8, 0.95), "second_moment_decays": (0.9,),
    "factored_decays": (0.4, 0.9, 0.99),
}  # fmt: skip
STATISTICS = MULTIPLIERS | DECAYS
TIMES = {"timescales": (1.0, 2.0, 5.0, 30.0)}
RATES = {
    "initial_learning_rate": 0.3, "initial_momentum": 0.7, "initial_b1": 0.8, "initial_b2": 0.9,
    "initial_epsilon": 0.01, "initial_weight_decay": 0.3, "initial_power": 0.7,
    "initial_final_share": 0.2, "step_multiplier": 0.5, "time_scale": 7.0, "knots": 4,
}  # fmt: skip
RNN = {"lstm_units": 6, "from_mlp": 3, "from_lstm": 4, "to_mlp": 5, "decays": (0.5, 0.9, 0.97)}
NORMALIZED = DECAYS | {"learning_rate": 0.3, "weight_decay": 0.1}
MASK = {"layer": {"w": True, "b": False, "conv": True}, "scale": True, "none": True, "deep": False}

VARIANTS = {
    "mlp": ("mlp", MULTIPLIERS | TIMES | {"hidden": (7, 5), "momentum_decays": (0.3, 0.9, 0.99)}),
    "adafactor_mlp": ("adafactor_mlp", STATISTICS | TIMES),
    "adafactor_mlp_h32, three v": (
        "adafactor_mlp_h32", STATISTICS | {"second_moment_decays": (0.6, 0.9, 0.99)},
    ),
    "mu_mlp": ("mu_mlp", STATISTICS | {"hidden": (6,), "base_shapes": BASE_SHAPES}),
    "normalized_mlp": ("normalized_mlp", NORMALIZED),
    "normalized_mlp, Newton-Schulz, AdamW, mask": (
        "normalized_mlp",
        NORMALIZED
        | {"newton_schulz_steps": 3, "weight_decay_mask": MASK}
        | {"vectors": "adamw", "vector_rate": 0.5, "vector_decays": (0.7, 0.9)},
    ),
    "scheduled_mlp": ("scheduled_mlp", STATISTICS | {"scheduler_units": 7}),
    "scheduled_mlp, its first phase": ("scheduled_mlp", STATISTICS | {"scheduled": False}),
    "rnn_mlp": ("rnn_mlp", MULTIPLIERS | TIMES | RNN | {"hidden": (6, 4)}),
    "nn_adam": (
        "nn_adam",
        {
            "output_scale": 0.02, "initial_learning_rate": 0.1, "initial_beta1": 0.7,
            "initial_beta2": 0.9, "initial_epsilon": 0.01, "lstm_units": 6,
        },
    ),
    "nominal_mlp": ("nominal_mlp", STATISTICS | {"nominal_rate": 0.1, "weight_decay": 0.2}),
    "nominal_mlp, preconditioned": (
        "nominal_mlp", STATISTICS | {"preconditioned": True, "nominal_epsilon": 0.01},
    ),
    **{
        f"hyper: {optimizer}, {schedule}": (
            "hyper", RATES | {"optimizer": optimizer, "schedule": schedule},
        )
        for optimizer, schedule in [
            ("sgd", "constant"), ("momentum", "power"), ("adam", "cosine"), ("adamw", "linear"),
            ("adamw", "piecewise"),
        ]
    },
}  # fmt: skip
"""Rules with constants away from their defaults; together all optimizers and schedules."""


def tree_of(function):
    return jax.tree.map(function, SHAPES, is_leaf=lambda x: isinstance(x, tuple))


def scaled(scale, values):
    return np.asarray(values * scale, np.float32)


@cache
def problem():
    """Parameters, gradients of scales from 1e-3 to 10, and losses, step by step.

    The last but one of the gradients have an entry beyond ±1000.
    """
    draw = np.random.default_rng(0)
    first = tree_of(lambda shape: draw.normal(0.3, 1.0, shape))
    scales = draw.permutation(np.geomspace(1e-3, 10.0, STEPS))
    params, gradients = [], []
    for scale in scales:
        moved = jax.tree.map(lambda p: p + 0.1 * draw.normal(size=p.shape), first)
        params.append(jax.tree.map(lambda p: np.asarray(p, np.float32), moved))
        drawn = tree_of(lambda shape: draw.normal(0.2, 1.0, shape))
        gradients.append(jax.tree.map(partial(scaled, scale), drawn))
    gradients[-2]["layer"]["w"][1, 2] = 5000.0
    losses = np.float32(3 * np.exp(-0.2 * np.arange(STEPS)) + draw.normal(size=STEPS))
    return params, gradients, losses


SCALARS = {
    "initial_rate": np.log(0.1) / 10, "initial_beta1": np.log(0.3) / 10,
    "initial_beta2": np.log(0.1) / 10, "initial_epsilon": np.log(0.01) / 10,
    "log_learning_rate": np.log(0.3), "log_one_minus_momentum": np.log(0.3),
    "log_one_minus_b1": np.log(0.2), "log_one_minus_b2": np.log(0.1), "log_epsilon": np.log(0.01),
    "log_weight_decay": np.log(0.3), "log_power": np.log(0.7), "log_final_share": np.log(0.2),
}  # fmt: skip
"""Those of θ's tensors that are single numbers."""


def random_theta(shapes, seed):
    """Every tensor at random: biases, first states and offsets of decays are not zero."""
    draw, theta = np.random.default_rng(seed), {}
    for name, leaf in named_leaves(shapes).items():
        last = name.split("/")[-1]
        scale = len(np.zeros(leaf.shape)) ** -0.5 if last == "w" else 0.3
        scale = 0.05 if name.startswith("decays/") else scale
        noise = scale * draw.normal(size=leaf.shape)
        theta[name] = np.float32(SCALARS[last] if not leaf.ndim else noise)
    return jax.tree.unflatten(jax.tree.structure(shapes), list(theta.values()))


@cache
def reference(variant):
    """The rule in JAX, its θ by path, and its updates of all steps: [steps, *shape] by path."""
    rule, constants = VARIANTS[variant]
    optimizer = RULES[rule](**constants)
    theta = random_theta(theta_shapes(optimizer), zlib.crc32(variant.encode()))

    @partial(jax.jit, compiler_options=QUICKLY)
    def updates(theta, params, gradients, losses):
        tx = optimizer.build(theta, num_steps=2 * STEPS)

        def step(state, given):
            params, gradients, loss = given
            steps, state = tx.update(gradients, state, params, **extras(rule, loss))
            return state, steps

        first = tx.init(jax.tree.map(lambda p: p[0], params))
        return jax.lax.scan(step, first, (params, gradients, losses))[1]

    found = named_leaves(updates(theta, *map(stacked, problem())))
    return optimizer, named_leaves(theta), {name: np.asarray(u) for name, u in found.items()}


def stacked(trees):
    return jax.tree.map(lambda *x: np.stack(x), *trees)


def extras(rule, loss):
    return {"value": loss} | ({"validation_value": 2 * loss - 1} if rule == "rnn_mlp" else {})


def deviations(variant):
    """The largest |difference| of every tensor's updates at every step, over their largest entry.

    A tenth of the largest of all steps is added, for a scalar whose update passes through 0.
    """
    rule, _ = VARIANTS[variant]
    optimizer, theta, expected = reference(variant)
    twin = rule_module(optimizer.name).Optimizer(theta, optimizer.constants, num_steps=2 * STEPS)
    found = []
    state = twin.init(named_leaves(problem()[0][0]))
    for step, (params, gradients, loss) in enumerate(zip(*problem(), strict=True)):
        arguments = [named_leaves(gradients), state, named_leaves(params)]
        kept = copy.deepcopy(arguments)
        updates, state = twin.update(*arguments, **extras(rule, loss))
        jax.tree.map(np.testing.assert_array_equal, arguments, kept)  # nothing is written into
        assert {name: (u.shape, u.dtype) for name, u in updates.items()} == {
            name: (p.shape, np.dtype(np.float32)) for name, p in arguments[2].items()
        }
        for name, update in updates.items():
            wanted = expected[name][step]
            if update.size:
                scale = np.abs(wanted).max() + 0.1 * np.abs(expected[name]).max()
                found.append(np.abs(update - wanted).max() / scale)
    return np.array(found)
