"""The sections of a report beside its training runs, measured or read where they are kept."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from meta_train.evaluate.baselines import REFERENCE
from meta_train.evaluate.behaviour import ablation, response, trajectory
from meta_train.evaluate.contestant import Contestant
from meta_train.evaluate.cost import measure_costs, with_pay
from meta_train.evaluate.learned import TUNED
from meta_train.evaluate.measure import TaskResult
from meta_train.evaluate.report.data import Extras
from meta_train.evaluate.report.rows import estimate_of
from meta_train.evaluate.request import BEHAVIOUR, COST, SENSITIVITY, EvaluatedTask, Request
from meta_train.evaluate.running import FAILED, Kept, MissingRunsError, Run, Trained
from meta_train.evaluate.runs import Trainer
from meta_train.evaluate.scores import horizons_needed
from meta_train.evaluate.sensitivity import (
    Variation,
    family_of,
    is_perceptron,
    measure_sensitivity,
)
from meta_train.evaluate.store import Store
from meta_train.evaluate.trainers import Trainers

Results = Mapping[str, TaskResult]


class Sections:
    """Makes the sections of a request; without ``trainers`` from what is kept alone.

    ``mine``: the tasks that are trained on this machine.
    """

    def __init__(
        self,
        request: Request,
        contestants: Sequence[Contestant],
        results: Results,
        store: Store,
        trainers: Trainers | None = None,
        mine: Sequence[str] = (),
    ):
        self._request, self._results, self._store = request, results, store
        self._trainers, self._mine = trainers, mine
        self._everyone = contestants
        self._learned = [c for c in contestants if c.learned and not c.name.endswith(TUNED)]
        self._reference = next(c for c in contestants if c.name == REFERENCE)
        perceptrons = [task for task in request.tasks if is_perceptron(task.family)]
        self._looked_at = [*perceptrons, *request.tasks][0]  # by the request, on every machine
        self._missing: list[dict[str, str]] = []
        self._files: dict[str, list[str]] = {}

    def measure(self) -> Extras:
        """All that the request asks for."""
        wanted = self._request.sections
        return Extras(
            cost=self._cost() if COST in wanted else None,
            sensitivity=self._sensitivity() if SENSITIVITY in wanted else None,
            behaviour=self._behaviour() if BEHAVIOUR in wanted else None,
            missing=self._missing,
            files=self._files,
        )

    def _lacks(self, task: EvaluatedTask, contestant: str, what: str) -> None:
        self._missing.append({"task": task.name, "contestant": contestant, "what": what})

    def _values(
        self,
        task: EvaluatedTask,
        of: str,
        role: str,
        basis: Mapping[str, Any],
        make: Callable[[], Any],
    ) -> Any:
        """JSON values of a task, kept by their own code too; None where they are missing, which is
        said ``of`` a contestant.
        """
        whole = {**task.basis, **basis, "code": self._request.section_code[role]}
        maker = make if self._makes(task) else None
        path, values = self._store.values(task.name, role, whole, maker)
        if values is not None:
            self._files.setdefault(task.name, []).append(path)
            return values
        why = self._store.failure(path)
        self._lacks(task, of, f"{role}: " + ("not measured" if why is None else f"{FAILED}{why}"))
        return None

    def _makes(self, task: EvaluatedTask) -> bool:
        return self._trainers is not None and task.name in self._mine

    def _cost(self) -> list[dict[str, Any]]:
        """On the smallest and on the largest task."""
        by_size = sorted(self._request.tasks, key=lambda task: task.facts["parameters"])
        chosen = {task.name: task for task in (by_size[0], by_size[-1])}
        return [row for task in chosen.values() for row in self._cost_of(task)]

    def _cost_of(self, task: EvaluatedTask) -> list[dict[str, Any]]:
        """Of everyone who can be trained there."""
        result = self._results[task.name]
        there = [contestant for contestant in self._everyone if contestant.name in result.chosen]
        if self._reference not in there:
            self._lacks(task, REFERENCE, f"{COST}: it is not tuned there")
            return []

        def make() -> Any:
            assert self._trainers is not None
            family, splits = self._trainers.family(task.family)
            return measure_costs(family, splits, there, task.steps)

        basis = {"of": [dict(contestant.identity) for contestant in there]}
        kept = self._values(task, "all", COST, basis, make)
        if kept is None:
            return []
        needed = {c.name: _horizons(result, c.name, task.steps) for c in there if c.learned}
        met = {
            name: facts["manifest"]["meta_training"].get("seconds")
            for name, facts in self._request.optimizers.items()
        }
        seconds = {c.name: met[c.name.removesuffix(TUNED)] for c in there if c.learned}
        return [{"task": task.name, **row} for row in with_pay(kept, needed, task.steps, seconds)]

    def _run(self, task: EvaluatedTask, variation: Variation | None = None) -> Run:
        """Of the task itself, or of a variation of it."""
        if variation is None or variation.task == task.family:
            name, basis, family = task.name, dict(task.basis), task.family
        else:
            name = family = variation.task
            basis = {**task.basis, "variation": variation.task}
        run = Kept(self._store, name, basis)
        if self._trainers is not None and self._makes(task):
            trainers = self._trainers

            def trainer(contestant: Contestant) -> Trainer:
                if variation is not None:
                    trainers.add(family, lambda: family_of(variation))
                return trainers.get(family, task.steps, contestant)

            run = Trained(self._store, name, basis, trainer)
        run.used = self._files.setdefault(task.name, [])
        return run

    def _let_go(self, task: EvaluatedTask, variation: Variation) -> None:
        if self._trainers is not None:
            name = task.family if variation.task == task.family else variation.task
            self._trainers.forget(name, task.steps)

    def _tuned(self, section: str) -> bool:
        """Whether the reference is tuned on the task that is looked at."""
        there = REFERENCE in self._results[self._looked_at.name].tuned
        if not there:
            self._lacks(self._looked_at, REFERENCE, f"{section}: it is not tuned there")
        return there

    def _sensitivity(self) -> list[dict[str, Any]]:
        task = self._looked_at
        if not self._tuned(SENSITIVITY):
            return []
        rows: list[dict[str, Any]] = []
        for learned in self._learned:
            rows += measure_sensitivity(
                learned,
                self._reference,
                self._results[task.name],
                task,
                lambda variation: self._run(task, variation),
                lambda variation: self._let_go(task, variation),
            )
        for row in rows:
            if "missing" in row:
                where = f"{SENSITIVITY}, {row['axis']} × {row['level']:g}"
                self._lacks(task, row["optimizer"], f"{where}: {row['missing']}")
        return rows

    def _behaviour(self) -> list[dict[str, Any]]:
        task = self._looked_at
        if not self._tuned(BEHAVIOUR):
            return []
        return [self._behaviour_of(learned, task) for learned in self._learned]

    def _behaviour_of(self, learned: Contestant, task: EvaluatedTask) -> dict[str, Any]:
        tuned = self._results[task.name].tuned[REFERENCE]
        rate, _ = tuned.best[tuned.chosen]
        settings = self._reference.settings(tuned.chosen, rate, task.steps)
        basis = {"of": dict(learned.identity), "settings": dict(settings)}

        def make() -> Any:
            assert self._trainers is not None
            family, splits = self._trainers.family(task.family)
            return {
                "trajectory": trajectory(
                    family, splits, learned, self._reference, settings, task.steps
                ),
                "response": response(learned, self._reference, settings, task.steps),
            }

        kept = self._values(task, learned.name, BEHAVIOUR, basis, make) or {}
        ablated: list[dict[str, Any]] = []
        try:
            ablated = ablation(self._run(task), learned, task.steps, task.seeds)
        except MissingRunsError as error:
            self._lacks(task, learned.name, str(error))
        return {"optimizer": learned.name, "task": task.name, **kept, "ablation": ablated}


def _horizons(result: TaskResult, name: str, steps: int) -> float | None:
    """The interquartile mean of the horizons that the reference takes to final losses of ours."""
    return estimate_of([horizons_needed(result, name, steps)])["value"] if result.ways else None
