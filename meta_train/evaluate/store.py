"""Raw runs on disk, so that nothing is trained twice.

    raw/TASK/CONTESTANT/ROLE-KEY.jsonl         a header, then a line for each run
    raw/TASK/CONTESTANT/ROLE-KEY.failed.json   in its place: why they could not be trained

KEY is the beginning of a SHA-256 of all that the runs depend on: task and data, contestant, seeds,
settings and lengths, code and versions. A file is there whole or not at all; those of several
machines are merged by copying them into one folder.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from meta_train.evaluate.hashing import digest
from meta_train.evaluate.runs import Curve, RunSpec
from meta_train.files import write_json, write_text

RAW = "raw"
FAILURE = ".failed.json"
DIGITS = 16  # of a key, in the name of a file
LOSSES = ("outer_validation", "test", "train")


class Unit(NamedTuple):
    """Runs that are made and kept together.

    ``basis``: JSON values, what the runs depend on beside ``specs``.
    """

    task: str
    contestant: str
    role: str
    basis: Mapping[str, Any]
    specs: Sequence[RunSpec]

    @property
    def key(self) -> str:
        """SHA-256 of all that the runs depend on."""
        specs = [[s.seed, dict(s.settings), s.steps, s.curve] for s in self.specs]
        return digest({**self.basis, "specs": specs})

    @property
    def path(self) -> str:
        """Of its file, below the working directory."""
        name = f"{self.role}-{self.key[:DIGITS]}.jsonl"
        return f"{RAW}/{slug(self.task)}/{slug(self.contestant)}/{name}"


class Store:
    """The raw runs of a working directory."""

    def __init__(self, workdir: Path):
        self._workdir = workdir

    def read(self, unit: Unit) -> list[Curve] | None:
        """The curves of its runs; None where they are not there, or damaged."""
        path = self._workdir / unit.path
        try:
            header, *lines = [json.loads(line) for line in path.read_text().splitlines()]
            if header["key"] != unit.key or len(lines) != len(unit.specs):
                raise ValueError("it is of other runs")
            return [_curve(line) for line in lines]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            logging.warning("the raw runs in %r are damaged (%s)", str(path), error)
            return None

    def write(self, unit: Unit, curves: Sequence[Curve], made: Mapping[str, Any]) -> list[Curve]:
        """Keep them, and return them as they will be read; ``made``: how, where and how long."""
        header = {
            "key": unit.key,
            "task": unit.task,
            "contestant": unit.contestant,
            "role": unit.role,
            **unit.basis,
            "made": made,
        }
        runs = [_line(spec, curve) for spec, curve in zip(unit.specs, curves, strict=True)]
        path = self._workdir / unit.path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(line, allow_nan=False) for line in (header, *runs)]
        write_text(path, "\n".join(lines) + "\n")
        path.with_suffix(FAILURE).unlink(missing_ok=True)
        return [_curve(run) for run in runs]

    def write_failure(self, name: str, error: Exception) -> None:
        """Keep why the file of this path could not be made: for the report, the next call tries
        again.
        """
        logging.error("%s could not be made", name, exc_info=error)
        path = self._workdir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        first = (str(error).splitlines() or [""])[0]
        write_json(path.with_suffix(FAILURE), {"why": f"{type(error).__name__}: {first}"})

    def failure(self, name: str) -> str | None:
        """Why the file of this path could not be made, where it could not."""
        try:
            return str(json.loads((self._workdir / name).with_suffix(FAILURE).read_text())["why"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def values(
        self,
        task: str,
        role: str,
        basis: Mapping[str, Any],
        make: Callable[[], Any] | None,
    ) -> tuple[str, Any]:
        """JSON values that are kept too; made by ``make`` where they are not there, if it is given.

        Returns:
          the path of their file, and the values: None where they are neither there nor made, or
          could not be, see `failure`.
        """
        key = digest({**basis, "role": role})
        name = f"{RAW}/{slug(task)}/{slug(role)}-{key[:DIGITS]}.json"
        path = self._workdir / name
        try:
            kept = json.loads(path.read_text())
            if kept["key"] == key:
                return name, kept["values"]
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            logging.warning("the values in %r are damaged (%s)", str(path), error)
        if make is None:
            return name, None
        try:
            values = make()
        except Exception as error:
            self.write_failure(name, error)
            return name, None
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"key": key, "task": task, "role": role, "values": values})
        path.with_suffix(FAILURE).unlink(missing_ok=True)
        return name, values


def slug(name: str) -> str:
    """The name of a file for a name of anything."""
    return re.sub(r"[^\w.+=-]+", "_", name)


def number(value: float) -> float | None:
    """Seven digits of a number; null where it is not finite."""
    return float(f"{value:.7g}") if np.isfinite(value) else None


def _line(spec: RunSpec, curve: Curve) -> dict[str, Any]:
    losses = {name: [number(x) for x in getattr(curve, name)] for name in LOSSES}
    return {
        "seed": spec.seed,
        "settings": dict(spec.settings),
        "steps": [int(step) for step in curve.steps],
        **losses,
    }


def _curve(line: Mapping[str, Any]) -> Curve:
    losses = {name: np.asarray(line[name], float) for name in LOSSES}
    steps = np.asarray(line["steps"], int)
    if any(values.shape != steps.shape for values in losses.values()):
        raise ValueError("its losses are not one for each step")
    return Curve(steps, **losses)
