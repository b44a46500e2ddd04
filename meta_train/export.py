"""The result of a run as a portable optimizer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import learned_opt
from meta_train.assemble import Run
from meta_train.config import as_dict, tasks_of
from meta_train.curriculum import shortest_episode
from meta_train.meta_training import MetaState
from meta_train.metrics import read_rows
from meta_train.task_list import windows_of
from meta_train.validation import best_of, kept_theta
from meta_train.workdir import METRICS, OPTIMIZER, OPTIMIZER_LAST, read_processes
from tasks import family_facts


def export_optimizer(
    run: Run, state: MetaState, workdir: Path, validations: Sequence[Mapping[str, Any]] = ()
) -> Path:
    """Write ``DIR/optimizer``, unless it is there: θ, and in the manifest how it was found.

    With ``validations``, rows of `validation`, it is the θ of the best of them, and the last one
    is in ``DIR/optimizer_last``; without them an older ``DIR/optimizer_last`` is the last one too.

    Raises:
      OSError: it cannot be written, or there is something else in its place.
    """
    last = jax.tree.map(np.asarray, run.rule.complete(state.theta))
    facts = envelope(run, state, workdir)
    if not validations:
        if (workdir / OPTIMIZER_LAST).exists():
            _saved(run, workdir / OPTIMIZER_LAST, last, facts)
        return _saved(run, workdir / OPTIMIZER, last, facts)
    best = best_of(validations)
    facts["validation"] = {
        "suite": run.config.validation_suite,
        "updates": [row["step"] for row in validations],
        "scores": [row["score"] for row in validations],
        "best_update": best.step,
    }
    _saved(run, workdir / OPTIMIZER_LAST, last, facts)
    facts |= {"updates": best.step, "updates_of_run": int(state.step)}
    return _saved(run, workdir / OPTIMIZER, kept_theta(workdir, best.step), facts)


def _saved(run: Run, target: Path, theta: Any, facts: dict[str, Any]) -> Path:
    if not _is_there(target, theta, facts.get("validation")):
        learned_opt.save(target, run.rule.whole, theta, meta_training=facts, licence="Apache-2.0")
    return target


def _is_there(target: Path, theta: Any, validation: Mapping[str, Any] | None) -> bool:
    try:
        found = learned_opt.read(target)
    except (OSError, learned_opt.OptimizerFormatError):
        return False
    if found.manifest["meta_training"].get("validation") != validation:
        return False
    theirs, ours = (dict(jax.tree.leaves_with_path(tree)) for tree in (found.theta, theta))
    return theirs.keys() == ours.keys() and all(
        np.array_equal(theirs[path], ours[path]) for path in ours
    )


def envelope(run: Run, state: MetaState, workdir: Path) -> dict[str, Any]:
    """What the optimizer has met, and what that cost, as JSON values."""
    config, updates = run.config, int(state.step)
    windows = windows_of(tasks_of(config), config.tasks_per_update, config.seed, updates=updates)
    return {
        "tasks": [
            {"name": family.name, **family_facts(family), "windows": count}
            for family, count in zip(run.families, windows, strict=True)
        ],
        "horizons": [shortest_episode(config), config.length_max],
        "estimator": config.estimator,
        "updates": updates,
        "inner_steps": sum(windows) * config.window * config.particles,
        "diverged_windows": int(state.health.diverged),
        "skipped_updates": int(state.health.skipped),
        "seconds": _seconds(workdir / METRICS, updates),
        "seed": config.seed,
        "initial_sha256": run.rule.initial_sha256,
        "config": as_dict(config),
        "processes": read_processes(workdir),
    }


def _seconds(metrics: Path, updates: int) -> float | None:
    """Time spent in the meta-training loop, over all the processes of the run, if it is known."""
    rows = read_rows(metrics)
    seconds = [row.get("seconds") for row in rows]
    known = [s for s in seconds if isinstance(s, int | float)]
    if len(known) < len(rows) or not rows or rows[-1]["step"] != updates:
        return None
    return round(sum(known), 1)
