"""The compiled meta-step: one program, the same result however it is cut up."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from meta_train.assemble import assemble, check_initial_loss
from meta_train.config import ConfigError, check_config
from meta_train.estimation import make_estimator, rows_of
from meta_train.meta_training import METRICS, meta_training, outer_step
from meta_train.outer import outer_optimizer
from meta_train.parallel import device_mesh, replicated, split_rows
from meta_train.presets import TINY
from tests.meta_train.estimators.problems import QUADRATIC, QUADRATIC_THETA
from tests.meta_train.stubs import scalar_family

CONFIG = dataclasses.replace(TINY, task="quadratic32", devices=2)


def theta_after(config, calls):
    """(θ, metrics of the last call) after calls of so many updates each."""
    run = assemble(config)
    state = run.training.init(run.key_init)
    for count in calls:
        state, metrics = run.training.advance(state, np.int32(count), run.key_updates, run.data)
    assert run.training.advance._cache_size() == 1
    return jax.device_get(state), jax.device_get(metrics)


@pytest.fixture(scope="module")
def reference():
    return theta_after(CONFIG, [12])


def test_updates_in_one_call_are_bit_for_bit_those_of_several(reference):
    state, _ = theta_after(CONFIG, [1, 5, 6])
    jax.tree.map(np.testing.assert_array_equal, state, reference[0])
    assert int(state.step) == 12


def test_a_task_alone_is_the_same_run_whatever_a_list_would_have(reference):
    """No weight, no scale and no draw changes a bit of it."""
    alone = dataclasses.replace(
        CONFIG, task="quadratic32=3", task_scale="gradient_norm", tasks_per_update=1
    )
    state, metrics = theta_after(alone, [12])
    jax.tree.map(np.testing.assert_array_equal, state, reference[0])
    jax.tree.map(np.testing.assert_array_equal, metrics, reference[1])


def test_metrics_are_means_over_the_row_so_far(reference):
    """Rows have ten updates; the call of twelve ends two updates into the second row."""
    _, whole = theta_after(CONFIG, [3, 7])
    _, first = theta_after(CONFIG, [10, 1])
    _, second = theta_after(CONFIG, [10, 1, 1])
    jax.tree.map(np.testing.assert_array_equal, second, reference[1])
    assert set(second) == set(METRICS)
    assert first["theta_norm"] != second["theta_norm"]
    assert second["skipped_updates"] == second["diverged"] == 0
    for metrics in (whole, first, second):
        assert 0 < metrics["meta_loss"] < 2


def _slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(("devices", "block"), [_slow(1, 8), (1, 1), (4, 2), _slow(8, 1)])
def test_the_same_theta_on_any_number_of_devices(reference, devices, block):
    config = dataclasses.replace(CONFIG, devices=devices, block=block)
    state, _ = theta_after(config, [12])
    expected = jax.tree.leaves(reference[0].theta)
    for ours, theirs in zip(jax.tree.leaves(state.theta), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_the_program_is_what_it_should_be():
    """One collective (a second one can lock XLA's threads on CPU), no host, no large constant."""
    config = dataclasses.replace(TINY, devices=2)
    run = assemble(config)
    state = run.training.init(run.key_init)
    lowered = run.training.advance.lower(state, np.int32(1), run.key_updates, run.data)
    text = lowered.compile().as_text()
    collectives = re.findall(
        r"= (?:\([^)]*\)|\S+) (all-[\w-]+|reduce-scatter[\w-]*|collective-[\w-]+)\(", text
    )
    assert collectives == ["all-gather"]
    assert "callback" not in text
    assert not re.search(r"infeed|outfeed|send\(|recv\(", text)
    constants = re.findall(r"= \w+\[([\d,]+)\]\S* constant\(", text)
    assert max(np.prod([int(n) for n in shape.split(",")]) for shape in constants) <= 256
    assert "input_output_alias" in text  # the state's buffers are taken over


def test_training_runs_that_diverge_are_counted():
    """Steps of 10³⁰ explode at once: every pair, in every window."""
    _, metrics = theta_after(
        dataclasses.replace(CONFIG, constants='{"step_multiplier": 1e30}'), [4]
    )
    assert metrics["diverged"] == CONFIG.particles // 2
    assert metrics["meta_loss"] > 1.2


WHOLE = {"window": 10, "length_max": 10}
OTHERS = [
    {"estimator": "full_es", **WHOLE},
    {"estimator": "truncated_es"},
    {"estimator": "pes_analytic"},
    {"estimator": "nres", "transform": "sign"},
    {"estimator": "gpes", "noise_period": 10},
    {"estimator": "truncated_backprop"},
    {"estimator": "full_backprop", **WHOLE},
    {"estimator": "uoro"},
    {"estimator": "dodge"},
    {"estimator": "mixture", "mixture": "pes=0.5,truncated_backprop=0.5"},
]


def trained(config, devices):
    """(θ before, θ after six updates, metrics), for an unrolled problem that compiles quickly."""
    mesh = device_mesh(rows_of(config), jax.devices()[:devices])
    layout = split_rows(mesh, 1)

    def estimator_at(update):
        return make_estimator(config, QUADRATIC, update, loss_bound=1e3, layout=layout)

    outer = outer_step(outer_optimizer(config))
    training = meta_training(lambda key: QUADRATIC_THETA, estimator_at, outer, mesh)
    keys = jax.device_put(jax.random.split(jax.random.key(0)), replicated(mesh))
    state = training.init(keys[0])
    before = jax.device_get(state.theta)
    state, metrics = training.advance(state, np.int32(6), keys[1], None)
    return before, jax.device_get(state.theta), jax.device_get(metrics)


@pytest.mark.slow
@pytest.mark.parametrize("changes", OTHERS, ids=lambda changes: changes["estimator"])
def test_every_estimator_trains_the_same_on_one_device_and_on_two(changes):
    """θ moves, and the log has what `EstimatorInfo` shows."""
    config = dataclasses.replace(CONFIG, particles=8, **changes)
    check_config(config)
    before, one, _ = trained(config, 1)
    _, two, metrics = trained(config, 2)
    for start, ours, theirs in zip(*map(jax.tree.leaves, (before, one, two)), strict=True):
        assert np.abs(start - ours).max() > 1e-3
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    assert metrics["signal_to_noise"] > 0 or "backprop" in config.estimator
    assert (metrics["accumulator_norm"] > 0) == ("backprop" not in config.estimator)
    assert metrics["restarts"] > 0


@pytest.mark.slow
def test_a_mixture_with_backpropagation_trains_an_optimizer():
    config = dataclasses.replace(CONFIG, particles=4, **OTHERS[-1])
    state, metrics = theta_after(config, [6])
    assert int(state.step) == 6
    assert 0 < metrics["meta_loss"] < 2


def test_a_meta_loss_that_the_task_does_not_have_is_refused():
    with pytest.raises(ConfigError, match=r"`config.meta_loss`='validation_accuracy': the task 'q"):
        assemble(dataclasses.replace(CONFIG, meta_loss="validation_accuracy"))


def test_a_task_whose_loss_is_not_finite_is_refused():
    family = scalar_family(lambda x, target: x * np.nan)
    with pytest.raises(ConfigError, match=r"loss of the task 'scalar' is \[nan.*initial loss is"):
        check_initial_loss(family, family.load())
    healthy = scalar_family()
    check_initial_loss(healthy, healthy.load())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"devices": 9}, "`config.devices`=9: there are 8 cpu devices"),
        ({"devices": 2, "block": 3}, "`config.block`=3 does not divide the 4 rows"),
    ],
)
def test_a_machine_that_does_not_fit_is_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        assemble(dataclasses.replace(CONFIG, **changes))
