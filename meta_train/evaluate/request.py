"""What is to be evaluated, as JSON values: with raw runs, all that a report is drawn from.

It is kept as evaluation.json. Machines that share an evaluation have the same one.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from learned_opt import RULES, PortableOptimizer
from meta_train.config import ConfigError
from meta_train.evaluate.baselines import BASELINES, REFERENCE
from meta_train.evaluate.contestant import Contestant
from meta_train.evaluate.hashing import digest_of_arrays, digest_of_sources
from meta_train.evaluate.learned import learned_contestants
from meta_train.evaluate.runs import EXAMPLES, POINTS
from meta_train.evaluate.suite_file import EvaluatedSuite
from meta_train.evaluate.tuning import Grid, rates_of
from meta_train.files import write_json
from meta_train.memory import bytes_of_a_device
from meta_train.runtime import versions
from tasks import TaskFamily, family_facts

FORMAT = 3
FILE = "evaluation.json"


class Budget(NamedTuple):
    """How much an evaluation does: baselines, rates of each variant, and sections of the report."""

    baselines: tuple[str, ...]
    rates: tuple[float, ...]
    sections: tuple[str, ...]


COST, SENSITIVITY, BEHAVIOUR = SECTIONS = ("cost", "sensitivity", "behaviour")
BUDGETS: Mapping[str, Budget] = {
    "fast": Budget((REFERENCE, "sgd_momentum"), rates_of(2, -6, 1), (COST,)),
    "full": Budget(tuple(BASELINES), rates_of(3, -6, 1), SECTIONS),
}
"""Fifteen rates, and twenty-two: half-decades and thirds of decades from 1e-6 to 10."""


class EvaluatedTask(NamedTuple):
    """A task with its horizon and number of scored seeds; ``facts``: see `family_facts`;
    ``basis``: what runs of it depend on beside the contestant.
    """

    name: str
    family: str
    steps: int
    seeds: int
    facts: Mapping[str, Any]
    basis: Mapping[str, Any]


class Request(NamedTuple):
    """An evaluation; ``optimizers``: {name: {"source", "manifest"}}; ``section_code``: {section:
    digest of the code that measures it}.
    """

    suite: str
    tasks: Sequence[EvaluatedTask]
    optimizers: Mapping[str, Mapping[str, Any]]
    baselines: Sequence[str]
    grid: Grid
    sections: Sequence[str]
    thresholds: Sequence[Mapping[str, Any]]
    section_code: Mapping[str, str]

    def contestants(self, saved: Mapping[str, PortableOptimizer] | None = None) -> list[Contestant]:
        """Learned ones first; without what is ``saved`` they cannot train."""
        found = []
        for name, facts in self.optimizers.items():
            manifest = facts["manifest"]
            rule = RULES[manifest["rule"]](**manifest["constants"])
            of_file = saved[name] if saved else PortableOptimizer(rule, None, manifest)
            found += learned_contestants(name, of_file)
        return found + [BASELINES[name] for name in self.baselines]


def make_request(
    suite: EvaluatedSuite,
    families: Mapping[str, TaskFamily],
    data: Mapping[str, Any],
    saved: Mapping[str, tuple[str, PortableOptimizer]],
    budget: Budget,
) -> Request:
    """``data``: {family: its splits}; ``saved``: {name: (source, optimizer)}."""
    digests = {name: digest_of_arrays(splits) for name, splits in data.items()}
    code = {"sources": digest_of_sources(), "versions": _versions(), "numbers": _numbers()}
    tasks = [
        EvaluatedTask(
            f"{task.family} @ {task.steps}",
            task.family,
            task.steps,
            task.seeds,
            family_facts(families[task.family]),
            {
                "family": task.family,
                "data": digests[task.family],
                "horizon": task.steps,
                "points": POINTS,
                "examples": EXAMPLES,
                **code,
            },
        )
        for task in suite.suite.tasks
    ]
    optimizers = {
        name: {"source": source, "manifest": dict(found.manifest)}
        for name, (source, found) in saved.items()
    }
    grid = Grid(budget.rates, suite.suite.tuning_seeds)
    return Request(
        suite.suite.name, tasks, optimizers, budget.baselines, grid, budget.sections,
        suite.thresholds,
        {name: digest_of_sources((f"meta_train/evaluate/{name}.py",)) for name in budget.sections},
    )  # fmt: skip


def write_request(workdir: Path, request: Request, made: Mapping[str, Any]) -> None:
    """Write evaluation.json; ``made``: when, where and by which versions it was evaluated."""
    values = {
        "format": FORMAT,
        **request._asdict(),
        "tasks": [task._asdict() for task in request.tasks],
        "grid": request.grid._asdict(),
        "made": dict(made),
    }
    write_json(workdir / FILE, values)


def read_request(workdir: Path) -> tuple[Request, dict[str, Any]]:
    """The evaluation of a working directory, and how it was ``made``.

    Raises:
      ConfigError: there is none, or its file is damaged.
    """
    path = workdir / FILE
    try:
        values = json.loads(path.read_text())
        if values.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        tasks = [EvaluatedTask(**task) for task in values.pop("tasks")]
        grid, made = values.pop("grid"), values.pop("made")
        request = Request(**values, tasks=tasks, grid=Grid(tuple(grid["rates"]), grid["seeds"]))
        request.contestants()
    except FileNotFoundError:
        raise ConfigError(
            f"--workdir={str(workdir)!r} has no {FILE}; give the directory of an evaluation by "
            "`python -m meta_train.evaluate`"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{str(path)!r} is damaged ({error}); evaluate again with the same --workdir, which "
            "trains nothing that is there"
        ) from None
    return request, made


def _numbers() -> dict[str, str | bool | int | None]:
    """What makes other figures of the same code: kind of device, how many runs an accelerator has
    room for, types, precision of products.
    """
    platform = jax.default_backend()
    return {
        "platform": platform,
        "memory": None if platform == "cpu" else bytes_of_a_device(jax.local_devices()),
        "x64": jax.config.values["jax_enable_x64"],
        "matmul_precision": jax.config.values["jax_default_matmul_precision"],
    }


def _versions() -> dict[str, str | None]:
    return {
        name: version
        for name, version in versions().items()
        if name in ("jax", "jaxlib", "dm-haiku", "optax", "numpy")
    }
