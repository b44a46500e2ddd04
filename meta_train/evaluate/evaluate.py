"""The command `python -m meta_train.evaluate`: from a suite's tasks to the three files."""

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from absl import flags

import learned_opt
from learned_opt import LearnedOptimizer
from meta_train.command_line import given_directory, run_command, say
from meta_train.evaluate.baselines import BASELINES
from meta_train.evaluate.render import results_for_terminal, to_html, to_markdown
from meta_train.evaluate.report import make_report, read_envelope
from meta_train.evaluate.runs import Trainer
from meta_train.evaluate.scoring import LEARNED, score_task
from meta_train.files import make_directory, write_json, write_text
from meta_train.runtime import set_up_jax
from tasks import TaskFamily, get_family
from tasks.suites import Suite, get_suite, suite_names

OPTIMIZER = flags.DEFINE_string(
    "optimizer", None, "Directory of a saved optimizer, or the name of a shipped one."
)
SUITE = flags.DEFINE_string("suite", "demo", f"Tasks to evaluate on: {', '.join(suite_names())}.")
WORKDIR = flags.DEFINE_string("workdir", None, "Directory for the report.")
DOWNLOAD = flags.DEFINE_bool("download", False, "Prepare TFDS sets that are not there.")
flags.mark_flags_as_required(["optimizer", "workdir"])

COMPILERS = 2  # threads; XLA compiles outside Python's lock


def main() -> int:
    """Evaluate, and write the three files of the report."""
    suite = get_suite(SUITE.value)
    workdir = given_directory(WORKDIR.value)
    set_up_jax()
    optimizer = learned_opt.read(OPTIMIZER.value)
    read_envelope(optimizer)  # refused now, not after the training
    families = {
        task.family: get_family(task.family, download=DOWNLOAD.value) for task in suite.tasks
    }
    make_directory(workdir)
    report = evaluate(optimizer, suite, families)
    write_json(workdir / "report.json", report)
    write_text(workdir / "report.md", to_markdown(report))
    write_text(workdir / "report.html", to_html(report))
    print(f"\n{results_for_terminal(report)}\n")
    print("\n".join(str(workdir / f"report.{kind}") for kind in ("html", "md", "json")))
    return 0


def evaluate(
    optimizer: learned_opt.PortableOptimizer, suite: Suite, families: Mapping[str, TaskFamily]
) -> dict[str, Any]:
    """Train on every task of the suite, and make the report of it."""
    rules = {LEARNED: optimizer.optimizer, **BASELINES}
    theta = jax.tree.map(np.asarray, optimizer.theta)
    results = []
    with ThreadPoolExecutor(COMPILERS) as pool:
        trainers = _compile_all(suite, families, rules, pool)
        for i, task in enumerate(suite.tasks):
            started = time.perf_counter()
            ready = {name: future.result() for name, future in trainers[task.family].items()}
            result = score_task(task, ready, theta, tuning_seeds=suite.tuning_seeds)
            results.append((families[task.family], result))
            say(
                f"[{i + 1}/{len(suite.tasks)}] {task.family} @ {task.steps}: "
                f"{time.perf_counter() - started:.1f} s"
            )
    return make_report(optimizer, OPTIMIZER.value, suite.name, results)


def _compile_all(
    suite: Suite,
    families: Mapping[str, TaskFamily],
    rules: Mapping[str, LearnedOptimizer],
    pool: ThreadPoolExecutor,
) -> dict[str, dict[str, Future[Trainer]]]:
    """Begin to compile every family × rule, in the order of the suite."""
    horizons: dict[str, int] = {}
    for task in suite.tasks:
        horizons.setdefault(task.family, task.steps)

    def compiled(family: str, rule: LearnedOptimizer, splits: Mapping[str, Any]) -> Trainer:
        trainer = Trainer(families[family], splits, rule, horizon=horizons[family])
        trainer.compile()
        return trainer

    futures: dict[str, dict[str, Future[Trainer]]] = {}
    for family in horizons:
        splits = families[family].load()
        futures[family] = {
            name: pool.submit(compiled, family, rule, splits) for name, rule in rules.items()
        }
    return futures


def run() -> None:
    """The command: parse the flags, and do what they say."""
    run_command(main)
