"""What the experiments on classifiers share: images, a bound on losses, a layout for CPU."""

import math

import jax

from meta_train.estimators.base import ALL_AT_ONCE, Layout
from meta_train.parallel import in_blocks
from meta_train.problem import Data
from meta_train.problems.optimizer_training import meta_data
from tasks import get_family

IMAGES = "Fashion-MNIST at 8×8"
LOSS_BOUND = 1.5 * math.log(10)
"""What a loss counts at most: half more than that of a classifier which knows nothing."""


def load_images() -> Data:
    """The splits "train" and "inner_validation" of the embedded images, on the host."""
    splits = get_family("fashion_mnist_8x8_mlp32").load()
    return jax.device_get(meta_data(splits, "validation"))


def one_pair_at_a_time() -> Layout:
    """On CPU a pair of classifiers stays in a core's cache; an accelerator wants all at once."""
    if jax.default_backend() != "cpu":
        return ALL_AT_ONCE

    return ALL_AT_ONCE._replace(spread=lambda function: in_blocks(function, 1))
