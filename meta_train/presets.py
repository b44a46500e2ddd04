"""Presets of `python -m meta_train`, by name."""

import dataclasses
from collections.abc import Mapping

from meta_train.config import MetaTrainConfig

CONSTANTS: Mapping[str, str] = {
    "mlp": '{"step_multiplier": 0.003, "exponent_multiplier": 0.1}',
    "adafactor_mlp": '{"step_multiplier": 0.003, "exponent_multiplier": 0.1}',
    "adafactor_mlp_h32": '{"step_multiplier": 0.003, "exponent_multiplier": 0.1}',
    "normalized_mlp": '{"learning_rate": 0.01}',
    "scheduled_mlp": '{"scheduled": false, "step_multiplier": 0.03, "exponent_multiplier": 0.1}',
}
"""Constants to meta-train a rule with on short episodes, where its published ones are for long."""

# python -m meta_train --preset=demo --workdir=DIR
# Cost: 3.8 million inner steps; about 4 minutes on two cores.
# Result: on its task tuned Adam ends 3 to 4 % above it at 100 steps, 2 to 3 % at 200 (seeds 0, 1);
# beyond 200 steps it is of no use.
DEMO = MetaTrainConfig(
    constants=CONSTANTS["mlp"],
    sigma=0.05,
    length_min=100,
    length_max=200,
    updates=12_000,
    learning_rate=3e-3,
    learning_rate_end=0.0,
)

# python -m meta_train --preset=tiny --workdir=DIR
# Cost: under 30 seconds. Result: every part has run once; the optimizer is of no use.
TINY = dataclasses.replace(
    DEMO,
    particles=16,
    window=5,
    length_min=10,
    length_max=40,
    updates=60,
    warmup=5,
    checkpoint_every=20,
)

# python -m meta_train --preset=tasks --workdir=DIR
# Cost: 7.7 million inner steps, twice those of the demo; six programs to compile.
# Result: not scored yet.
TASKS = dataclasses.replace(
    DEMO,
    task=(
        "fashion_mnist_8x8_mlp32=2,fashion_mnist_8x8_softmax,fashion_mnist_8x8_mlp32x32_tanh,"
        "fashion_mnist_8x8_conv16x32,fashion_mnist_8x8_autoencoder32x8x32,quadratic32"
    ),
    tasks_per_update=2,
)

PRESETS: Mapping[str, MetaTrainConfig] = {"demo": DEMO, "tiny": TINY, "tasks": TASKS}
