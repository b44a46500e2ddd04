"""Loss differences: what transforms make of them, and what counts where a run diverges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import UnrolledProblem
from meta_train.estimators import ESTIMATORS, differences
from meta_train.estimators.noise import pair_keys, sample_normal
from tests.meta_train.estimators.problems import DRIFT, THETA

D = jnp.asarray([3.0, -0.5, 0.0, 40.0])
ALL = jnp.ones(4, bool)


def test_each_transform_is_what_it_says():
    np.testing.assert_array_equal(differences.identity(D, ALL), D)
    np.testing.assert_array_equal(differences.clip(2.0)(D, ALL), [2.0, -0.5, 0.0, 2.0])
    np.testing.assert_array_equal(differences.sign(D, ALL), [1, -1, 0, 1])
    spread = np.sqrt((9 + 0.25 + 0 + 1600) / 4)
    np.testing.assert_allclose(differences.normalize(D, ALL), np.asarray(D) / spread, rtol=1e-6)
    assert not np.asarray(differences.normalize(jnp.zeros(4), ALL)).any()


def test_pairs_that_do_not_count_have_no_part_in_the_spread():
    counted = jnp.asarray([True, True, True, False])
    expected = np.asarray(D) / np.sqrt(9.25 / 3)
    np.testing.assert_allclose(differences.normalize(D, counted), expected, rtol=1e-6)


def test_a_chain_applies_the_first_first():
    chained = differences.chain(differences.clip(2.0), differences.normalize)
    clipped = np.asarray([2.0, -0.5, 0.0, 2.0])
    np.testing.assert_allclose(chained(D, ALL), clipped / np.sqrt(np.mean(clipped**2)), rtol=1e-6)


def test_a_clip_needs_a_positive_bound():
    with pytest.raises(ValueError, match="`bound`=0"):
        differences.clip(0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("identity", differences.identity), ("clip:0.5", differences.clip(0.5))],
)
def test_transforms_by_name(name, expected):
    np.testing.assert_array_equal(differences.transform_named(name)(D, ALL), expected(D, ALL))


@pytest.mark.parametrize(
    ("name", "message"),
    [("signs", "`transform`='signs'.*legal ones: .*sign"), ("clip:x", "`transform`='clip:x'")],
)
def test_unknown_transforms_are_named(name, message):
    with pytest.raises(ValueError, match=message):
        differences.transform_named(name)


SETTINGS = dict(window=2, particles=8, sigma=0.1, length=8)


@pytest.mark.parametrize("name", ["pes", "nres", "pes_analytic"])
@pytest.mark.parametrize("transform", [differences.sign, differences.clip(1e-3)])
def test_an_estimate_is_the_credit_of_transformed_differences(name, transform):
    """In the first window, where all of them credit the noise that was drawn for it."""
    key = jax.random.key(2)
    estimator = ESTIMATORS[name](DRIFT, **SETTINGS, transform=transform)
    gradient, _, info = estimator.step(key, THETA, estimator.init(key, THETA), None)
    if name == "pes_analytic":  # nothing is left to credit: the window's gradient is p
        plain = ESTIMATORS[name](DRIFT, **SETTINGS)
        expected = plain.step(key, THETA, plain.init(key, THETA), None)[0]
        np.testing.assert_allclose(gradient, expected, rtol=1e-4)
        return
    normal = sample_normal(pair_keys(jax.random.split(key, 4)[0], 4), THETA)
    d = transform((info.losses[:, 0] - info.losses[:, 1]) / 2, ALL)
    np.testing.assert_allclose(gradient, (d[:, None] * normal / 0.1).mean(axis=0), rtol=1e-4)


def test_divergence_rules():
    losses = jnp.asarray([[1.0, 2.0], [jnp.nan, 3.0], [5.0, jnp.inf]])
    kept, counted = differences.leave_out(losses)
    np.testing.assert_array_equal(counted, [True, False, False])
    np.testing.assert_array_equal(kept, [[1, 2], [0, 0], [0, 0]])
    worst, counted = differences.count_as_worst(losses)
    assert counted.all()
    np.testing.assert_array_equal(worst, [[1, 2], [5, 3], [5, 5]])
    _, counted = differences.count_as_worst(jnp.full((2, 2), jnp.nan))
    assert not counted.any()


BAD = 1


def diverging(marked):
    """‖θ‖² + data; not a number from the third step on, in the episode with the marked key."""

    def step(key, theta, state, data):
        del key
        age, diverges = state
        loss = jnp.where(diverges & (age >= 2), jnp.nan, jnp.dot(theta, theta))
        return (age + 1, diverges), loss + data

    def init(key, theta):
        del theta
        return jnp.zeros((), jnp.int32), (jax.random.key_data(key) == marked).all()

    return UnrolledProblem(init, step)


def run_into_divergence(name, **settings):
    """Two windows; in the second, row BAD diverges. Everything that the second one saw."""
    first, second = jax.random.split(jax.random.key(3))
    init_key = pair_keys(jax.random.split(first, 4)[2], 4)[BAD]
    problem = diverging(jax.random.key_data(init_key))
    estimator = ESTIMATORS[name](problem, **{**SETTINGS, **settings})
    _, before, info = estimator.step(first, THETA, estimator.init(first, THETA), 0.0)
    assert int(info.diverged) == 0
    assert int(info.restarts) == 4
    gradient, state, info = estimator.step(second, THETA, before, 0.0)
    assert int(info.diverged) == 1
    assert np.isnan(info.losses[BAD]).all()
    assert not np.isnan(np.delete(info.losses, BAD, axis=0)).any()
    return estimator, second, before, gradient, state, info


@pytest.mark.parametrize(
    ("name", "settings"),
    [("pes", {}), ("nres", {}), ("pes_analytic", {}), ("rtrl", {"episodes": 4}),
     ("truncated_backprop", {"episodes": 4})],
)  # fmt: skip
def test_a_diverged_row_restarts_with_the_next_window(name, settings):
    estimator, _, _, gradient, state, _ = run_into_divergence(name, **settings)
    assert np.isfinite(gradient).all()
    _, _, info = estimator.step(jax.random.key(5), THETA, state, 0.0)
    assert int(info.restarts) == 1
    assert int(info.diverged) == 0
    assert int(info.ages[BAD]) == 2
    assert list(np.delete(info.ages, BAD)) == [6, 6, 6]


@pytest.mark.parametrize("rule", [differences.leave_out, differences.count_as_worst])
def test_the_others_are_credited_as_the_rule_says(rule):
    _, key, before, gradient, _, info = run_into_divergence("pes", divergence=rule)
    normal = sample_normal(pair_keys(jax.random.split(key, 4)[0], 4), THETA)
    credited = np.asarray(before.memory + normal / 0.1)
    gap = np.array(info.losses[:, 0] - info.losses[:, 1])
    gap[BAD] = 0  # left out, or twice the same worst loss
    pairs = 3 if rule is differences.leave_out else 4
    np.testing.assert_allclose(gradient, gap @ credited / (2 * pairs), rtol=1e-5)


def test_a_member_that_diverges_alone_counts_as_the_worst():
    """The − member of every pair with θ·ε > 0 diverges: the estimate leads away from it."""

    def step(key, theta, state, data):
        del key, data
        return state, jnp.where(theta[0] < THETA[0], jnp.nan, 0.0) + jnp.sum(theta[1:] ** 2)

    problem = UnrolledProblem(lambda key, theta: jnp.zeros(()), step)
    settings = {**SETTINGS, "particles": 200}
    left = ESTIMATORS["pes"](problem, **settings)
    worst = ESTIMATORS["pes"](problem, **settings, divergence=differences.count_as_worst)
    key = jax.random.key(0)
    gradient, _, info = left.step(key, THETA, left.init(key, THETA), None)
    assert int(info.diverged) == 100
    assert not np.asarray(gradient).any()
    gradient, *_ = worst.step(key, THETA, worst.init(key, THETA), None)
    assert gradient[0] < -1  # a larger θ₀ lowers the loss


@pytest.mark.parametrize("rule", [differences.leave_out, differences.count_as_worst])
def test_an_analytic_gradient_that_is_not_finite_is_left_out_and_counted(rule):
    """√|x| has none at 0, where the mean state of some episodes is; 2θ is that of the others."""

    def step(key, theta, state, data):
        del key, data
        return state, jnp.sum(theta**2) + 0 * jnp.sqrt(jnp.abs(state * theta[0]))

    def init(key, theta):
        del theta
        return jax.random.bernoulli(key).astype(jnp.float32)

    problem = UnrolledProblem(init, step)
    settings = {**SETTINGS, "particles": 400, "window": 8}
    estimator = ESTIMATORS["pes_analytic"](problem, **settings, divergence=rule)
    key = jax.random.key(0)
    gradient, _, info = estimator.step(key, THETA, estimator.init(key, THETA), None)
    assert 60 < int(info.diverged) < 140
    np.testing.assert_allclose(gradient, 8 * 2 * THETA, rtol=1e-4)
