"""Evaluation runs: the same training as by hand, paired over optimizers, cut where asked."""

import jax
import numpy as np
import optax
import pytest

from meta_train.evaluate.baselines import BASELINES, hyperparameters
from meta_train.evaluate.runs import EVALUATION_KEY, EXAMPLES, RunSpec, Trainer
from meta_train.evaluate.tuning import as_arrays
from tasks import get_family

FAMILY = get_family("quadratic16")
SPLITS = FAMILY.load()


@pytest.fixture(scope="module")
def adam():
    return Trainer(FAMILY, SPLITS, BASELINES["adam"], horizon=40)


def theta(rate, schedule="constant", horizon=40):
    return as_arrays(hyperparameters(rate, schedule, horizon))


def by_hand(seed, transformation, steps):
    """Test losses after 0, 1, … steps of a loop in plain Python."""
    key = jax.random.fold_in(jax.random.key(EVALUATION_KEY), seed)
    key_sample, key_init = jax.random.split(jax.random.fold_in(key, 0))
    task = FAMILY.build(FAMILY.sample(key_sample))
    params, model_state = task.init(key_init)
    state = transformation.init(params)
    scored = FAMILY.examples(SPLITS["test"], EXAMPLES)
    losses = [float(task.loss(params, model_state, key, scored)[0])]
    for i in range(steps):
        key_batch, key_loss, _ = jax.random.split(jax.random.fold_in(key, 1 + i), 3)
        batch = FAMILY.batch(key_batch, SPLITS["train"])
        grads = jax.grad(lambda p, b=batch, k=key_loss: task.loss(p, model_state, k, b)[0])(params)
        updates, state = transformation.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        losses.append(float(task.loss(params, model_state, key, scored)[0]))
    return losses


def test_a_run_is_that_of_a_plain_loop(adam):
    for schedule, reference in (
        ("constant", optax.adam(0.05)),
        ("cosine", optax.adam(optax.cosine_decay_schedule(0.05, 7))),
    ):
        (curve,) = adam.train([RunSpec(3, theta(0.05, schedule, 7), 7)])
        assert curve.steps.tolist() == [0, 2, 4, 6, 7]
        expected = np.asarray(by_hand(3, reference, 7))[curve.steps]
        np.testing.assert_allclose(curve.test, expected, rtol=1e-4)
        assert np.isnan(curve.train[0])
        assert np.isfinite(curve.train[1:]).all()


def test_momentum_is_that_of_optax():
    trainer = Trainer(FAMILY, SPLITS, BASELINES["sgd_momentum"], horizon=4)
    (curve,) = trainer.train([RunSpec(1, theta(0.1), 4)])
    expected = by_hand(1, optax.sgd(0.1, momentum=0.9), 4)
    np.testing.assert_allclose(curve.test, expected, rtol=1e-4)


def test_order_and_company_do_not_matter(adam):
    specs = [RunSpec(seed, theta(rate), steps) for seed, rate, steps in
             [(0, 0.1, 40), (1, 0.01, 10), (2, 0.1, 20), (0, 0.1, 10), (3, 0.1, 7)]]  # fmt: skip
    together = adam.train(specs)
    assert [curve.steps[-1] for curve in together] == [40, 10, 20, 10, 7]
    assert together[-1].steps.tolist() == [0, 2, 4, 6, 7]
    assert 7 not in together[0].steps
    for spec, curve in zip(specs, together, strict=True):
        (alone,) = adam.train([spec])
        jax.tree.map(np.testing.assert_array_equal, alone, curve)
    np.testing.assert_array_equal(together[0].test[: len(together[3].test)], together[3].test)


def test_more_runs_than_fit_at_once(adam):
    curves = adam.train([RunSpec(seed, theta(0.1), 4) for seed in range(40)])
    assert len(curves) == 40
    assert len({curve.test[0] for curve in curves} | {curve.test[-1] for curve in curves}) > 30


def test_two_optimizers_start_from_the_same_task(adam):
    other = Trainer(FAMILY, SPLITS, BASELINES["sgd_momentum"], horizon=40)
    (ours,), (theirs,) = (t.train([RunSpec(5, theta(1e-9), 2)]) for t in (adam, other))
    np.testing.assert_allclose(ours.test, theirs.test, rtol=1e-5)


def test_a_divergence_is_seen_not_hidden(adam):
    diverged = Trainer(FAMILY, SPLITS, BASELINES["sgd_momentum"], horizon=40)
    (curve,) = diverged.train([RunSpec(0, theta(1e6), 40)])
    assert not np.isfinite(curve.test[-1])


def test_it_is_traced_and_compiled_once(monkeypatch):
    """Whatever the seeds, rates, schedules, lengths and numbers of runs."""
    traces = []

    def counted(cfg):
        traces.append(1)
        return FAMILY.build(cfg)

    trainer = Trainer(FAMILY._replace(build=counted), SPLITS, BASELINES["adam"], horizon=40)
    trainer.compile()
    before = len(traces)
    assert before > 0
    for specs in (
        [RunSpec(0, theta(0.3), 3)],
        [RunSpec(s, theta(0.1, "cosine", 5), 5 + s) for s in range(40)],
    ):
        for curve in trainer.train(specs):
            assert np.isfinite(curve.test).all()
    assert len(traces) == before
