"""The inner gradient in parts, on several devices and rematerialised: the same θ."""

import dataclasses
import re

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.assemble import assemble
from meta_train.config import ConfigError, check_config
from meta_train.inner_gradient import in_sequence
from meta_train.presets import TINY
from meta_train.rematerialization import best_cuts, differentiate_rematerialized
from tasks import get_family
from tasks.base import differentiate_whole

CONFIG = dataclasses.replace(TINY, task="fashion_mnist_8x8_mlp8", devices=1, updates=12)


def run_of(**changes):
    config = dataclasses.replace(CONFIG, **changes)
    check_config(config)
    return assemble(config)


def theta_after(updates, **changes):
    run = run_of(**changes)
    state = run.training.init(run.key_init)
    state, metrics = run.training.advance(state, np.int32(updates), run.key_updates, run.data)
    return jax.device_get(state.theta), float(metrics["meta_loss"])


@pytest.fixture(scope="module")
def reference():
    return theta_after(6)


@pytest.mark.parametrize(
    "changes",
    [
        {"microbatches": 4},
        {"devices": 2, "batch_devices": 2},
        {"devices": 4, "batch_devices": 2, "microbatches": 2},
        {"devices": 4, "batch_devices": 4, "block": 2},
        {"rematerialize": True},
        {"rematerialize": True, "microbatches": 2, "devices": 2, "batch_devices": 2},
        {"block": 2},
    ],
    ids=str,
)
def test_the_same_theta_however_the_minibatch_is_divided(reference, changes):
    theta, meta_loss = theta_after(6, **changes)
    assert meta_loss == pytest.approx(reference[1], rel=1e-5)
    for ours, theirs in zip(*map(jax.tree.leaves, (theta, reference[0])), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
