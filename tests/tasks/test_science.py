"""Analytic losses, equations, evolution and SIREN against closed forms and NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.analytic import spectra
from tasks.analytic.surfaces import SURFACES, surface_family
from tasks.base import Task
from tasks.domains.control import SYSTEMS, episode_cost
from tasks.domains.functions import OMEGA, siren_init
from tasks.domains.physics import EQUATIONS, error_of, physics_family
from tasks.domains.regression import huber
from tasks.evolution import evolved

TWINS = {
    "rosenbrock": lambda z: sum(
        100 * (z[i + 1] - z[i] ** 2) ** 2 + (1 - z[i]) ** 2 for i in range(len(z) - 1)
    ),
    "styblinski_tang": lambda z: (
        sum(v**4 - 16 * v**2 + 5 * v for v in z) / 2 + 39.16616570377142 * len(z)
    ),
    "rastrigin": lambda z: 10 * len(z) + sum(v**2 - 10 * np.cos(2 * np.pi * v) for v in z),
    "ackley": lambda z: (
        20 + np.e - 20 * np.exp(-0.2 * np.sqrt(np.mean(z**2)))
        - np.exp(np.mean(np.cos(2 * np.pi * z)))
    ),
    "himmelblau": lambda z: (z[0] ** 2 + z[1] - 11) ** 2 + (z[0] + z[1] ** 2 - 7) ** 2,
    "beale": lambda z: (
        (1.5 - z[0] + z[0] * z[1]) ** 2
        + (2.25 - z[0] + z[0] * z[1] ** 2) ** 2
        + (2.625 - z[0] + z[0] * z[1] ** 3) ** 2
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SURFACES)
def test_a_surface_is_its_equation_and_is_least_at_its_minimum(name):
    surface = SURFACES[name]
    points = np.random.default_rng(0).normal(size=(5, 2))
    with jax.enable_x64(True):
        expected = [TWINS[name](z) for z in points]
        np.testing.assert_allclose([surface.value(jnp.array(z)) for z in points], expected)
        least = jnp.resize(jnp.array(surface.minimum), (2,))
        value, gradient = jax.value_and_grad(surface.value)(least)
    assert value == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(gradient, 0, atol=1e-9)


def test_a_rotated_surface_starts_at_1_and_is_0_at_its_minimum():
    family = surface_family("rotated", "rosenbrock", 4)
    cfg = family.sample(jax.random.key(1))
    task, scored = family.build(cfg), family.examples({}, 1)
    start, _ = task.init(jax.random.key(0))
    assert float(task.loss(start, {}, None, scored)[0]) == pytest.approx(1)
    assert float(task.loss({"x": cfg["minimum"]}, {}, None, scored)[0]) == pytest.approx(
        0, abs=1e-6
    )


def test_spectra_are_as_stated():
    key = jax.random.key(0)
    np.testing.assert_allclose(spectra.power_law(key, key, 4), [1, 1 / 2, 1 / 3, 1 / 4])
    np.testing.assert_allclose(spectra.two_clusters(key, key, 4), [1, 1, 1e-3, 1e-3])
    np.testing.assert_allclose(
        spectra.ill_conditioned(key, key, 4), [1, 1e-2, 1e-4, 1e-6], rtol=1e-4
    )
    np.testing.assert_allclose(spectra.low_rank(key, key, 8), [1, 1, 0, 0, 0, 0, 0, 0])


def test_huber():
    np.testing.assert_allclose(huber(jnp.array([-3.0, 0.5, 2.0])), [2.5, 0.125, 1.5])


@pytest.mark.parametrize("first", [True, False])
def test_siren_initialises_with_the_variance_of_its_paper(first):
    count, fan_in = 40_000, 32
    drawn = jax.random.uniform(jax.random.key(0), (count,))
    init = siren_init(fan_in, first)
    bound = 1 / fan_in if first else np.sqrt(6 / fan_in) / OMEGA
    assert (init.minval, init.maxval) == pytest.approx((-bound, bound))
    weights = init.minval + (init.maxval - init.minval) * drawn
    variance = 1 / (3 * fan_in**2) if first else 2 / (fan_in * OMEGA**2)
    assert float(jnp.var(weights)) == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize("name", EQUATIONS)
def test_the_solution_leaves_no_residual_and_another_function_does(name):
    equation = EQUATIONS[name]
    family = physics_family("any", name, [4])
    cfg = {"amplitude": jnp.array([0.7, 0.4])}
    batch = family.batch(jax.random.key(0), family.load()["train"])
    with jax.enable_x64(True):
        batch = jax.tree.map(lambda x: np.asarray(x, float), batch)
        cfg = {"amplitude": np.array([0.7, 0.4])}
        exact = partial(equation.exact, cfg)

        @jax.jit
        def errors(factor):
            return error_of(equation, cfg, lambda p: factor * exact(p), batch)

        assert float(errors(1.0)) < 1e-20
        assert float(errors(0.9)) > 1e-4
    faces = np.array(equation.faces)[np.arange(16) % len(equation.faces)]
    found = batch["boundary"][np.arange(16), faces[:, 0].astype(int)]
    np.testing.assert_array_equal(found, faces[:, 1])


def test_evolution_estimates_the_gradient_of_the_smoothed_loss():
    """E L(p + σε) of Σ p⁴ is Σ p⁴ + 6 σ² p² + 3 σ⁴: its gradient is 4 p³ + 12 σ² p."""
    point, count = np.array([0.5, -1.0, 0.8]), 4000

    def loss(params, state, key, batch):
        return jnp.sum(params["x"] ** 4), (state, {})

    @jax.jit
    def estimates(sigma):
        task = evolved(Task(lambda key: ({}, {}), loss), sigma, 2)

        def one(key):
            (value, _), found = task.value_and_gradient({"x": jnp.array(point)}, {}, key, {})
            return value, found["x"]

        return jax.vmap(one)(jax.random.split(jax.random.key(0), count))

    for sigma in (0.1, 0.5, 1.0):
        value, found = estimates(sigma)
        np.testing.assert_allclose(value, np.sum(point**4), rtol=1e-5)
        error = np.std(found, axis=0) / np.sqrt(count)
        expected = 4 * point**3 + 12 * sigma**2 * point
        assert (error < 0.1 * np.abs(expected)).all()  # power: a factor would be seen
        assert (np.abs(np.mean(found, axis=0) - expected) < 5 * error).all()


def test_a_point_mass_pays_what_numpy_says():
    start = np.array([[1.0, 0.0], [-0.5, 0.3]], np.float32)
    paid = episode_cost(SYSTEMS["point_mass"], jnp.array(2.0), lambda s: -s[:, 0], start)
    place, speed = start.T.astype(float)
    costs = []
    for _ in range(20):
        action = -place
        speed = speed + 0.1 * 3 * action / 2
        place = place + 0.1 * speed
        costs.append(place**2 + 0.1 * speed**2 + 0.01 * action**2)
    assert float(paid) == pytest.approx(np.mean(costs), rel=1e-5)
