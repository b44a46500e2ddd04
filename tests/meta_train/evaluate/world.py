"""Evaluations of made-up runs: every contestant's curves are a function of rate, seed and step."""

import numpy as np

from meta_train.evaluate.baselines import BASELINES
from meta_train.evaluate.contestant import Contestant
from meta_train.evaluate.measured import measure_all
from meta_train.evaluate.report.data import make_report
from meta_train.evaluate.request import EvaluatedTask, Request
from meta_train.evaluate.runs import Curve
from meta_train.evaluate.store import Store
from meta_train.evaluate.tuning import Grid, rates_of

FACTS = {
    "domain": "analytic", "architecture": "quadratic", "activation": "none", "data": "synthetic",
    "widths": [], "parameters": 16, "batch_size": 4,
}  # fmt: skip
MADE = {
    "evaluated": "2026-01-01T00:00:00+00:00", "git_revision": None, "machine": "none",
    "devices": ["none"], "versions": {}, "command": "none", "peak_memory_bytes": None,
    "python": "3", "kernels": "none",
}  # fmt: skip
BEST, NOISE = 1e-2, 0.02
GRID = Grid(rates_of(2, -4, 0), 2)


def task(name="alpha", steps=100, seeds=5):
    basis = {"family": name, "sources": "s"}
    return EvaluatedTask(f"{name} @ {steps}", name, steps, seeds, FACTS, basis)


def learned(name="ours"):
    return Contestant(name, name, True, {"manifest": name}, BASELINES["adam"].optimizer, dict)


def request_of(tasks, contestants, **changes):
    met = {"tasks": [{**FACTS, "name": "alpha"}], "horizons": [50, 150]}
    manifest = {"rule": "mlp", "constants": {}, "sha256": "0", "meta_training": met}
    optimizers = {
        c.name: {"source": c.name, "manifest": manifest} for c in contestants if c.learned
    }
    baselines = [c.name for c in contestants if not c.learned]
    return Request("made up", tasks, optimizers, baselines, GRID, (), (), {})._replace(**changes)


def noise(task, contestant, seed):
    """The same for everyone on a seed, but for a little."""
    shared = np.random.default_rng([seed, len(task)]).normal()
    name = "adam" if contestant == "twin" else contestant
    own = np.random.default_rng([seed, sum(map(ord, name))]).normal()
    return 1 + NOISE * (shared + 0.2 * own)


def adam_loss(settings, steps, horizon):
    """Falls as 1/√t to a floor of the rate; the schedule lowers the floor at its end."""
    off = np.log10(settings.get("learning_rate", BEST) / BEST) ** 2
    left = 0.3 if settings.get("cosine") else 1.0
    floor = 0.1 * (1 - (1 - left) * np.minimum(steps / horizon, 1.0) ** 2)
    return (floor + 0.9 / np.sqrt(1 + steps / 4)) * (1 + off)


class MadeUp:
    """Stands in for `Trainers`: ``loss(contestant, settings, steps [P], horizon)`` of every run."""

    def __init__(self, losses):
        self.losses, self.trained = losses, []

    def begin(self, family, horizon, contestants):
        pass

    def forget(self, family, horizon):
        pass

    def get(self, family, horizon, contestant):
        outer = self

        class One:
            def train(self, specs):
                outer.trained.append((family, contestant.name, len(specs)))
                return [outer.curve(family, contestant, spec) for spec in specs]

        return One()

    def curve(self, family, contestant, spec):
        grid = np.linspace(0, spec.steps, 21) if spec.curve else np.asarray([spec.steps])
        loss = self.losses.get((family, contestant.name)) or self.losses.get(contestant.name)
        values = (loss or adam_loss)(spec.settings, grid, spec.steps)
        values = values * noise(family, contestant.name, spec.seed)
        return Curve(grid.astype(int), values, values, np.where(grid == 0, np.nan, values))


def everyone(*others):
    return [*others, BASELINES["adam"], BASELINES["sgd_momentum"]]


def evaluated(tmp_path, tasks, contestants, losses, **changes):
    """The report, and the stand-in of what trained."""
    request, store, made_up = (
        request_of(tasks, contestants, **changes),
        Store(tmp_path),
        MadeUp(losses),
    )
    mine = [task.name for task in tasks]
    measured = measure_all(request, contestants, store, mine, made_up)
    report = make_report(request, contestants, measured.results, measured.files, MADE)
    return report, made_up


def redrawn(tmp_path, tasks, contestants, **changes):
    """The report from what is kept alone."""
    request = request_of(tasks, contestants, **changes)
    measured = measure_all(request, contestants, Store(tmp_path))
    return make_report(request, contestants, measured.results, measured.files, MADE)
