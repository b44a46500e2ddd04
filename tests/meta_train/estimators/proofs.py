"""Estimates of whole episodes, and how far their mean is from what it must be."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.estimators import ESTIMATORS
from tests.meta_train.estimators.problems import flat

EVOLUTION = ("full_es", "truncated_es", "pes", "nres", "gpes")  # forward evaluations only
DIFFERENTIATE = ("truncated_backprop", "full_backprop", "rtrl", "uoro", "dodge")
WHOLE = ("full_es", "full_backprop")  # a window is an episode
EPISODES = 60  # of each σ


def make(name, problem, **settings):
    """The estimator, with what it needs besides the settings that all take."""
    if name in WHOLE and settings.get("length"):
        settings["window"] = settings["length"]
    if name == "gpes":
        settings.setdefault("noise_period", 2 * settings["window"])
    return ESTIMATORS[name](problem, **settings)


def episode_sums(name, problem, theta, *, length, sigmas=(0.3,), seeds=1, **settings):
    """Σ of the estimates of an episode: {σ: [seeds·EPISODES, P]}, independent rows.

    σ is a schedule that changes from episode to episode: one compilation for all.
    """
    window = length if name in WHOLE else settings["window"]
    windows = length // window

    def sigma(count):
        return jnp.asarray(sigmas)[(count // windows) % len(sigmas)]

    estimator = make(name, problem, length=length, sigma=sigma, **settings)

    def run(key):
        def body(state, key):
            gradient, state, info = estimator.step(key, theta, state, None)
            return state, (gradient, info.diverged)

        keys = jax.random.split(key, EPISODES * windows * len(sigmas))
        return jax.lax.scan(body, estimator.init(key, theta), keys)[1]

    keys = jax.random.split(jax.random.key(0), seeds)
    estimates, diverged = jax.jit(partial(jax.lax.map, run))(keys)
    assert not np.asarray(diverged).any()
    merged = jax.tree.map(lambda x: np.reshape(x, (-1, *x.shape[2:])), estimates)
    sums = flat(merged).astype(float).reshape(seeds, EPISODES, len(sigmas), windows, -1).sum(axis=3)
    return {s: sums[:, :, i].reshape(seeds * EPISODES, -1) for i, s in enumerate(sigmas)}


def deviation(samples, expected):
    """Largest |mean − expected| in standard errors, and the relative size of the error bar."""
    standard_error = np.maximum(samples.std(axis=0, ddof=1), 1e-9) / np.sqrt(len(samples))
    return (
        np.max(np.abs(samples.mean(axis=0) - expected) / standard_error),
        np.linalg.norm(standard_error) / np.linalg.norm(expected),
    )


def check_mean(samples, expected):
    """Within 5 standard errors of what is expected, and these small enough to say so."""
    for sigma, rows in samples.items():
        errors, relative_error_bar = deviation(rows, expected)
        assert errors < 5, (sigma, rows.mean(axis=0), expected)
        assert relative_error_bar < 0.02, f"no power at σ={sigma}: a fault of 10 % would pass"
