"""Meta-validation: every so many updates θ trains the tasks of a suite, and the best one is kept.

    score = mean over tasks and seeds of  min(L_T / L_0, bound)

L_T is the loss at the end of the horizon on the outer-validation split, L_0 that of a model that
knows nothing, and a run that diverged counts as the bound, `config.loss_clip`. Its seeds are of no
training and no evaluation. A score is a function of θ alone, so that a run that is resumed finds
the same ones; several processes each find them, and the first writes.

DIR/validation.jsonl            a row for every validation
DIR/validated/UPDATE.safetensors    θ of every one that was better than all before
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import learned_opt
from meta_train.assemble import Run
from meta_train.config import ConfigError
from meta_train.evaluate.contestant import Contestant
from meta_train.evaluate.runs import RunSpec, Trainer
from meta_train.evaluate.suite_file import find_suite
from meta_train.evaluate.trainers import Trainers
from meta_train.files import write_text
from meta_train.hosts.peers import ALONE, Peers
from meta_train.metrics import read_rows
from tasks import get_family
from tasks.suites import Suite, SuiteTask

FILE, FOLDER = "validation.jsonl", "validated"
FIRST_SEED = 2_000_000


class Best(NamedTuple):
    """The update whose θ has the lowest score so far, the score, and validations since."""

    step: int
    score: float
    since: int


class Validator:
    """Validates θ of a run, and knows what was found before ``first_step``."""

    def __init__(self, run: Run, workdir: Path, *, first_step: int, peers: Peers = ALONE):
        """Read what was found so far of the same suite and seeds; nothing is compiled yet.

        A run without validation has no rows, even where it was validated before.

        Raises:
          ConfigError, DataUnavailableError: the suite is not there.
        """
        self.every, self._patience = run.config.validate_every, run.config.patience
        self._run, self._workdir, self._peers = run, workdir, peers
        self._suite = _suite_of(run) if self.every else None
        self._basis = {"seeds": run.config.validation_seeds, "suite": run.config.validation_suite}
        self.rows = [
            row
            for row in read_rows(workdir / FILE)
            if self.every and row["step"] <= first_step and self._basis.items() <= row.items()
        ]
        self._theta: Any = None
        self._trainers: Mapping[str, tuple[SuiteTask, Trainer, float]] = {}

    def prepare(self) -> None:
        """Compile its programs; write the rows that there are, for the later ones come again."""
        if self.every:
            assert self._suite is not None
            self._trainers = _compiled(self._run, self._suite, lambda: self._theta)
            self._write_rows()

    def updates(self, step: int, most: int) -> int:
        """How many of ``most`` updates after ``step`` there are until the next validation."""
        return min(most, self.every - step % self.every) if self.every else most

    def is_due(self, step: int) -> bool:
        """Whether θ of this update is to be validated, and was not."""
        at_the_end = step == self._run.config.updates
        if not self.every or step == 0 or (step % self.every and not at_the_end):
            return False
        return not self.rows or self.rows[-1]["step"] < step

    def validate(self, step: int, theta: Any) -> dict[str, float]:
        """Validate θ of an update; returns what belongs into the log."""
        trained = jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), theta)
        self._theta = jax.tree.map(np.asarray, self._run.rule.complete(trained))
        scores = {name: self._score(*trainer) for name, trainer in self._trainers.items()}
        self._peers.check_alike(f"the validation of update {step}", scores, "use hosts of one kind")
        score = float(np.mean(list(scores.values())))
        better = self.best is None or score < self.best.score
        row = {"step": step, "score": score, "better": better, "tasks": scores}
        self.rows.append(row | self._basis)
        if better and self._peers.first:
            (self._workdir / FOLDER).mkdir(exist_ok=True)
            facts = {"updates": step, "score": score}
            path = kept_path(self._workdir, step)
            learned_opt.save(path, self._run.rule.whole, self._theta, meta_training=facts)
        self._write_rows()
        return {"validation/score": score} | {f"validation/{n}": s for n, s in scores.items()}

    @property
    def best(self) -> Best | None:
        """None before the first validation."""
        return best_of(self.rows) if self.rows else None

    @property
    def enough(self) -> bool:
        """Whether so many validations in a row were no better as ``config.patience`` says."""
        return bool(self._patience and self.best and self.best.since >= self._patience)

    def _score(self, task: SuiteTask, trainer: Trainer, initial_loss: float) -> float:
        seeds = range(FIRST_SEED, FIRST_SEED + self._run.config.validation_seeds)
        curves = trainer.train([RunSpec(seed, {}, task.steps, curve=False) for seed in seeds])
        losses = np.asarray([curve.outer_validation[-1] for curve in curves]) / initial_loss
        bound = self._run.config.loss_clip
        losses = np.where(np.isfinite(losses), losses, bound)
        return round(float(np.minimum(losses, bound).mean()), 7)

    def _write_rows(self) -> None:
        if self._peers.first and (self.rows or (self._workdir / FILE).exists()):
            text = "".join(json.dumps(row) + "\n" for row in self.rows)
            write_text(self._workdir / FILE, text)


def _suite_of(run: Run) -> Suite:
    name = run.config.validation_suite
    try:
        return find_suite(name, download=run.config.download).suite
    except ConfigError as error:
        told = str(error).removeprefix(f"--suite={name!r} ")
        raise ConfigError(f"`config.validation_suite`={name!r} {told}") from None


def _compiled(
    run: Run, suite: Suite, theta: Callable[[], Any]
) -> Mapping[str, tuple[SuiteTask, Trainer, float]]:
    """{task @ steps: the task, its trainer and the loss of a model that knows nothing}."""
    config = run.config
    contestant = Contestant("θ", "θ", True, {}, run.rule.whole, lambda settings: theta())

    families = {
        task.family: get_family(task.family, download=config.download) for task in suite.tasks
    }
    data = {name: family.load() for name, family in families.items()}
    with Trainers(families, data, most=config.validation_seeds) as trainers:
        for task in suite.tasks:
            trainers.begin(task.family, task.steps, [contestant])
        return {
            f"{task.family} @ {task.steps}": (
                task,
                trainers.get(task.family, task.steps, contestant),
                families[task.family].metadata.initial_loss,
            )
            for task in suite.tasks
        }


def kept_path(workdir: Path, step: int) -> Path:
    """The optimizer of a validated update."""
    return workdir / FOLDER / f"{step:09d}.safetensors"


def best_of(rows: Sequence[Mapping[str, Any]]) -> Best:
    """The best of one or more validations."""
    last = max(i for i, row in enumerate(rows) if row["better"])
    return Best(rows[last]["step"], rows[last]["score"], len(rows) - 1 - last)


def kept_theta(workdir: Path, step: int) -> Any:
    """θ of a validated update, as it was kept.

    Raises:
      FileNotFoundError, OptimizerFormatError: its file is gone, or damaged.
    """
    return learned_opt.read(kept_path(workdir, step)).theta
