"""Evaluation runs: the same training as by hand, paired over optimizers, cut where asked."""

import jax
import numpy as np
import optax
import pytest
from optax import contrib

from meta_train.evaluate import runs
from meta_train.evaluate.baselines import BASELINES, WEIGHT_DECAY
from meta_train.evaluate.runs import (
    EXAMPLES,
    RunSpec,
    Trainer,
    data_of,
    rows_at_once,
    run_key,
)
from tasks import get_family

FAMILY = get_family("quadratic16")
SPLITS = FAMILY.load()
DATA = data_of(FAMILY, SPLITS)
ADAM = BASELINES["adam"]


@pytest.fixture(scope="module")
def adam():
    return Trainer(FAMILY, DATA, ADAM, horizon=40)


def settings(rate, schedule="constant", horizon=40):
    return ADAM.settings(schedule, rate, horizon)


def by_hand(seed, transformation, steps, scored=lambda state, params: params, horizon=40):
    """Test losses after 0, 1, … steps of a loop in plain Python."""
    key = run_key("quadratic16", horizon, seed)
    key_sample, key_init = jax.random.split(jax.random.fold_in(key, 0))
    task = FAMILY.build(FAMILY.sample(key_sample))
    params, model_state = task.init(key_init)
    state = transformation.init(params)
    examples = FAMILY.examples(SPLITS["test"], EXAMPLES)
    losses = [float(task.loss(params, model_state, key, examples)[0])]

    @jax.jit
    def step(params, state, i):
        key_batch, key_loss, _ = jax.random.split(jax.random.fold_in(key, 1 + i), 3)
        batch = FAMILY.batch(key_batch, SPLITS["train"])
        grads = jax.grad(lambda p: task.loss(p, model_state, key_loss, batch)[0])(params)
        updates, state = transformation.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        loss = task.loss(scored(state, params), model_state, key, examples)[0]
        return params, state, loss

    for i in range(steps):
        params, state, loss = step(params, state, i)
        losses.append(float(loss))
    return losses


def test_a_run_is_that_of_a_plain_loop(adam):
    for schedule, reference in (
        ("constant", optax.adam(0.05)),
        ("cosine", optax.adam(optax.cosine_decay_schedule(0.05, 7))),
    ):
        (curve,) = adam.train([RunSpec(3, settings(0.05, schedule, 7), 7)])
        assert curve.steps.tolist() == [0, 2, 4, 6, 7]
        expected = np.asarray(by_hand(3, reference, 7))[curve.steps]
        np.testing.assert_allclose(curve.test, expected, rtol=1e-4)
        assert np.isnan(curve.train[0])
        assert np.isfinite(curve.train[1:]).all()


PLAIN = {
    "sgd_momentum": (optax.sgd(0.02, momentum=0.9), "constant"),
    "adamw": (optax.adamw(0.02, weight_decay=WEIGHT_DECAY), "constant"),
    "lion": (optax.lion(optax.cosine_decay_schedule(0.02, 5)), "cosine"),
    "muon": (contrib.muon(0.02), "constant"),
    "adafactor": (optax.adafactor(0.02), "constant"),
    "schedule_free_adamw": (
        contrib.schedule_free_adamw(0.02, b1=0.98, weight_decay=WEIGHT_DECAY),
        "b1=0.98",
    ),
}


def test_every_baseline_is_there():
    assert set(PLAIN) | {"adam"} == set(BASELINES)


@pytest.mark.parametrize("name", [
    "sgd_momentum", "schedule_free_adamw",
    *(pytest.param(n, marks=pytest.mark.slow) for n in ("adamw", "lion", "muon", "adafactor")),
])  # fmt: skip
def test_baselines_are_those_of_optax(name):
    reference, variant = PLAIN[name]
    baseline = BASELINES[name]
    trainer = Trainer(FAMILY, DATA, baseline, horizon=5, most=2)
    (curve,) = trainer.train([RunSpec(1, baseline.settings(variant, 0.02, 5), 5)])
    expected = by_hand(1, reference, 5, baseline.scored, horizon=5)
    np.testing.assert_allclose(curve.test, expected, rtol=1e-4)


def test_a_long_run_has_the_points_of_a_short_one_and_goes_on(adam):
    """Four horizons: the points of several calls, each going on where the last one stopped."""
    (curve,) = adam.train([RunSpec(2, settings(0.05), 160)])
    assert curve.steps.tolist() == [*range(0, 160, 2), 160]
    expected = np.asarray(by_hand(2, optax.adam(0.05), 160))[curve.steps]
    np.testing.assert_allclose(curve.test, expected, rtol=1e-3, atol=1e-6)
    (short,) = adam.train([RunSpec(2, settings(0.05), 40)])
    np.testing.assert_array_equal(curve.test[:21], short.test)
    np.testing.assert_allclose(curve.train[1:21], short.train[1:], rtol=1e-5)


def test_order_and_company_do_not_matter(adam):
    specs = [RunSpec(seed, settings(rate), steps) for seed, rate, steps in
             [(0, 0.1, 40), (1, 0.01, 10), (2, 0.1, 20), (0, 0.1, 10), (3, 0.1, 7)]]  # fmt: skip
    together = adam.train(specs)
    assert [curve.steps[-1] for curve in together] == [40, 10, 20, 10, 7]
    assert together[-1].steps.tolist() == [0, 2, 4, 6, 7]
    assert 7 not in together[0].steps
    for spec, curve in zip(specs, together, strict=True):
        (alone,) = adam.train([spec])
        jax.tree.map(np.testing.assert_array_equal, alone, curve)
    np.testing.assert_array_equal(together[0].test[: len(together[3].test)], together[3].test)


def test_the_end_alone_is_the_end_of_the_curve(adam):
    curve, end = adam.train([RunSpec(4, settings(0.1), 30), RunSpec(4, settings(0.1), 30, False)])
    assert end.steps.tolist() == [30]
    assert end.test == curve.test[-1:]
    assert end.outer_validation == curve.outer_validation[-1:]
    means = np.diff(curve.steps) * curve.train[1:]
    assert end.train[0] == pytest.approx(means.sum() / 30, rel=1e-4)


def test_more_runs_than_fit_at_once():
    few = Trainer(FAMILY, DATA, ADAM, horizon=4, most=8)
    assert few.rows == 8
    curves = few.train([RunSpec(seed, settings(0.1), 4) for seed in range(20)])
    assert len(curves) == 20
    assert len({curve.test[0] for curve in curves} | {curve.test[-1] for curve in curves}) > 15


def test_a_task_too_large_takes_more_calls_instead_of_more_memory():
    devices = jax.local_device_count()
    assert rows_at_once(1000, 128) == 128
    assert rows_at_once(1000, 3) == devices
    assert rows_at_once(1 << 26, 128) == 16
    assert rows_at_once(1 << 40, 128) == devices  # one for each


@pytest.mark.parametrize(("room", "expected"), [(None, [4]), (1 << 40, [4]), (1, [4, 2, 1])])
def test_rows_that_do_not_fit_together_are_computed_in_turn(monkeypatch, adam, room, expected):
    """Where an accelerator takes all at once: as many as its memory has room for."""
    adam.compile()  # as it is on this device
    asked = []
    split_rows = runs.split_rows

    def seen(mesh, block):
        asked.append(block)
        return split_rows(mesh, block)

    monkeypatch.setattr(runs, "default_block", lambda rows: rows)
    monkeypatch.setattr(runs, "split_rows", seen)
    monkeypatch.setattr(runs, "bytes_of_a_device", lambda devices: room)
    devices = jax.local_device_count()
    trainer = Trainer(FAMILY, DATA, ADAM, horizon=40, most=4 * devices)
    specs = [RunSpec(seed, settings(0.1), 5) for seed in range(3)]
    for ours, theirs in zip(trainer.train(specs), adam.train(specs), strict=True):
        np.testing.assert_allclose(ours.test, theirs.test, rtol=1e-5)
    assert asked == expected


def test_two_optimizers_start_from_the_same_task(adam):
    other = Trainer(FAMILY, DATA, BASELINES["sgd_momentum"], horizon=40)
    (ours,), (theirs,) = (t.train([RunSpec(5, settings(1e-9), 2)]) for t in (adam, other))
    np.testing.assert_allclose(ours.test, theirs.test, rtol=1e-5)
    (curve,) = other.train([RunSpec(0, settings(1e6), 40)])
    assert not np.isfinite(curve.test[-1])  # a divergence is seen


def test_two_tasks_share_nothing_by_their_seeds(adam):
    """Neither two horizons of a family, nor two families."""
    start = {40: adam.train([RunSpec(5, settings(0.1), 1)])[0].test[1]}
    other = Trainer(FAMILY, DATA, ADAM, horizon=41, most=2)
    start[41] = other.train([RunSpec(5, settings(0.1), 1)])[0].test[1]
    assert start[40] != start[41]
    keys = [run_key(name, 40, seed) for name in ("a", "b") for seed in range(2)]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 4


def test_it_is_traced_and_compiled_once():
    """Whatever the seeds, rates, schedules, lengths and numbers of runs."""
    traces = []

    def counted(cfg):
        traces.append(1)
        return FAMILY.build(cfg)

    trainer = Trainer(FAMILY._replace(build=counted), DATA, ADAM, horizon=40)
    trainer.compile()
    before = len(traces)
    assert before > 0
    for specs in (
        [RunSpec(0, settings(0.3), 3)],
        [RunSpec(s, settings(0.1, "cosine", 5), 5 + s) for s in range(40)],
    ):
        for curve in trainer.train(specs):
            assert np.isfinite(curve.test).all()
    assert len(traces) == before
