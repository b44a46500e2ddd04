"""Presets of `python -m meta_train`, by name."""

import dataclasses
from collections.abc import Mapping

from meta_train.config import MetaTrainConfig

# python -m meta_train --preset=demo --workdir=DIR
# Cost: about 5 minutes on two cores.
# Result: on fashion_mnist_8x8_mlp32 at its 200 steps, below Adam at its best rate and schedule.
DEMO = MetaTrainConfig(step_multiplier=0.01, exponent_multiplier=0.01)

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

PRESETS: Mapping[str, MetaTrainConfig] = {"demo": DEMO, "tiny": TINY}
