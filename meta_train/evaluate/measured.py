"""All tasks of a request measured: by training what is not kept, or from raw runs alone."""

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from meta_train.command_line import say
from meta_train.evaluate.contestant import Contestant
from meta_train.evaluate.measure import TaskResult, measure_task
from meta_train.evaluate.request import EvaluatedTask, Request
from meta_train.evaluate.running import Kept, Run, Trained
from meta_train.evaluate.runs import Trainer
from meta_train.evaluate.store import Store
from meta_train.evaluate.trainers import Trainers


class Measured(NamedTuple):
    """Of every task, by its name: what was measured, and the raw files it came from."""

    results: Mapping[str, TaskResult]
    files: Mapping[str, Sequence[str]]


def measure_all(
    request: Request,
    contestants: Sequence[Contestant],
    store: Store,
    mine: Sequence[str] = (),
    trainers: Trainers | None = None,
) -> Measured:
    """Read what is kept; with ``trainers``, train what is missing of the tasks ``mine``."""
    found = {task.name: _kept(request, contestants, store, task) for task in request.tasks}
    if trainers is None:
        return _as_measured(found)
    lacking = [t for t in request.tasks if t.name in mine and found[t.name][0].missing]
    for i, task in enumerate(lacking):
        for ahead in lacking[i : i + 2]:  # the next one is compiled while this one trains
            missing = found[ahead.name][0].missing
            needed = [contestant for contestant in contestants if contestant.name in missing]
            trainers.begin(ahead.family, ahead.steps, needed)
        started = time.perf_counter()
        run = Trained(store, task.name, task.basis, _trainer_of(trainers, task))
        found[task.name] = _measured(run, request, contestants, task), run.used
        trainers.forget(task.family, task.steps)
        say(f"[{i + 1}/{len(lacking)}] {task.name}: {time.perf_counter() - started:.1f} s")
    return _as_measured(found)


def _as_measured(found: Mapping[str, tuple[TaskResult, list[str]]]) -> Measured:
    results = {name: result for name, (result, _) in found.items()}
    return Measured(results, {name: files for name, (_, files) in found.items()})


def _trainer_of(trainers: Trainers, task: EvaluatedTask) -> Callable[[Contestant], Trainer]:
    return lambda contestant: trainers.get(task.family, task.steps, contestant)


def _kept(
    request: Request, contestants: Sequence[Contestant], store: Store, task: EvaluatedTask
) -> tuple[TaskResult, list[str]]:
    run = Kept(store, task.name, task.basis)
    return _measured(run, request, contestants, task), run.used


def _measured(
    run: Run, request: Request, contestants: Sequence[Contestant], task: EvaluatedTask
) -> TaskResult:
    return measure_task(run, contestants, steps=task.steps, seeds=task.seeds, grid=request.grid)


def peak_memory() -> int:
    """Bytes that this process has had in memory at most."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
