"""The variance of the estimators is the one that theory gives, within 10 %."""

import jax
import numpy as np
import pytest

from tests.meta_train.estimators.problems import DIRECTION, DRIFT, THETA
from tests.meta_train.estimators.proofs import episode_sums, make

pytestmark = pytest.mark.slow

LENGTH = 12
PARTICLES = 40


def exact_variance(block, rows):
    """tr Var of an episode's sum on drift: P·Σ‖G_{tτ}‖² + Σ⟨G_{tτ}, G_{τt}⟩, over the pairs.

    Noise is drawn anew every ``block`` inner steps; with one block, (P+1)‖∇L‖².
    """
    blocks = LENGTH // block
    times = np.arange(LENGTH)
    # ∂(loss of block s)/∂θ_τ = c · #{steps of block τ before step t}, over t in block s.
    before = np.clip(times[None, :] - block * np.arange(blocks)[:, None], 0, block)
    influence = before.reshape(blocks, blocks, block).sum(axis=2)  # [τ, s]
    size = np.array(
        [[influence[tau, max(t, tau) :].sum() for tau in range(blocks)] for t in range(blocks)]
    )
    squared = float(np.dot(DIRECTION, DIRECTION))
    return squared * (len(DIRECTION) * (size**2).sum() + (size * size.T).sum()) / rows


def check_variance(name="pes", window=3, block=3, **settings):
    samples = episode_sums(
        name, DRIFT, THETA, window=window, length=LENGTH, particles=PARTICLES, seeds=40, **settings
    )[0.3]
    expected = exact_variance(block, PARTICLES // 2)
    assert samples.var(axis=0, ddof=1).sum() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("name", "window", "block", "settings"),
    [
        ("pes", 2, 2, {}),
        ("pes", 3, 3, {}),
        ("gpes", 2, 6, {"noise_period": 6}),
        ("gpes", 3, 6, {"noise_period": 6}),
        ("nres", 3, LENGTH, {}),
        ("full_es", LENGTH, LENGTH, {}),
        ("dodge", 3, LENGTH, {"episodes": PARTICLES // 2}),
    ],
)
def test_variance_is_the_exact_one(name, window, block, settings):
    check_variance(name, window, block, **settings)


def test_one_block_has_the_variance_of_the_formula():
    """(P+1)‖∇L‖² over the pairs, for the formula itself."""
    gradient = np.asarray(DIRECTION) * LENGTH * (LENGTH - 1) / 2
    expected = (len(DIRECTION) + 1) * np.dot(gradient, gradient) / 20
    assert exact_variance(LENGTH, 20) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["truncated_es", "pes_analytic", "dodge", "mixture"])
def test_the_variance_that_is_reported_is_that_of_the_estimates(name):
    settings = dict(window=3, length=LENGTH, particles=20, sigma=0.3)
    if name == "dodge":
        settings["episodes"] = 10
    estimator = make(name, DRIFT, **settings)

    def run(key):
        def body(state, key):
            gradient, state, info = estimator.step(key, THETA, state, None)
            return state, (gradient, info.variance, info.signal_to_noise)

        return jax.lax.scan(body, estimator.init(key, THETA), jax.random.split(key, 4))[1]

    gradients, variance, ratio = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 4_000))
    measured = np.var(gradients, axis=0, ddof=1).sum(axis=-1)
    np.testing.assert_allclose(np.mean(variance, axis=0), measured, rtol=0.1, atol=1e-6)
    noisy = np.asarray(variance) > 1e-6
    squares = np.sum(np.square(gradients), axis=-1)
    np.testing.assert_allclose(np.asarray(ratio)[noisy], (squares / variance)[noisy], rtol=1e-3)


def test_the_analytic_gradient_lowers_the_variance():
    sums = {
        name: episode_sums(name, DRIFT, THETA, window=3, length=LENGTH, particles=40)[0.3]
        for name in ("pes", "pes_analytic")
    }
    spread = {name: rows.var(axis=0, ddof=1).sum() for name, rows in sums.items()}
    assert spread["pes_analytic"] < 0.8 * spread["pes"]
