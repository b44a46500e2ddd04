"""Tuning finds the best rate or says that it is on the edge; scores are as defined."""

import numpy as np
import pytest

from meta_train.evaluate.runs import Curve
from meta_train.evaluate.scoring import (
    LONGEST,
    final_loss_ratios,
    speedups_over_reference,
    steps_to_reach,
)
from meta_train.evaluate.tuning import FIRST_TUNING_SEED, RATES, Tuned, tune
from tasks.suites import SUITES, SuiteTask, UnknownSuiteError, get_suite


class FakeTrainer:
    """Final loss log10(rate / best)², lower by 0.01 with the cosine schedule, plus the seed's."""

    def __init__(self, best, diverges_above=np.inf):
        self.best, self.diverges_above, self.seen = best, diverges_above, []

    def train(self, specs):
        self.seen += specs
        return [self._curve(spec) for spec in specs]

    def _curve(self, spec):
        rate = float(spec.theta["learning_rate"])
        loss = np.log10(rate / self.best) ** 2 - 0.01 * float(spec.theta["cosine"])
        loss += 0.1 * (spec.seed % 2) + 1
        loss = np.nan if rate > self.diverges_above else loss
        points = np.asarray([0, spec.steps])
        both = np.asarray([3.0, loss])
        return Curve(points, both, both, both)


def test_at_least_fourteen_rates():
    assert len(RATES) >= 14
    assert RATES[0] == pytest.approx(1e-5)
    assert RATES[-1] == pytest.approx(1)


def test_tuning_takes_the_best_rate_on_seeds_of_its_own():
    trainer = FakeTrainer(best=RATES[9])
    tuned = tune(trainer, baseline="adam", steps=30, seeds=4)
    assert tuned.best["constant"][0] == RATES[9]
    assert tuned.best["cosine"][0] == RATES[9]
    assert tuned.chosen == "cosine"
    ledger = tuned.ledger
    assert ledger["trials"] == 2 * len(RATES)
    assert ledger["inner_steps"] == 2 * len(RATES) * 4 * 30
    assert not ledger["on_edge"]
    assert {spec.seed for spec in trainer.seen} == set(ledger["tuning_seeds"])
    assert min(ledger["tuning_seeds"]) >= FIRST_TUNING_SEED > 1_000


@pytest.mark.parametrize(("best", "trials"), [(10.0, len(RATES) + 6), (1e-6, len(RATES) + 6)])
def test_the_grid_is_widened_beyond_an_edge(best, trials):
    tuned = tune(FakeTrainer(best), baseline="adam", steps=30, seeds=2)
    assert tuned.best["constant"][0] == pytest.approx(best, rel=1e-3)
    assert tuned.ledger["trials"] == 2 * trials
    assert not tuned.ledger["on_edge"]


def test_a_best_rate_that_stays_on_the_edge_is_flagged():
    tuned = tune(FakeTrainer(1e12), baseline="adam", steps=30, seeds=2)
    assert tuned.ledger["on_edge"]


def test_a_rate_that_diverges_is_never_the_best():
    tuned = tune(
        FakeTrainer(RATES[9], diverges_above=RATES[7] * 1.01), baseline="a", steps=3, seeds=2
    )
    assert tuned.best["cosine"][0] == RATES[7]
    assert None in tuned.ledger["losses"]["cosine"]
    assert not tuned.ledger["on_edge"]


def curve(*losses, steps=None):
    steps = np.arange(len(losses)) * 10 if steps is None else np.asarray(steps)
    values = np.asarray(losses, float)
    return Curve(steps, values, values, values)


def test_ratios_pair_seeds_and_count_divergence():
    ours = [curve(3, 1.0), curve(3, 2.0), curve(3, np.nan), curve(3, 1.5)]
    theirs = [curve(3, 2.0), curve(3, 1.0), curve(3, 1.0), curve(3, np.inf)]
    np.testing.assert_allclose(final_loss_ratios(ours, theirs), [2.0, 0.5, 0.0, 2.0])
    solved, nearly, unsolved = [curve(3, 0.0)], [curve(3, 1e-20)], [curve(3, 1.0)]
    np.testing.assert_allclose(final_loss_ratios(solved, nearly), [1.0])
    assert np.isfinite(final_loss_ratios(solved, unsolved)).all()


@pytest.mark.parametrize(
    ("losses", "target", "expected"),
    [
        ((4, 2, 1), 2.0, 10.0),
        ((4, 2, 1), 3.0, 5.0),
        ((4, 2, 3, 1), 1.5, 27.5),
        ((4, 2, 1), 0.5, np.inf),
        ((4, 2, 1), 5.0, 0.0),
        ((4, 2, 1), np.nan, np.inf),
        ((np.inf, 2), 2.5, 10.0),
    ],
)
def test_steps_to_reach(losses, target, expected):
    assert steps_to_reach(curve(*losses), target) == expected


def test_speedups_take_the_quickest_way_of_the_reference():
    class Ways:
        def train(self, specs):
            out = []
            for spec in specs:
                rate = float(spec.theta["learning_rate"])
                cosine = float(spec.theta["cosine"])
                # The middle constant rate gets to 1 at 80 steps; a schedule only at its end.
                end = 80 if not cosine and rate == pytest.approx(0.1) else spec.steps
                out.append(curve(3.0, 3.0, 1.0, steps=[0, end - 1, end]))
            return out

    step = RATES[1] / RATES[0]
    tuned = Tuned({"constant": (0.1, 0.0), "cosine": (0.2 * step, 0.0)}, "cosine", {})
    task = SuiteTask("any", steps=100, seeds=4)
    losses = np.asarray([1.0, 0.5, np.nan, 2.0])
    speedups, censored = speedups_over_reference(Ways(), tuned, losses, task)
    np.testing.assert_allclose(speedups, [0.25, LONGEST, 0.0, 0.245], rtol=1e-6)
    assert censored.tolist() == [False, True, False, False]


def test_suites_are_legal():
    from tasks import get_family

    for suite in SUITES.values():
        assert suite.tuning_seeds >= 2
        for task in suite.tasks:
            assert get_family(task.family).name == task.family
            assert task.seeds < FIRST_TUNING_SEED
    with pytest.raises(UnknownSuiteError, match="unknown suite 'nope'; legal ones: demo, tiny"):
        get_suite("nope")


def test_the_demo_scores_what_it_meta_trained_on_with_seeds_enough():
    from meta_train.presets import DEMO

    first = get_suite("demo").tasks[0]
    assert first.family == DEMO.task
    assert DEMO.length_min <= first.steps <= DEMO.length_max
    assert first.seeds >= 16
    held_out = {task.family for task in get_suite("demo").tasks} - {DEMO.task}
    assert len(held_out) >= 4
