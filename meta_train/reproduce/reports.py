"""The files of experiments in a directory, and the page of all that are there:

DIR/NAME.json    claims, figures, notes, seconds, effort, provenance
DIR/NAME.png     the figure
DIR/index.html   every experiment of the directory on one page
"""

import dataclasses
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from meta_train.config import ConfigError
from meta_train.files import write_bytes, write_json, write_text
from meta_train.reproduce.experiment import Effort, Experiment
from meta_train.reproduce.figures import draw
from meta_train.reproduce.page import Report, to_html

INDEX = "index.html"


@dataclasses.dataclass(frozen=True)
class Done:
    """An experiment that has been run: its report, and its figure as PNG."""

    report: dict[str, Any]
    picture: bytes


def run_experiment(experiment: Experiment, effort: Effort, provenance: Mapping[str, Any]) -> Done:
    """Run one experiment, and put together what its files hold."""
    started = time.perf_counter()
    result = experiment.run(effort)
    report = {
        "name": experiment.name,
        "title": experiment.title,
        "source": experiment.source,
        "effort": effort._asdict(),
        "seconds": time.perf_counter() - started,
        "claims": [claim._asdict() for claim in result.claims],
        "figures": result.figures,
        "notes": list(result.notes),
        "provenance": provenance,
    }
    return Done(json_values(report), draw(result.panels))


def write_files(done: Done, workdir: Path, experiments: Mapping[str, Experiment]) -> None:
    """Write the files of an experiment, and the page anew of all that are in the directory."""
    name = done.report["name"]
    write_bytes(workdir / f"{name}.png", done.picture)
    write_json(workdir / f"{name}.json", done.report)
    reports = read_reports(workdir, experiments)
    pictures = {r["name"]: (workdir / f"{r['name']}.png").read_bytes() for r in reports}
    write_text(workdir / INDEX, to_html(reports, pictures))


def read_reports(workdir: Path, experiments: Mapping[str, Experiment]) -> list[Report]:
    """The experiments that the directory holds, in the order of the registry.

    Raises:
      ConfigError: a file is damaged.
    """
    reports = []
    for name in experiments:
        path = workdir / f"{name}.json"
        if not path.exists() or not path.with_suffix(".png").exists():
            continue
        try:
            reports.append(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ConfigError(
                f"{str(path)!r} is damaged ({error}); delete it, or choose another --workdir"
            ) from None
    return reports


def json_values(value: Any) -> Any:
    """Arrays as lists, NumPy's scalars as Python's, and numbers that are not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): json_values(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(entry) for entry in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return json_values(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
