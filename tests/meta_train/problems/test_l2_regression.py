"""L2 regression against ridge regression, and against gradient descent in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.problems.l2_regression import LENGTH, l2_regression, synthetic_examples
from tests.meta_train.problems.unrolling import episode

DATA = synthetic_examples()


def descended(theta, steps, rate=1e-3):
    """w_t = (I − (I − αH)ᵗ) H⁻¹ Xᵀy with H = XᵀX + e^θ I, by eigenvalues, in float64."""
    x, y = (np.asarray(part, np.float64) for part in DATA["train"])
    values, vectors = np.linalg.eigh(x.T @ x + np.exp(theta) * np.eye(x.shape[1]))
    shrunk = (1 - (1 - rate * values) ** steps) / values
    return vectors @ (shrunk * (vectors.T @ (x.T @ y)))


@pytest.mark.parametrize("theta", [-3.0, 2.0])
def test_weights_are_those_of_the_closed_form(theta):
    weights, losses = episode(l2_regression(), jnp.asarray(theta), 50, DATA)
    np.testing.assert_allclose(weights, descended(theta, 50), rtol=1e-4, atol=1e-6)
    x, y = (np.asarray(part, np.float64) for part in DATA["validation"])
    expected = 0.5 * np.mean((x @ descended(theta, 50) - y) ** 2)
    assert float(losses[-1]) == pytest.approx(expected, rel=1e-4)


def test_long_descent_ends_at_ridge_regression():
    theta = 3.0
    x, y = DATA["train"]
    weights, _ = episode(l2_regression(), jnp.asarray(theta), 5_000, DATA)
    ridge = np.linalg.solve(x.T @ x + np.exp(theta) * np.eye(20), x.T @ y)
    np.testing.assert_allclose(weights, ridge, rtol=1e-3, atol=1e-4)


def test_short_windows_see_harm_where_the_episode_gains():
    """Below the optimum a larger coefficient pays in the end, and harms within one step."""
    problem, key = l2_regression(), jax.random.key(0)

    def both(theta):
        def step(weights, _):
            own = jax.grad(lambda t: problem.step(key, t, weights, DATA)[1])(theta)
            weights, loss = problem.step(key, theta, weights, DATA)
            return weights, (loss, own)

        _, (losses, own) = jax.lax.scan(step, problem.init(key, theta), length=LENGTH)
        return losses.mean(), own.mean()

    (_, of_one_step), whole = (
        jax.jit(jax.value_and_grad(both, has_aux=True))(jnp.asarray(0.0))[0],
        jax.grad(lambda t: both(t)[0])(jnp.asarray(0.0)),
    )
    assert float(whole) < 0 < float(of_one_step)


def test_the_examples_are_the_same_every_time():
    again = synthetic_examples()
    for part in ("train", "validation"):
        np.testing.assert_array_equal(again[part].features, DATA[part].features)
    assert DATA["train"].features.shape == (30, 20)
    assert DATA["validation"].targets.shape == (500,)
    spread = np.asarray(DATA["validation"].features).std(axis=0)
    np.testing.assert_allclose(spread, [2.0] * 3 + [0.6] * 17, rtol=0.15)


@pytest.mark.parametrize(
    ("settings", "name"), [({"features": 0}, "features"), ({"rate": 0}, "rate")]
)
def test_bad_settings_are_named(settings, name):
    with pytest.raises(ValueError, match=f"`{name}`=0"):
        l2_regression(**settings)
