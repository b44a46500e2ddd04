"""Tuning finds the best rate or says that it is on the edge."""

import numpy as np
import pytest

from meta_train.evaluate.baselines import BASELINES
from meta_train.evaluate.runs import Curve
from meta_train.evaluate.tuning import FIRST_TUNING_SEED, Grid, rates_of, tune

RATES = rates_of(3, -5, 0)
GRID = Grid(RATES, 4)
ADAM = BASELINES["adam"]


class FakeRun:
    """Final loss log10(rate / best)², lower by 0.01 with the cosine schedule, plus the seed's."""

    def __init__(self, best, diverges_above=np.inf):
        self.best, self.diverges_above = best, diverges_above
        self.seen, self.roles = [], []

    def __call__(self, contestant, role, specs):
        self.seen += specs
        self.roles.append(role)
        return [self._curve(spec) for spec in specs]

    def _curve(self, spec):
        assert not spec.curve
        rate = float(spec.settings["learning_rate"])
        loss = np.log10(rate / self.best) ** 2 - 0.01 * float(spec.settings["cosine"])
        loss += 0.1 * (spec.seed % 2) + 1
        loss = np.nan if rate > self.diverges_above else loss
        final = np.asarray([loss])
        return Curve(np.asarray([spec.steps]), final, final, final)


def tuned_by(run, grid=GRID, contestant=ADAM):
    return tune(run, contestant, steps=30, grid=grid)


def test_rates_are_what_they_should_be():
    assert rates_of(2, -6, 1) == pytest.approx(10 ** np.linspace(-6, 1, 15), rel=1e-5)
    assert len(RATES) == 16
    assert RATES[3] == 1e-4


def test_tuning_takes_the_best_rate_on_seeds_of_its_own():
    run = FakeRun(best=RATES[9])
    tuned = tuned_by(run)
    assert tuned.best["constant"][0] == RATES[9]
    assert tuned.best["cosine"][0] == RATES[9]
    assert tuned.chosen == "cosine"
    ledger = tuned.ledger
    assert ledger["trials"] == 2 * len(RATES)
    assert ledger["inner_steps"] == 2 * len(RATES) * 4 * 30
    assert ledger["on_edge"] == []
    assert run.roles == ["tuning0"]
    assert {spec.seed for spec in run.seen} == set(ledger["tuning_seeds"])
    assert min(ledger["tuning_seeds"]) >= FIRST_TUNING_SEED > 1_000


@pytest.mark.parametrize("name", BASELINES)
def test_everyone_has_as_many_trials(name):
    seen = []

    def run(contestant, role, specs):
        seen.extend(specs)
        loss = np.asarray([abs(np.log10(s.settings["learning_rate"]) + 2) for s in specs])
        return [Curve(np.asarray([30]), *[loss[i : i + 1]] * 3) for i in range(len(specs))]

    tuned = tuned_by(run, contestant=BASELINES[name])
    assert tuned.ledger["trials"] == 2 * len(RATES)
    assert len({tuple(sorted(s.settings.items())) for s in seen}) == 2 * len(RATES)


@pytest.mark.parametrize(("best", "trials"), [(10.0, len(RATES) + 3), (1e-6, len(RATES) + 3)])
def test_the_grid_is_widened_beyond_an_edge(best, trials):
    """Three rates reach the new optimum, which then is the edge; three more show that it is."""
    run = FakeRun(best)
    tuned = tuned_by(run)
    assert tuned.best["constant"][0] == pytest.approx(best, rel=1e-3)
    assert tuned.ledger["trials"] == 2 * (trials + 3)
    assert tuned.ledger["on_edge"] == []
    assert run.roles == ["tuning0", "tuning1", "tuning2"]
    assert len({(s.seed, s.settings["learning_rate"], s.settings["cosine"]) for s in run.seen}) == (
        len(run.seen)
    )


def test_a_best_rate_that_stays_on_the_edge_is_flagged():
    tuned = tuned_by(FakeRun(1e12))
    assert tuned.ledger["on_edge"] == ["constant", "cosine"]
    assert tuned.ledger["widened"] == 3
    assert len(tuned.ledger["rates"]) == len(RATES) + 9


def test_a_rate_that_diverges_is_never_the_best():
    tuned = tuned_by(FakeRun(RATES[9], diverges_above=RATES[7] * 1.01))
    assert tuned.best["cosine"][0] == RATES[7]
    assert None in tuned.ledger["losses"]["cosine"]
    assert tuned.ledger["on_edge"] == []


def test_where_everything_diverges_something_is_still_chosen_and_flagged():
    tuned = tuned_by(FakeRun(1.0, diverges_above=0.0))
    assert tuned.best["constant"][1] == np.inf
    assert tuned.ledger["best"]["constant"]["loss"] is None
    assert tuned.ledger["on_edge"]
