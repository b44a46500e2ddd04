"""The result of a run as a portable optimizer."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

import learned_opt
from meta_train.assemble import Run
from meta_train.config import as_dict
from meta_train.runtime import provenance
from meta_train.workdir import METRICS, OPTIMIZER
from tasks import parameter_count


def export_optimizer(run: Run, theta: Any, workdir: Path) -> Path:
    """Write ``DIR/optimizer``: θ, and in the manifest where it was meta-trained."""
    target = workdir / OPTIMIZER
    learned_opt.save(
        target,
        run.optimizer,
        jax.tree.map(np.asarray, theta),
        meta_training=envelope(run, workdir),
        licence="Apache-2.0",
    )
    return target


def envelope(run: Run, workdir: Path) -> dict[str, Any]:
    """What the optimizer has met, and what that cost, as JSON values."""
    config, metadata = run.config, run.family.metadata
    inner_steps = config.updates * config.window * config.particles
    return {
        "tasks": [
            {
                "name": run.family.name,
                "domain": metadata.domain,
                "architecture": metadata.architecture,
                "data": metadata.data,
                "widths": list(metadata.widths),
                "parameters": parameter_count(run.family),
                "batch_size": metadata.batch_size,
            }
        ],
        "horizons": [config.length_min, config.length_max],
        "estimator": config.estimator,
        "updates": config.updates,
        "inner_steps": inner_steps,
        "seconds": _seconds(workdir / METRICS, config.window * config.particles),
        "seed": config.seed,
        "config": as_dict(config),
        "provenance": provenance(),
    }


def _seconds(metrics: Path, inner_steps_per_update: int) -> float:
    """Time spent in the meta-training loop, over all the processes of the run."""
    seconds, last = 0.0, 0
    for line in metrics.read_text().splitlines():
        row = json.loads(line)
        steps = (row["step"] - last) * inner_steps_per_update
        seconds += steps / row["inner_steps_per_second"]
        last = row["step"]
    return round(seconds, 1)
