"""The ELBO and the maximum mean discrepancy, by closed forms, sampling and loops."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from tasks.images.matching import VARIANCES, discrepancy, initial_discrepancy, kernel
from tasks.images.variational import bernoulli, divergence, elbo, gaussian


def test_the_divergence_is_the_expected_difference_of_log_densities():
    mean, log_variance = np.array([0.7, -0.2]), np.array([0.3, -1.0])
    spread = np.exp(log_variance / 2)
    drawn = mean + spread * np.random.default_rng(0).standard_normal((400_000, 2))
    terms = stats.norm.logpdf(drawn, mean, spread) - stats.norm.logpdf(drawn)
    each = terms.sum(axis=1)
    found = float(divergence(jnp.asarray(mean)[None], jnp.asarray(log_variance)[None])[0])
    assert abs(found - each.mean()) < 4 * each.std() / np.sqrt(len(each))
    assert float(divergence(jnp.zeros((1, 3)), jnp.zeros((1, 3)))[0]) == 0


def test_likelihoods_are_those_of_scipy():
    output, pixels = np.random.default_rng(1).standard_normal((2, 3, 4))
    expected = -stats.norm.logpdf(pixels, output) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(gaussian(output, pixels), expected.sum(axis=1), rtol=1e-5)
    chance = 1 / (1 + np.exp(-output))
    expected = -stats.bernoulli.logpmf(pixels > 0, chance).sum(axis=1)
    np.testing.assert_allclose(bernoulli(output, pixels), expected, rtol=1e-5)


def test_the_negative_elbo_bounds_that_of_a_linear_gaussian_model():
    """p(z) = N(0, 1), p(x|z) = N(z, 1): −log p(x) is of N(0, 2); q = N(x/2, 1/2) attains it."""
    pixels = np.asarray(jax.random.normal(jax.random.key(0), (20_000, 1)))
    exact = -stats.norm.logpdf(pixels, 0, np.sqrt(2)).mean() - 0.5 * np.log(2 * np.pi)

    def bound(log_variance):
        def encode(x):
            return jnp.concatenate([x / 2, jnp.full_like(x, log_variance)], axis=1)

        network = hk.transform(lambda x: elbo(x, encode, lambda z: z, gaussian, 1.0)[0])
        return float(network.apply({}, jax.random.key(1), pixels))

    np.testing.assert_allclose(bound(np.log(0.5)), exact, atol=0.02)
    assert bound(0.0) > exact + 0.1


def test_the_discrepancy_is_its_double_sum_over_different_rows():
    one, other = np.random.default_rng(2).standard_normal((2, 4, 3), np.float32)

    def k(x, y):
        return np.mean([np.exp(-np.sum((x - y) ** 2) / (2 * 3 * v)) for v in VARIANCES])

    def within(rows):
        return np.mean([k(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j])

    between = np.mean([k(x, y) for x in one for y in other])
    expected = within(one) + within(other) - 2 * between
    np.testing.assert_allclose(discrepancy(one, other), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(kernel(one, one).diagonal(), 1, atol=1e-5)


def test_the_discrepancy_of_one_distribution_to_itself_is_zero_in_expectation():
    def draws(key, shift):
        one, other = jax.random.normal(key, (2, 8, 4))
        return discrepancy(one, other + shift)

    keys = jax.random.split(jax.random.key(3), 2000)
    equal, moved = (jax.vmap(draws, (0, None))(keys, shift) for shift in (0.0, 0.5))
    error = float(equal.std()) / np.sqrt(len(keys))
    assert abs(float(equal.mean())) < 4 * error
    assert float(moved.mean()) > 10 * error


def test_the_bound_is_the_discrepancy_of_zero_to_noise_in_many_dimensions():
    noise = jax.random.normal(jax.random.key(4), (64, 4096))
    found = discrepancy(jnp.zeros_like(noise), noise)
    np.testing.assert_allclose(found, initial_discrepancy(), rtol=0.05)
