"""The variance of an estimate against the number of unrolls that an episode is cut into.

An LSTM of P = 790 weights on a sequence, N = 200, σ = 1e-3, θ frozen at its start; an
estimate is the sum over an episode, its error mean‖ĝ − g‖²/‖g‖² with g by backpropagation.
One unroll: (P + 1)/(N/2). More: [P·Σ‖G_tτ‖² + Σ⟨G_tτ, G_τt⟩]/(N/2)/‖g‖² for PES, with
G_tτ = Σ_{s≥max(t,τ)} ∂L_s/∂θ_τ in blocks of one unroll each.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from meta_train.estimators import ESTIMATORS
from meta_train.problem import Theta
from meta_train.problems.recurrent import initial_theta, recurrent
from meta_train.reproduce.experiment import (
    LABELS,
    Claim,
    Curve,
    Effort,
    Experiment,
    Panel,
    Result,
)
from meta_train.reproduce.measures import in_words
from meta_train.reproduce.training import seed_keys, side_by_side

TOKENS = 50
PARTICLES = 200
DATA = ("repeated data", "random data")


class Size(NamedTuple):
    """Length of an episode; numbers of unrolls; those with a prediction; episodes averaged."""

    length: int
    unrolls: Mapping[str, tuple[int, ...]]
    predicted: tuple[int, ...]
    episodes: int


FULL = Size(1000, {"pes": (1, 5, 10, 100, 1000), "nres": (1, 10, 100)}, (1, 5, 10), 4)
FAST = Size(200, {"pes": (1, 5, 20, 200), "nres": (1, 20)}, (1, 5, 20), 8)


class Cases(NamedTuple):
    """For every seed: θ, tokens [seeds, data, length + 1], exact gradient [seeds, data, P]."""

    theta: Theta
    tokens: jax.Array
    gradient: jax.Array


def window_losses(windows: Theta, tokens: jax.Array, unrolls: int) -> jax.Array:
    """The loss of every unroll, each with a θ of its own: leaves [unrolls, …] → [unrolls]."""
    problem, key, data = recurrent(), jax.random.key(0), {"tokens": tokens}
    steps = (len(tokens) - 1) // unrolls

    def window(state: tuple, theta: Theta) -> tuple:
        step = partial(_step_of, problem.step, key, theta, data)
        state, losses = jax.lax.scan(step, state, length=steps)
        return state, losses.sum()

    first = jax.tree.map(lambda leaf: leaf[0], windows)
    return jax.lax.scan(window, problem.init(key, first), windows)[1]


def _step_of(step: Callable, key: jax.Array, theta: Theta, data: Any, state: Any, _: None) -> Any:
    return step(key, theta, state, data)


def shared(theta: Theta, unrolls: int) -> Theta:
    """The same θ for every unroll."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x[None], (unrolls, *x.shape)), theta)


def make_cases(seeds: int, length: int) -> Cases:
    """θ, a sequence that repeats one token and a random one, and their gradients."""

    def of_seed(key: jax.Array) -> Cases:
        key_theta, key_token, key_tokens = jax.random.split(key, 3)
        theta = initial_theta(key_theta, tokens=TOKENS)
        repeated = jnp.full(length + 1, jax.random.randint(key_token, (), 0, TOKENS))
        drawn = jax.random.randint(key_tokens, (length + 1,), 0, TOKENS)
        tokens = jnp.stack([repeated, drawn])

        def loss(theta: Theta, tokens: jax.Array) -> jax.Array:
            return window_losses(shared(theta, 1), tokens, 1).sum()

        gradient = jax.vmap(lambda t: ravel_pytree(jax.grad(loss)(theta, t))[0])(tokens)
        return Cases(theta, tokens, gradient)

    return jax.jit(jax.vmap(of_seed))(seed_keys(seeds))


def relative_error(name: str, unrolls: int, size: Size, cases: Cases) -> np.ndarray:
    """mean‖ĝ − g‖²/‖g‖² over episodes: [seeds, data]."""
    estimator = ESTIMATORS[name](
        recurrent(), window=size.length // unrolls, length=size.length,
        particles=PARTICLES, sigma=1e-3,
    )  # fmt: skip

    def one(key: jax.Array, theta: Theta, tokens: jax.Array, gradient: jax.Array) -> jax.Array:
        def window(carry: tuple, k: jax.Array) -> tuple:
            state, total = carry
            share, state, _ = estimator.step(
                jax.random.fold_in(key, k), theta, state, {"tokens": tokens}
            )
            return (state, jax.tree.map(jnp.add, total, share)), None

        def episode(state: Any, first: jax.Array) -> tuple:
            begin = (state, jax.tree.map(jnp.zeros_like, theta))
            (state, total), _ = jax.lax.scan(window, begin, first + jnp.arange(unrolls))
            error = ravel_pytree(total)[0] - gradient
            return state, jnp.sum(error**2) / jnp.sum(gradient**2)

        firsts = unrolls * jnp.arange(size.episodes)
        return jax.lax.scan(episode, estimator.init(key, theta), firsts)[1].mean()

    over_data = jax.vmap(one, in_axes=(None, None, 0, 0))
    keys = seed_keys(len(cases.tokens))
    return np.asarray(jax.jit(jax.vmap(over_data))(keys, *cases))


def predicted_error(unrolls: int, cases: Cases) -> np.ndarray:
    """The exact error of PES for small σ, by the formula at the top of this file: [seeds, data]."""

    def one(theta: Theta, tokens: jax.Array, gradient: jax.Array) -> jax.Array:
        def of_blocks(blocks: jax.Array) -> jax.Array:
            return window_losses(jax.vmap(unravel)(blocks), tokens, unrolls)

        flat, unravel = ravel_pytree(theta)
        by_block = jax.jacrev(of_blocks)(shared(flat, unrolls))  # [s, τ, P]
        later = jnp.cumsum(by_block[::-1], axis=0)[::-1]  # Σ_{s≥t}, at [t, τ]
        t = jnp.arange(unrolls)
        g = later[jnp.maximum(t[:, None], t[None, :]), t[None, :]]
        variance = flat.size * jnp.sum(g**2) + jnp.sum(g * g.transpose(1, 0, 2))
        return variance / (PARTICLES / 2) / jnp.sum(gradient**2)

    over_data = jax.vmap(one, in_axes=(None, 0, 0))
    return np.asarray(jax.jit(jax.vmap(over_data))(*cases))


def run(effort: Effort) -> Result:
    """Episodes of 200 steps, or of the paper's 1000."""
    size = FAST if effort.fast else FULL
    cases = make_cases(effort.seeds, size.length)
    jobs = {
        (name, unrolls): partial(relative_error, name, unrolls, size, cases)
        for name, all_unrolls in size.unrolls.items()
        for unrolls in all_unrolls
    } | {("exact", unrolls): partial(predicted_error, unrolls, cases) for unrolls in size.predicted}
    errors = side_by_side(jobs)
    parameters = cases.gradient.shape[-1]
    return Result(
        panels=panels(errors),
        claims=claims(errors, (parameters + 1) / (PARTICLES / 2)),
        figures={
            "parameters": parameters,
            "data": DATA,
            "errors": [
                {"estimator": name, "unrolls": unrolls, "error": error}
                for (name, unrolls), error in errors.items()
            ],
        },
        notes=[
            "Substitute: synthetic sequences (one token, drawn once; or uniform tokens) for the "
            "paper's text. How fast the error grows on random data depends on the sequence and "
            "on the initial weights.",
            f"Episodes of {size.length} steps; errors are means over {size.episodes} episodes.",
        ],
    )


Errors = Mapping[tuple[str, int], np.ndarray]


def of_data(errors: Errors, name: str, data: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of unrolls [n] and errors [seeds, n] of one estimator on one kind of data."""
    unrolls = np.array([count for estimator, count in errors if estimator == name])
    return unrolls, np.stack([errors[name, count][:, data] for count in unrolls], axis=1)


def panels(errors: Errors) -> list[Panel]:
    """One panel for each kind of data."""
    labels = {"pes": LABELS["pes"], "nres": LABELS["nres"], "exact": "PES, exact formula"}
    return [
        Panel(
            title,
            "unrolls of an episode",
            "mean ‖ĝ − g‖² / ‖g‖²",
            [Curve(label, *of_data(errors, name, data)) for name, label in labels.items()],
            x_scale="log",
            y_scale="log",
        )
        for data, title in enumerate(DATA)
    ]


def claims(errors: Errors, theory: float) -> list[Claim]:
    """What the paper's figure and the theory say, of means over seeds.

    Args:
      errors: by estimator and unrolls, [seeds, data].
      theory: the error at one unroll, (P + 1)/(N/2).
    """
    repeated, random = (of_data(errors, "pes", data)[1].mean(axis=0) for data in (0, 1))
    unrolls = of_data(errors, "pes", 0)[0]
    once = errors["pes", 1]
    shared_unrolls = [count for name, count in errors if name == "exact"]
    ratios = np.array(
        [errors["pes", c].mean(axis=0) / errors["exact", c].mean(axis=0) for c in shared_unrolls]
    )
    return [
        Claim(
            "At one unroll the error is (P + 1)/(N/2), within 15 %",
            bool(abs(once.mean() / theory - 1) < 0.15),
            f"{once.mean():.3g}, by theory {theory:.3g}",
        ),
        Claim(
            "PES has the error of the exact formula, within 20 % on both kinds of data",
            bool((abs(ratios - 1) < 0.2).all()),
            f"measured / exact {in_words(ratios)} at {shared_unrolls} unrolls",
        ),
        Claim(
            "On repeated data the error of PES ends below 0.65 of that at one unroll",
            bool(repeated[-1] < 0.65 * repeated[0]),
            _by_unrolls(unrolls, repeated),
        ),
        Claim(
            "On random data it grows all the way, to more than 10 times the first",
            bool((np.diff(random) > 0).all() and random[-1] > 10 * random[0]),
            _by_unrolls(unrolls, random),
        ),
        _nres_stays(errors, theory),
    ]


def _nres_stays(errors: Errors, theory: float) -> Claim:
    unrolls = of_data(errors, "nres", 0)[0]
    means = [of_data(errors, "nres", data)[1].mean(axis=0) for data in range(len(DATA))]
    return Claim(
        "The error of NRES stays as it is at one unroll, within 25 % of the theory",
        all(bool((abs(mean / theory - 1) < 0.25).all()) for mean in means),
        "; ".join(
            f"{title}: {_by_unrolls(unrolls, mean)}"
            for title, mean in zip(DATA, means, strict=True)
        ),
    )


def _by_unrolls(unrolls: np.ndarray, errors: np.ndarray) -> str:
    pairs = zip(unrolls, errors, strict=True)
    return ", ".join(f"{error:.3g} at {count}" for count, error in pairs)


VARIANCE = Experiment(
    name="variance",
    title="Variance against the number of unrolls",
    source="Vicol, Metz, Sohl-Dickstein 2021 (arXiv:2112.13835); Li et al. 2023 (arXiv:2304.12180)",
    run=run,
)
