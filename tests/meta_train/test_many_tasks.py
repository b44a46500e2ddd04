"""A run on a list of tasks: the sum that an update is made from, its programs, its state."""

import dataclasses
import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from checkpoints import TrainingCheckpoints
from meta_train import UnrolledProblem
from meta_train.config import check_config, tasks_of
from meta_train.estimation import make_estimator, rows_of
from meta_train.estimators.base import ALL_AT_ONCE
from meta_train.many_tasks import OF_TASK, many_task_training
from meta_train.meta_training import SUMMARY, outer_step, summarize
from meta_train.outer import outer_optimizer
from meta_train.parallel import device_mesh, replicated, split_rows
from meta_train.presets import TINY
from meta_train.task_list import shares
from meta_train.task_scale import normalized
from tests.meta_train.estimators.problems import QUADRATIC, QUADRATIC_THETA

CONFIG = dataclasses.replace(
    TINY,
    task="small=3,wide,late=2@4",
    tasks_per_update=2,
    task_scale="none",
    length_start=5,
    length_updates=8,
    particles=8,
    log_every=4,
    checkpoint_every=4,
)
ALL = dataclasses.replace(CONFIG, tasks_per_update=0)
NORMALIZED = dataclasses.replace(CONFIG, task_scale="gradient_norm")
UPDATES = 12


def wide(key, theta, state, data):
    """A state of another shape, data, and noise."""
    flat = ravel_pytree(theta)[0]
    noise = jax.random.normal(key, state.shape)
    state = 0.7 * state + jnp.sum(flat) * jnp.arange(5.0) + 0.1 * noise
    return state, 0.01 * jnp.sum(jnp.square(state - data["target"]))


PROBLEMS = {
    "small": QUADRATIC,
    "wide": UnrolledProblem(lambda key, theta: jax.random.normal(key, (5,)), wide),
    "late": QUADRATIC._replace(init=lambda key, theta: -jnp.ones(3)),
}
DATA = {"small": None, "wide": {"target": np.arange(5, dtype=np.float32)}, "late": None}


def estimators_of(config, layout, calls=None):
    """By task; each call of one, which is a trace, is noted in ``calls``."""

    def at(name, update):
        if calls is not None:
            calls.append(name)
        bounded = dict(loss_bound=1e3, layout=layout)
        estimator = make_estimator(config, PROBLEMS[name], update, **bounded)
        return normalized(estimator) if config.task_scale == "gradient_norm" else estimator

    return {task.name: partial(at, task.name) for task in tasks_of(config)}


def training_of(config, devices, calls=None):
    check_config(config)
    mesh = device_mesh(rows_of(config), jax.devices()[:devices])
    return many_task_training(
        lambda key: QUADRATIC_THETA,
        estimators_of(config, split_rows(mesh, 1), calls),
        outer_step(outer_optimizer(config), log_every=config.log_every, others=("tasks",)),
        mesh,
        partial(shares, tasks_of(config), config.tasks_per_update, config.seed),
        log_every=config.log_every,
    )


compiled_once = cache(training_of)


def prepared(config=CONFIG, devices=2, calls=None):
    """(training, first state, key of the updates, data) of the problems above."""
    if calls is None:
        training = compiled_once(config, devices)
    else:
        training = training_of(config, devices, calls)
    mesh = device_mesh(rows_of(config), jax.devices()[:devices])
    keys = jax.device_put(jax.random.split(jax.random.key(0)), replicated(mesh))
    data = {task.name: DATA[task.name] for task in tasks_of(config)}
    data = jax.device_put(data, replicated(mesh))
    return training, training.init(keys[0]), keys[1], data


def advanced(parts, calls):
    training, state, key, data = parts
    for count in calls:
        state, metrics = training.advance(state, np.int32(count), key, data)
    return jax.device_get(state), jax.device_get(metrics)


@pytest.fixture(scope="module")
def reference():
    return advanced(prepared(), [4, 4, 4])


def independent(config, updates):
    """(θ, gradients of each update, infos by task of each) by the equations, one call at a time."""
    estimators = estimators_of(config, ALL_AT_ONCE)
    outer, theta = outer_optimizer(config), QUADRATIC_THETA
    key_init, root = jax.random.split(jax.random.key(0))
    key_init = jax.random.split(key_init)[1]
    states = {
        name: at(jnp.int32(0)).init(jax.random.fold_in(key_init, i), theta)
        for i, (name, at) in enumerate(estimators.items())
    }
    outer_state, gradients, infos = outer.init(theta), [], []
    steps = {
        name: jax.jit(lambda k, *args, at=at: at(k).step(*args)) for name, at in estimators.items()
    }
    for k in range(updates):
        s = shares(tasks_of(config), config.tasks_per_update, config.seed, k)
        total, found = jax.tree.map(jnp.zeros_like, theta), {}
        for i, name in enumerate(estimators):
            if s[i]:
                key = jax.random.fold_in(jax.random.fold_in(root, k), i)
                g, states[name], info = steps[name](
                    jnp.int32(k), key, theta, states[name], DATA[name]
                )
                total = jax.tree.map(lambda t, x, w=s[i]: t + np.float32(w) * x, total, g)
                found[name] = (s[i], g, info)
        changes, outer_state = outer.update(total, outer_state, theta)
        theta = optax.apply_updates(theta, changes)
        gradients.append(total)
        infos.append(found)
    return theta, gradients, infos


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(CONFIG, marks=pytest.mark.slow),
        ALL,
        pytest.param(NORMALIZED, marks=pytest.mark.slow),
    ],
    ids=["drawn", "all", "normalized"],
)
def test_an_update_is_made_from_the_shares_of_the_tasks_own_gradients(config):
    state, metrics = advanced(prepared(config), [4, 4, 4])
    theta, gradients, infos = independent(config, UPDATES)
    assert int(state.step) == UPDATES
    for ours, theirs, start in zip(
        *map(jax.tree.leaves, (state.theta, theta, QUADRATIC_THETA)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
        assert np.abs(ours - start).max() > 1e-3
    check_metrics(metrics, gradients[8:], infos[8:])


def check_metrics(metrics, gradients, infos):
    """Of the last row of the log, against what was found one call at a time."""
    norms = [float(optax.tree.norm(g)) for g in gradients]
    np.testing.assert_allclose(metrics["meta_gradient_norm"], np.mean(norms), rtol=1e-4)
    losses = [sum(s * i.losses.mean() for s, _, i in found.values()) for found in infos]
    np.testing.assert_allclose(metrics["meta_loss"], np.mean(losses), rtol=1e-4)
    restarts = [sum(i.restarts for _, _, i in found.values()) for found in infos]
    np.testing.assert_allclose(metrics["restarts"], np.mean(restarts), rtol=1e-6)
    variances = [sum(s**2 * i.variance for s, _, i in found.values()) for found in infos]
    ratios = [norm**2 / v for norm, v in zip(norms, variances, strict=True)]
    np.testing.assert_allclose(metrics["signal_to_noise"], np.mean(ratios), rtol=1e-3)
    np.testing.assert_allclose(metrics["tasks"], np.mean([len(found) for found in infos]))
    for name in PROBLEMS:
        own = [found[name] for found in infos if name in found]
        assert metrics[f"windows/{name}"] == len(own)
        if own:
            expected = np.mean([info.losses.mean() for _, _, info in own])
            np.testing.assert_allclose(metrics[f"meta_loss/{name}"], expected, rtol=1e-4)
            expected = np.mean([optax.tree.norm(g) for _, g, _ in own])
            np.testing.assert_allclose(metrics[f"meta_gradient_norm/{name}"], expected, rtol=1e-4)


def test_updates_in_one_call_are_bit_for_bit_those_of_several(reference):
    parts = prepared()
    state, metrics = advanced(parts, [1, 5, 2, 4])
    jax.tree.map(np.testing.assert_array_equal, state, reference[0])
    jax.tree.map(np.testing.assert_array_equal, metrics, reference[1])


def test_a_list_is_compiled_once_and_not_traced_again(reference):
    calls = []
    training, state, key, data = prepared(calls=calls)
    advance = training.compiled(state, key, data)
    traced = list(calls)
    assert set(traced) == set(PROBLEMS)
    for _ in range(3):
        state, _ = advance(state, np.int32(4), key, data)
    assert calls == traced
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), reference[0])


def test_it_goes_on_from_a_checkpoint_bit_for_bit(reference, tmp_path):
    training, state, key, data = prepared()
    state, _ = training.advance(state, np.int32(4), key, data)
    checkpoints = TrainingCheckpoints(tmp_path, keep=1, run={})
    checkpoints.save(4, state)
    checkpoints.close()
    first = jax.eval_shape(training.init, key)
    checkpoints = TrainingCheckpoints(tmp_path, keep=1, run={})
    state = jax.device_put(checkpoints.restore(4, first), training.shardings)
    checkpoints.close()
    after, metrics = advanced((training, state, key, data), [4, 4])
    jax.tree.map(np.testing.assert_array_equal, after, reference[0])
    jax.tree.map(np.testing.assert_array_equal, metrics, reference[1])


@pytest.mark.parametrize("devices", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_the_same_theta_on_any_number_of_devices(reference, devices):
    state, _ = advanced(prepared(devices=devices), [12])
    expected = jax.tree.leaves(reference[0].theta)
    for ours, theirs in zip(jax.tree.leaves(state.theta), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_a_task_that_is_not_drawn_stays_as_it_is():
    """ "late" begins with update 4; until then nothing of it changes."""
    parts = prepared(ALL)
    before = jax.device_get(parts[1].estimator["late"])
    state, metrics = advanced(parts, [4])
    jax.tree.map(np.testing.assert_array_equal, state.estimator["late"], before)
    assert metrics["windows/late"] == 0
    assert np.isnan(metrics["meta_loss/late"])
    assert metrics["windows/small"] == metrics["windows/wide"] == 4


def test_episodes_grow_with_the_updates():
    """In the estimators' own states: bounds of 5 at first, and of the longest at the end."""
    training, state, key, data = prepared(ALL)
    longest = []
    for _ in range(40):
        state, _ = training.advance(state, np.int32(1), key, data)
        longest.append(int(state.estimator["small"].estimator.episodes.length.max()))
    assert longest[0] == 5
    assert max(longest[:3]) <= 10
    assert 20 < max(longest) <= ALL.length_max


def test_programs_have_one_collective_at_most():
    """Two at once can lock XLA's threads on CPU; and the state's buffers are taken over."""
    training, state, key, data = prepared()
    programs = training.compiled(state, key, data).programs
    for name, program in {**programs.estimates, "apply": programs.apply}.items():
        text = program.as_text()
        found = re.findall(
            r"= (?:\([^)]*\)|\S+) (all-[\w-]+|reduce-scatter|collective-\w+)\(", text
        )
        assert found == ([] if name == "apply" else ["all-gather"])
        assert "input_output_alias" in text
        assert "callback" not in text


def test_the_summary_has_the_names_that_it_says():
    problem = make_estimator(CONFIG, QUADRATIC, jnp.int32(0), loss_bound=1.0, layout=ALL_AT_ONCE)
    key = jax.random.key(0)
    state = problem.init(key, QUADRATIC_THETA)
    info = jax.eval_shape(problem.step, key, QUADRATIC_THETA, state, None)[2]
    assert set(jax.eval_shape(summarize, info)) == set(SUMMARY)
    assert set(OF_TASK) <= {*SUMMARY, "meta_gradient_norm"}
