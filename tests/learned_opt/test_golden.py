"""Five published rules, matched at every step of their public implementations."""

from importlib import import_module

import jax
import numpy as np
import pytest

import learned_opt
from learned_opt import blocks, network
from learned_opt.features import scales
from tests.golden import trajectories

mlp, adafactor_family, normalized_mlp = (
    import_module(f"learned_opt.rules.{name}")
    for name in ("mlp", "adafactor_family", "normalized_mlp")
)


def deviation(name):
    converted = trajectories.weights(name)
    tx = converted.optimizer.build(converted.theta)
    return trajectories.worst_deviation(name, tx, jax.jit(tx.update))


@pytest.mark.parametrize("name", trajectories.DESIGNS)
def test_every_step_is_that_of_the_public_implementation(name):
    recorded = trajectories.steps(name)
    assert len(recorded) == 8
    assert deviation(name) < 1


@pytest.mark.parametrize("name", ["adafac_mlp_lopt_h4", "celo2"])
def test_the_written_out_form_too(name, monkeypatch):
    monkeypatch.setattr(network, "BLOCK", 0)
    monkeypatch.setattr(network, "NARROW", 8)
    assert deviation(name) < 1


@pytest.mark.parametrize("name", ["adafac_mlp_lopt_h4", "celo2", "celo2_base"])
def test_and_with_scales_from_one_pass(name, monkeypatch):
    monkeypatch.setattr(scales, "splitting_pays", lambda entries, shape: True)
    assert deviation(name) < 1


@pytest.mark.parametrize("name", ["mlp_lopt", "adafac_mlp_lopt_h32"])
def test_and_a_block_at_a_time(name, monkeypatch):
    shapes = []

    def in_blocks(function, arrays, shape, whole=blocks.over_blocks):
        shapes.append(shape)
        return whole(function, arrays, shape, block=8)

    monkeypatch.setattr(network, "over_blocks", in_blocks)
    assert deviation(name) < 1
    assert (3, 3, 4, 6) in shapes


@pytest.mark.parametrize("name", trajectories.DESIGNS)
def test_a_converted_file_loads_to_the_same(name, tmp_path):
    converted = trajectories.weights(name)
    constants = dict(converted.optimizer.constants)
    rate = {k: constants[k] for k in trajectories.RATE if k in constants}
    rule = learned_opt.RULES[converted.optimizer.name](**{**constants, **dict.fromkeys(rate)})
    learned_opt.save(tmp_path / "o", rule, converted.theta, meta_training={})
    tx = learned_opt.load(tmp_path / "o", **rate)
    assert trajectories.worst_deviation(name, tx, jax.jit(tx.update)) < 1


FAULTS = {
    "epsilon of the scales": ("mlp_lopt", mlp, "EPSILON", 1e-2),
    "time from 1": (
        "mlp_lopt",
        mlp,
        "tanh_of_steps",
        lambda step, scales: jax.numpy.tanh((step + 1) / np.float32(scales) - 1),
    ),
    "epsilon of the root": ("adafac_mlp_lopt_h32", adafactor_family, "MOMENT_EPSILON", 1e-3),
    "no offsets of the decays": (
        "adafac_mlp_lopt_h4",
        adafactor_family,
        "learned_decays",
        lambda theta, initial: type(initial)(*map(np.float32, initial)),
    ),
    "scales of the whole tensor": (
        "celo2_base",
        normalized_mlp,
        "scales_of_matrices",
        scales.scales_of_tensor,
    ),
    "all groups for vectors": ("celo2_base", normalized_mlp, "WITHOUT_ROWS", normalized_mlp.CELO),
    "another coefficient": ("celo2", normalized_mlp, "orthogonalized", lambda x, steps: x),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen(fault, monkeypatch):
    name, module, attribute, wrong = FAULTS[fault]
    monkeypatch.setattr(module, attribute, wrong)
    assert deviation(name) > 1
