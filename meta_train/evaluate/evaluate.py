"""The command `python -m meta_train.evaluate`: from the tasks of a suite to a report."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

import learned_opt
from learned_opt import PortableOptimizer
from meta_train.command_line import given_directory, run_command
from meta_train.config import ConfigError
from meta_train.evaluate.baselines import BASELINES, REFERENCE
from meta_train.evaluate.learned import short_names
from meta_train.evaluate.measured import measure_all, peak_memory
from meta_train.evaluate.report.data import make_report
from meta_train.evaluate.report.envelope import check_meta_training
from meta_train.evaluate.report.files import write_report
from meta_train.evaluate.request import (
    BUDGETS,
    SECTIONS,
    Budget,
    Request,
    make_request,
    read_request,
    write_request,
)
from meta_train.evaluate.sections import Sections
from meta_train.evaluate.store import Store
from meta_train.evaluate.suite_file import EvaluatedSuite, find_suite
from meta_train.evaluate.trainers import Trainers
from meta_train.files import sole_use
from meta_train.runtime import provenance, set_up_jax
from tasks import TaskFamily, get_family
from tasks.suites import suite_names

OPTIMIZER = flags.DEFINE_list(
    "optimizer", None, "Directories of saved optimizers, or names of shipped ones."
)
SUITE = flags.DEFINE_string(
    "suite",
    "demo",
    f"Tasks: a suite ({', '.join(suite_names())}), a .toml file, or TASK,TASK@STEPS,….",
)
WORKDIR = flags.DEFINE_string("workdir", None, "Directory for the report and the raw runs.")
BUDGET = flags.DEFINE_enum(
    "budget", "fast", list(BUDGETS), "Baselines, rates and sections: fast, or full."
)
RIVALS = flags.DEFINE_list(
    "baselines", None, f"Baselines in place of the budget's: {', '.join(BASELINES)}."
)
SHOWN = flags.DEFINE_list(
    "sections", None, f"Sections in place of the budget's: {', '.join(SECTIONS)}."
)
SEEDS = flags.DEFINE_integer(
    "seeds", None, "Scored seeds of every task, in place of the suite's.", lower_bound=1
)
SHARD = flags.DEFINE_string(
    "shard", "1/1", "i/n: train the i-th of n parts of the tasks, 1 ≤ i ≤ n, as one of n machines."
)
DOWNLOAD = flags.DEFINE_bool("download", False, "Prepare TFDS sets that are not there.")
flags.mark_flags_as_required(["optimizer", "workdir"])


class Inputs(NamedTuple):
    """What an evaluation works with; ``saved``: {name: the optimizer}."""

    request: Request
    families: Mapping[str, TaskFamily]
    data: Mapping[str, Any]
    saved: Mapping[str, PortableOptimizer]


def main() -> int:
    """Evaluate, write the report, and end with the status of `write_report`."""
    workdir = given_directory(WORKDIR.value)
    budget, shard = _budget(), _shard(SHARD.value)
    set_up_jax()
    names = short_names(OPTIMIZER.value)
    saved = {n: learned_opt.read(s) for n, s in zip(names, OPTIMIZER.value, strict=True)}
    for optimizer in saved.values():
        check_meta_training(optimizer.manifest)  # refused now, not after the training
    suite = find_suite(SUITE.value, download=DOWNLOAD.value)
    inputs = _inputs(suite, saved, budget)
    with sole_use(workdir):
        return write_report(workdir, evaluate(inputs, workdir, shard))


def _inputs(
    suite: EvaluatedSuite, saved: Mapping[str, PortableOptimizer], budget: Budget
) -> Inputs:
    tasks = suite.suite.tasks
    if SEEDS.value is not None:
        tasks = tuple(task._replace(seeds=SEEDS.value) for task in tasks)
    families = {task.family: get_family(task.family, download=DOWNLOAD.value) for task in tasks}
    data = {name: family.load() for name, family in families.items()}
    sources = dict(zip(saved, OPTIMIZER.value, strict=True))
    request = make_request(
        suite._replace(suite=suite.suite._replace(tasks=tasks)),
        families,
        data,
        {name: (sources[name], optimizer) for name, optimizer in saved.items()},
        budget,
    )
    return Inputs(request, families, data, saved)


def evaluate(inputs: Inputs, workdir: Path, shard: tuple[int, int]) -> dict[str, Any]:
    """Train what is not kept of this shard's tasks, and make the report of all."""
    request = inputs.request
    contestants, store = request.contestants(inputs.saved), Store(workdir)
    made = {
        "evaluated": datetime.now(UTC).isoformat(timespec="seconds"),
        **provenance(),
        "peak_memory_bytes": _peak_so_far(workdir),
    }
    write_request(workdir, request, made)
    mine = [task.name for i, task in enumerate(request.tasks) if i % shard[1] == shard[0] - 1]
    with Trainers(inputs.families, inputs.data) as trainers:
        measured = measure_all(request, contestants, store, mine, trainers)
        sections = Sections(request, contestants, measured.results, store, trainers, mine)
        extras = sections.measure()
    made["peak_memory_bytes"] = max(peak_memory(), made["peak_memory_bytes"] or 0)
    write_request(workdir, request, made)
    return make_report(request, contestants, measured.results, measured.files, made, extras)


def _peak_so_far(workdir: Path) -> int | None:
    """Of the calls that have trained what is kept here, this one not among them."""
    try:
        return read_request(workdir)[1]["peak_memory_bytes"]
    except (ConfigError, KeyError):
        return None


def _budget() -> Budget:
    """The budget of the flags.

    Raises:
      ConfigError: a name is unknown, or the reference is left out.
    """
    budget = BUDGETS[BUDGET.value]
    if RIVALS.value is not None:
        _known("baselines", RIVALS.value, BASELINES)
        if REFERENCE not in RIVALS.value:
            raise ConfigError(
                f"--baselines={','.join(RIVALS.value)!r} must have {REFERENCE!r}, which all "
                "others are compared with"
            )
        budget = budget._replace(baselines=tuple(dict.fromkeys(RIVALS.value)))
    if SHOWN.value is not None:
        _known("sections", SHOWN.value, SECTIONS)
        budget = budget._replace(sections=tuple(SHOWN.value))
    return budget


def _known(flag: str, names: Sequence[str], legal: Iterable[str]) -> None:
    if unknown := [name for name in names if name not in legal]:
        raise ConfigError(f"--{flag}: unknown {unknown}; legal ones: {', '.join(legal)}")


def _shard(text: str) -> tuple[int, int]:
    i, _, n = text.partition("/")
    if not (i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n)):
        raise ConfigError(f"--shard={text!r} must be i/n with 1 ≤ i ≤ n, as 1/3")
    return int(i), int(n)


def run() -> None:
    """The command: parse the flags, and do what they say."""
    run_command(main)
