"""The whole with real training: a twin of Adam, a broken optimizer, a winner mid-run."""

import jax
import jax.numpy as jnp
import optax
import pytest

from learned_opt import LearnedOptimizer
from meta_train.evaluate.baselines import BASELINES
from meta_train.evaluate.contestant import Contestant, schedule_of
from meta_train.evaluate.measured import measure_all
from meta_train.evaluate.report.data import make_report
from meta_train.evaluate.report.text import to_markdown
from meta_train.evaluate.report.words import verdicts
from meta_train.evaluate.request import Budget, make_request
from meta_train.evaluate.store import Store
from meta_train.evaluate.suite_file import find_suite
from meta_train.evaluate.trainers import Trainers
from meta_train.evaluate.tuning import rates_of
from tasks import get_family
from tests.meta_train.evaluate.world import MADE

pytestmark = pytest.mark.slow

STEPS, SEEDS = 400, 6
EARLY = 160
FAMILIES = (
    "fashion_mnist_8x8_softmax",
    "fashion_mnist_8x8_mlp16",
    "fashion_mnist_8x8_mlp16_tanh",
    "glyphs_mlp64",
)
ADAM = BASELINES["adam"]
BUDGET = Budget(("adam", "sgd_momentum"), rates_of(2, -4, 0), ())


class World:
    """Four tasks with tuned baselines, to which one learned optimizer comes at a time."""

    def __init__(self, folder, steps=STEPS):
        self.steps = steps
        self.suite = find_suite(",".join(f"{name}@{steps}" for name in FAMILIES))
        tasks = tuple(task._replace(seeds=SEEDS) for task in self.suite.suite.tasks)
        self.suite = self.suite._replace(suite=self.suite.suite._replace(tasks=tasks))
        self.families = {name: get_family(name) for name in FAMILIES}
        self.data = {name: family.load() for name, family in self.families.items()}
        self.store = Store(folder)
        self.baselines = [BASELINES[name] for name in BUDGET.baselines]
        self.tuned = self.measured(self.baselines)

    def request(self, names=()):
        request = make_request(self.suite, self.families, self.data, {}, BUDGET)
        manifest = {"rule": "", "constants": {}, "sha256": "", "meta_training": {}}
        return request._replace(optimizers={n: {"source": n, "manifest": manifest} for n in names})

    def measured(self, contestants, tasks=None):
        request = self.request()
        kept = [task for task in request.tasks if tasks is None or task.name in tasks]
        with Trainers(self.families, self.data) as trainers:
            names = [task.name for task in kept]
            return measure_all(
                request._replace(tasks=kept), contestants, self.store, names, trainers
            )

    def settings(self, family, horizon=None):
        """Those of Adam as it was tuned on a task."""
        tuned = self.tuned.results[f"{family} @ {self.steps}"].tuned["adam"]
        rate, _ = tuned.best[tuned.chosen]
        return ADAM.settings(tuned.chosen, rate, horizon or self.steps)

    def report(self, name, of_task):
        """Of the learned optimizer that is ``of_task(family)`` on each task."""
        results, files = {}, {}
        for family in FAMILIES:
            contestants = [of_task(family), *self.baselines]
            measured = self.measured(contestants, [f"{family} @ {self.steps}"])
            results |= measured.results
            files |= measured.files
        return make_report(self.request([name]), contestants, results, files, MADE)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("trained"))


def learned(name, tx, **identity):
    rule = LearnedOptimizer(
        "", {}, lambda key: (), lambda theta, num_steps=None: optax.with_extra_args_support(tx)
    )
    return Contestant(name, name, True, {"test": name, **identity}, rule, lambda settings: ())


def adam_as(settings):
    arrays = {name: jnp.float32(value) for name, value in settings.items()}
    return ADAM.optimizer.build(arrays)


def every_second_step(tx):
    """Half as fast: what it does in a step takes two."""

    def init(params):
        return tx.init(params), jnp.int32(0)

    def update(gradient, state, params=None):
        inner, count = state
        updates, after = tx.update(gradient, inner, params)
        moves = count % 2 == 1
        chosen = jax.tree.map(lambda new, old: jnp.where(moves, new, old), after, inner)
        return jax.tree.map(lambda u: moves * u, updates), (chosen, count + 1)

    return optax.GradientTransformation(init, update)


def test_adam_as_if_it_were_learned_has_ratio_and_speedup_one(world):
    def twin(family):
        settings = world.settings(family)
        return learned("twin", adam_as(settings), **settings)

    report = world.report("twin", twin)
    facts = report["aggregates"]["twin"]
    for name in ("final_loss_ratio_iqm", "speedup_iqm"):
        assert facts[name]["low"] <= 1 + 1e-6, name
        assert facts[name]["high"] >= 1 - 1e-6, name
        assert facts[name]["value"] == pytest.approx(1, abs=0.02), name
    for row in report["results"]:
        assert row["learned"]["twin"]["speedup"]["value"] == pytest.approx(1, abs=0.02), row["task"]
    assert (facts["wins"], facts["ties"], facts["losses"]) == (0, 4, 0)
    assert facts["probability_of_improvement"]["adam"]["value"] == pytest.approx(0.5, abs=0.05)
    assert "is not distinguishable from tuned Adam" in verdicts(report)[0]


def test_a_broken_optimizer_is_shown_as_exactly_that(world):
    """Diverges on two tasks, is NaN on one from its first step, and is half as fast on the last."""
    slower = every_second_step(adam_as(world.settings(FAMILIES[3], STEPS // 2)))
    explodes = optax.scale_by_schedule(lambda count: -(1e3**count))
    by_family = dict(zip(FAMILIES, (explodes, explodes, optax.scale(jnp.nan), slower), strict=True))
    report = world.report("broken", lambda family: learned("broken", by_family[family]))
    *lost, slow = report["results"]
    for row in lost:
        ours = row["learned"]["broken"]
        assert row["final"]["broken"]["diverged"] == SEEDS, row["task"]
        assert ours["judgement"] == "loss"
        assert ours["final_loss_ratio"]["adam"]["high"] == 0
        assert ours["speedup"]["high"] == 0
    ours = slow["learned"]["broken"]
    assert slow["final"]["broken"]["diverged"] == 0
    assert ours["judgement"] == "loss"
    assert ours["speedup"]["low"] <= 0.5 <= ours["speedup"]["high"]
    assert ours["speedup"]["value"] == pytest.approx(0.5, abs=0.08)
    facts = report["aggregates"]["broken"]
    assert (facts["diverged_runs"], facts["wins"], facts["losses"]) == (3 * SEEDS, 0, 4)
    assert facts["final_loss_ratio_iqm"]["high"] < 0.5
    assert f"It diverged in {3 * SEEDS} runs." in verdicts(report)[0]
    assert to_markdown(report).count(f"{SEEDS} of {SEEDS} diverged") == 2 * 3


def test_an_optimizer_that_only_wins_mid_run_does_not_win(world, tmp_path):
    """Adam that was tuned for the first steps alone, and leaves where it is at the end."""
    early = World(tmp_path, EARLY)

    def mid_run(family):
        settings = early.settings(family)
        schedule = schedule_of({name: jnp.float32(value) for name, value in settings.items()})

        def rate(count):
            last = 3 * settings["learning_rate"]
            return jnp.where(count < 0.9 * STEPS, schedule(jnp.minimum(count, EARLY)), last)

        return learned("mid_run", optax.adam(rate), **settings)

    report = world.report("mid_run", mid_run)
    ahead = []
    for row in report["results"]:
        ours, adam = (
            next(
                dict(zip(curve["steps"], curve["losses"]["test"]["mean"], strict=True))
                for curve in report["curves"]
                if (curve["task"], curve["label"]) == (row["task"], row["chosen"][name])
            )
            for name in ("mid_run", "adam")
        )
        ahead.append(adam[EARLY] / ours[EARLY])
        assert ours[STEPS] > adam[STEPS], row["task"]
    assert sum(ratio > 1.01 for ratio in ahead) >= 3, ahead
    facts = report["aggregates"]["mid_run"]
    assert (facts["wins"], facts["losses"]) == (0, 4)
    assert facts["final_loss_ratio_iqm"]["high"] < 1
    assert facts["speedup_iqm"]["high"] < 1
    assert report["algoperf"]["scores"]["mid_run"]["high"] == 0
    assert "ends above tuned Adam" in verdicts(report)[0]
