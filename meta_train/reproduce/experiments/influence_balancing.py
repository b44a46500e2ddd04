"""Influence balancing: who sees that θ harms in the long run.

n = 23, θ_0 = 0.5, N = 1000, σ = 0.1, SGD at 1e-4 (UORO 1e-5), 3,000 updates, T = ∞; the metric
is the loss of step 500 from s_0 at the θ at hand. The loss counts at the end of each window.
"""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train.estimators import ESTIMATORS
from meta_train.problem import Data, Theta
from meta_train.problems.influence_balancing import (
    INITIAL_THETA,
    influence_balancing,
    optimal_theta,
)
from meta_train.reproduce.experiment import (
    LABELS,
    Claim,
    Curve,
    Effort,
    Experiment,
    Panel,
    Result,
)
from meta_train.reproduce.measures import at, in_words, recorded
from meta_train.reproduce.scores import episode_losses
from meta_train.reproduce.training import History, run_seeds, side_by_side

UPDATES = 3_000
EVERY = 100
EVALUATED_AT = 500
NOISE_FLOOR = 1e-11
"""Below this loss θ is within some float32 roundings of θ*, and losses say nothing."""


class Case(NamedTuple):
    """An estimator with its window, and SGD's rate and updates."""

    estimator: str
    window: int = 1
    rate: float = 1e-4
    updates: int = UPDATES


CASES: Mapping[str, Case] = {
    LABELS["truncated_es"]: Case("truncated_es"),
    LABELS["pes"]: Case("pes"),
    LABELS["rtrl"]: Case("rtrl"),
    LABELS["uoro"]: Case("uoro", rate=1e-5, updates=10 * UPDATES),
    f"{LABELS['truncated_backprop']}, W=1": Case("truncated_backprop"),
    f"{LABELS['truncated_backprop']}, W=10": Case("truncated_backprop", window=10),
    f"{LABELS['truncated_backprop']}, W=100": Case("truncated_backprop", window=100),
}


def long_run_loss(theta: Theta, data: Data) -> jax.Array:
    """The loss of step 500 from s_0 at θ."""
    losses = episode_losses(influence_balancing(), jax.random.key(0), theta, data, EVALUATED_AT)
    return losses[-1]


def train(case: Case, seeds: int) -> History:
    """The runs of one case."""
    problem = influence_balancing(loss_every=case.window)
    estimator = ESTIMATORS[case.estimator](problem, window=case.window, particles=1000, sigma=0.1)
    return run_seeds(
        estimator,
        optax.sgd(case.rate),
        long_run_loss,
        theta=jnp.asarray(INITIAL_THETA),
        updates=case.updates,
        every=EVERY,
        seeds=seeds,
    )


def run(effort: Effort) -> Result:
    """Both forms are the same: the experiment is short."""
    histories = side_by_side(
        {label: partial(train, case, effort.seeds) for label, case in CASES.items()}
    )
    return Result(
        panels=panels(histories),
        claims=claims(histories),
        figures={"optimal_theta": optimal_theta(), **recorded(histories)},
        notes=["The fast form is the full one.", "UORO makes ten times the updates of the others."],
    )


def panels(histories: Mapping[str, History]) -> list[Panel]:
    """The loss, and θ, over the updates."""
    theta = [Curve(label, h.updates, h.theta) for label, h in histories.items()]
    updates = np.arange(0, UPDATES + 1, EVERY)
    optimum = Curve("optimum", updates, np.full((1, len(updates)), optimal_theta()))
    loss = [Curve(label, h.updates, h.metric) for label, h in histories.items()]
    return [
        Panel("Loss of step 500", "updates of θ", "loss", loss, y_scale="log",
              x_limits=(0, UPDATES), y_limits=(1e-14, 1e6)),
        Panel("Meta-parameter", "updates of θ", "θ", [*theta, optimum],
              x_limits=(0, UPDATES), y_limits=(-0.5, 3.5)),
    ]  # fmt: skip


def claims(histories: Mapping[str, History]) -> list[Claim]:
    """What the paper's figure says."""
    pes, rtrl = histories["PES"], histories["RTRL"]
    last = {label: h.metric[:, -1] for label, h in histories.items()}
    medians = [np.median(h.metric, axis=0) for h in (pes, rtrl)]
    ratio = (medians[0] / np.maximum(medians[1], NOISE_FLOOR)).max()
    return [
        Claim(
            f"PES is below 1e-9 by {UPDATES:,} updates, at every seed",
            bool((at(pes, UPDATES) < 1e-9).all()),
            f"loss {in_words(at(pes, UPDATES))}",
        ),
        Claim(
            "PES stays within 10 times the loss of RTRL all the way (medians; below "
            f"{NOISE_FLOOR:g} rounding decides)",
            bool(ratio <= 10),
            f"at most {ratio:.3g} times, at {len(medians[0])} points",
        ),
        _walks_the_wrong_way(histories),
        Claim(
            "TBPTT with W=10 diverges; with W=100 it converges, slower than PES",
            bool(
                not (last["TBPTT, W=10"] < 1e9).any()
                and (last["TBPTT, W=100"] < 1e-6).all()
                and np.median(last["TBPTT, W=100"]) > np.median(last["PES"])
            ),
            f"W=10: {in_words(last['TBPTT, W=10'])}; W=100: {in_words(last['TBPTT, W=100'])}",
        ),
        _uoro_is_slower(pes, histories["UORO"]),
    ]


def _walks_the_wrong_way(histories: Mapping[str, History]) -> Claim:
    wrong = {label: histories[label] for label in ("truncated ES", "TBPTT, W=1")}
    return Claim(
        "Truncated ES and TBPTT with W=1 walk the wrong way: the loss rises, θ too",
        all(
            bool((h.metric[:, -1] > 10 * h.metric[:, 0]).all() and (h.theta[:, -1] > 1).all())
            for h in wrong.values()
        ),
        "; ".join(
            f"{label}: loss {in_words(h.metric[:, -1])} from {h.metric[0, 0]:.3g}, "
            f"θ {in_words(h.theta[:, -1])}"
            for label, h in wrong.items()
        ),
    )


def _uoro_is_slower(pes: History, uoro: History) -> Claim:
    reached = [h.updates[np.median(h.metric, axis=0) < 1e-6] for h in (pes, uoro)]
    seen = all(len(updates) for updates in reached)
    first = [int(updates[0]) if len(updates) else None for updates in reached]
    return Claim(
        "UORO gets there with about 10 times the updates of PES (3 to 30 times)",
        bool(seen and 3 <= reached[1][0] / reached[0][0] <= 30),
        f"median loss below 1e-6 after {first[0]} updates of PES, {first[1]} of UORO",
    )


INFLUENCE_BALANCING = Experiment(
    name="influence_balancing",
    title="Influence balancing",
    source="Vicol, Metz, Sohl-Dickstein 2021 (arXiv:2112.13835), section 4.1",
    run=run,
)
