"""Claims are computed: what an experiment recorded decides, and a fault in it makes them unseen."""

import jax
import numpy as np
import pytest

from meta_train.problems.lorenz import INITIAL_THETA, TRUE_THETA
from meta_train.reproduce.experiment import Effort
from meta_train.reproduce.experiments import (
    control,
    influence_balancing,
    l2_regression,
    learned_optimizer,
    learning_rate_schedule,
    lorenz,
    many_hyperparameters,
    toy_regression,
    variance,
)
from meta_train.reproduce.training import History

SEEDS = 3


def falling(start, end, updates, theta=0.0):
    """A metric from ``start`` to ``end``, evenly in its logarithm, at every seed."""
    metric = np.geomspace(start, end, len(updates))[None] * np.ones((SEEDS, 1))
    shape = (SEEDS, len(updates), *np.shape(theta))
    return History(updates, np.broadcast_to(np.asarray(theta, float), shape).copy(), metric)


def influence():
    updates = np.arange(0, 3001, 100)
    histories = {
        "PES": falling(8, 1e-12, updates),
        "RTRL": falling(8, 1e-12, updates),
        "UORO": falling(8, 1e-12, 10 * updates),
        "truncated ES": falling(8, 200, updates, theta=3.0),
        "TBPTT, W=1": falling(8, 200, updates, theta=3.0),
        "TBPTT, W=10": falling(8, 1e15, updates),
        "TBPTT, W=100": falling(8, 1e-9, updates),
    }
    return influence_balancing.claims, (histories,)


def toy():
    updates = np.arange(0, 2001, 50)
    ends = {"PES": 570, "NRES": 566, "GPES": 566, "truncated ES": 1500}
    ends |= {"TBPTT": 2423, "RTRL": 2423, "UORO": 2423}
    histories = {label: falling(2488, end, updates) for label, end in ends.items()}
    return toy_regression.claims, (histories, 555.0)


def chaos():
    updates = np.arange(0, 1001, 20)
    truth, wrong = np.array(TRUE_THETA), np.array(TRUE_THETA) + 0.5
    ends = {"NRES": (50, truth), "PES": (60, truth), "full ES": (50, truth)}
    ends |= {"truncated ES": (80, wrong), "TBPTT": (90, wrong)}
    return lorenz.claims, (
        {label: falling(end, end, updates, theta) for label, (end, theta) in ends.items()},
    )


def coefficient():
    updates = np.arange(0, 4001, 400)

    def history(theta, loss):
        shape = (6, SEEDS, len(updates))
        thetas = np.full(shape, theta)
        thetas[..., 0] = 3.0
        return History(updates, thetas, np.full(shape, loss))

    histories = {"PES": history(1.6, 0.8402), "truncated ES": history(-2.0, 1.0)}
    return l2_regression.claims, (histories, 1.625, 0.84)


def unrolls():
    def error(repeated, random):
        return np.array([[repeated, random]] * SEEDS)

    errors = {
        ("pes", 1): error(7.9, 7.9),
        ("pes", 5): error(4.7, 20.0),
        ("pes", 200): error(3.8, 500.0),
        ("nres", 1): error(7.9, 7.9),
        ("nres", 20): error(7.9, 7.9),
        ("exact", 1): error(7.91, 7.91),
        ("exact", 5): error(4.7, 20.0),
    }
    return variance.claims, (errors, 7.91)


def schedule():
    """One objective; what is planted on are the losses where the searches ended."""
    updates, grid = np.arange(0, 1001, 25), np.linspace(0.6, 2.2, 256).reshape(16, 16)
    decays = {"PES": np.log(3.0), "truncated ES": np.log(12.0)}
    ways, ends = {}, {}
    for window in learning_rate_schedule.FAST.searches:
        for label, decay in decays.items():
            way = falling(1, 1, updates, theta=np.array([-3.0, decay]))
            way.theta[:, 0] = learning_rate_schedule.START
            ways[f"{label}, W={window}"] = way
            ends[f"{label}, W={window}"] = np.full(SEEDS, 0.62 if label == "PES" else 0.9)

    def claims(ends):
        sizes = learning_rate_schedule.FAST
        return learning_rate_schedule.claims_of("loss", sizes, ways, grid, ends)

    return claims, (ends,)


def many():
    best = {"PES": 0.72, "truncated ES": 1.1, "random search": 0.77}
    iterations = np.arange(1, 6) * 1000
    searches = {
        label: many_hyperparameters.Search(
            iterations, np.geomspace(2, least, 5)[None] * np.ones((SEEDS, 1))
        )
        for label, least in best.items()
    }
    return many_hyperparameters.claims, (searches,)


def swimming():
    updates = np.arange(0, 401, 20)
    labels = ("PES", "NRES", "truncated ES")
    return control.claims, ({label: falling(1e-6, 0.2, updates) for label in labels},)


def learned():
    """Loss falls with inner steps; that of TBPTT first fast, then slowly."""
    steps = np.arange(1, 501)

    def curve(start, power):
        return np.broadcast_to(start * steps**-power, (SEEDS, 3, len(steps))).copy()

    return learned_optimizer.claims, (
        {
            "pes": curve(2.3, 0.26),
            "nres": curve(2.3, 0.27),
            "truncated_es": curve(2.4, 0.1),
            "truncated_backprop": curve(1.9, 0.2),
        },
    )


GOOD = {
    "influence": influence, "toy": toy, "lorenz": chaos, "l2": coefficient, "variance": unrolls,
    "schedule": schedule, "many": many, "control": swimming, "learned": learned,
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_the_papers_saw_is_seen(name):
    claims, arguments = GOOD[name]()
    for claim in claims(*arguments):
        assert claim.seen, claim
        assert claim.seen is True  # JSON takes no NumPy
        assert any(character.isdigit() for character in claim.measured)


def put(label, value, where=-1, field="metric", seed=1):
    """A fault: one seed has another value at one point, or at all of them."""

    def plant(histories):
        getattr(histories[label], field)[..., seed, where] = value

    return plant


def every_theta(label, value):
    def plant(histories):
        histories[label].theta[...] = value

    return plant


def error_of(entry, value, data=slice(None)):
    def plant(errors):
        errors[entry][:, data] = value

    return plant


def entry(label, value, index=1):
    def plant(values):
        values[label][index] = value

    return plant


def like_nres(label, factor):
    """The same shape over the horizon."""

    def plant(curves):
        curves[label][...] = factor * curves["nres"]

    return plant


def best_of(label, value, seed=1):
    def plant(searches):
        searches[label].scores[seed, -1] = value

    return plant


ALL = slice(None)
FAULTS = [
    ("influence", put("PES", 2e-9), {0}),
    ("influence", put("PES", np.nan), {0, 1, 3}),
    ("influence", put("PES", 1e3, 10, seed=ALL), {1}),
    ("influence", put("truncated ES", 10.0), {2}),
    ("influence", put("TBPTT, W=1", -1.0, field="theta"), {2}),
    ("influence", put("TBPTT, W=10", 1e-3), {3}),
    ("influence", put("TBPTT, W=100", 1e-2), {3}),
    ("influence", put("TBPTT, W=100", 1e-13, seed=ALL), {3}),
    ("influence", put("UORO", 1e-7, 1, seed=ALL), {4}),
    ("influence", put("UORO", 1e-3, ALL, seed=ALL), {4}),
    ("toy", put("PES", 601.0), {0}),
    ("toy", put("PES", np.nan), {0}),
    ("toy", put("TBPTT", 2399.0), {1, 2}),
    ("toy", put("UORO", 2000.0), {2}),
    ("toy", put("truncated ES", 1100.0), {3}),
    ("toy", put("GPES", 700.0, seed=ALL), {4}),
    ("lorenz", put("NRES", 70.0, ALL, seed=ALL), {0}),
    ("lorenz", put("NRES", 85.0, ALL, seed=ALL), {0, 1}),
    ("lorenz", put("NRES", np.nan, ALL, seed=ALL), {0, 1, 2}),
    ("lorenz", every_theta("NRES", 3.0), {3}),
    ("lorenz", every_theta("TBPTT", TRUE_THETA), {4}),
    ("lorenz", every_theta("truncated ES", INITIAL_THETA), {4}),
    ("l2", put("PES", 3.0, ALL, field="theta"), {0}),
    ("l2", put("PES", 0.9, ALL), {1}),
    ("l2", put("truncated ES", 1.5, ALL, field="theta"), {2}),
    ("l2", every_theta("truncated ES", 3.0), {2}),
    ("variance", error_of(("pes", 1), 12.0), {0, 1}),
    ("variance", error_of(("pes", 5), 30.0, 1), {1}),
    ("variance", error_of(("pes", 200), 6.0, 0), {2}),
    ("variance", error_of(("pes", 200), 70.0, 1), {3}),
    ("variance", error_of(("pes", 200), 19.0, 1), {3}),
    ("variance", error_of(("nres", 20), 16.0, 1), {4}),
    ("variance", error_of(("nres", 20), np.nan), {4}),
    ("schedule", entry("PES, W=10", 0.8), {0}),
    ("schedule", entry("PES, W=10", 1.0), {0, 1}),
    ("schedule", entry("PES, W=100", np.inf), {2, 3}),
    ("schedule", entry("truncated ES, W=10", 0.63), {1}),
    ("many", best_of("PES", 1.5), {1}),
    ("many", best_of("PES", np.nan), {0, 1}),
    ("many", best_of("truncated ES", 0.7), {0}),
    ("many", best_of("random search", 0.7), {1}),
    ("control", put("PES", 0.01, ALL), {0}),
    ("control", put("NRES", np.nan), {1}),
    ("learned", entry("pes", 0.72), {1}),
    ("learned", entry("nres", 0.95), {3}),
    ("learned", entry("nres", np.inf, ALL), {2, 3, 4, 5}),
    ("learned", entry("truncated_backprop", 3.0, ALL), {4}),
    ("learned", like_nres("truncated_es", 1.09), {5}),
    ("learned", like_nres("truncated_es", 0.9), {0, 2, 5}),
]


@pytest.mark.parametrize(("name", "plant", "unseen"), FAULTS)
def test_a_fault_makes_its_claims_unseen(name, plant, unseen):
    claims, arguments = GOOD[name]()
    plant(arguments[0])
    assert {i for i, claim in enumerate(claims(*arguments)) if not claim.seen} == unseen


def test_the_exact_variance_is_that_of_its_formula():
    """The double sums, written out, with one gradient at a time."""
    cases = variance.make_cases(1, 6)
    theta, tokens = jax.tree.map(lambda leaf: leaf[0], (cases.theta, cases.tokens[:, 1]))
    exact = np.asarray(cases.gradient[0, 1], float)

    @jax.jit
    def gradients(thetas, of_window):
        def loss(thetas):
            return variance.window_losses(thetas, tokens, 3)[of_window]

        return jax.tree.leaves(jax.grad(loss)(thetas))

    blocks = []  # a[s][τ]
    for s in range(3):
        leaves = gradients(variance.shared(theta, 3), s)
        blocks.append(np.concatenate([np.reshape(leaf, (3, -1)) for leaf in leaves], axis=1))
    a = np.asarray(blocks, float)
    np.testing.assert_allclose(a.sum(axis=(0, 1)), exact, rtol=1e-4, atol=1e-5)
    g = [[a[max(t, tau) :, tau].sum(axis=0) for tau in range(3)] for t in range(3)]
    total = sum(
        exact.size * g[t][tau] @ g[t][tau] + g[t][tau] @ g[tau][t]
        for t in range(3)
        for tau in range(3)
    )
    np.testing.assert_allclose(
        variance.predicted_error(3, cases)[0, 1], total / 100 / (exact @ exact), rtol=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [influence_balancing, toy_regression])
def test_the_claims_are_seen_in_a_real_run(experiment):
    (real,) = [value for value in vars(experiment).values() if type(value).__name__ == "Experiment"]
    for claim in real.run(Effort(fast=True, seeds=1)).claims:
        assert claim.seen, claim
