"""Rows of metrics: JSON lines and TensorBoard, without a gap or a repeat after a resume."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tensorboardX import SummaryWriter

from meta_train.files import write_text
from meta_train.workdir import METRICS, TENSORBOARD


class MetricsWriter:
    """Appends one row per call of the meta-training; ``step`` counts updates of θ."""

    def __init__(self, workdir: Path, *, first_step: int):
        """Drop the rows after ``first_step``: a run that is resumed there writes them again."""
        path = workdir / METRICS
        if path.exists():
            write_text(path, "".join(_rows_until(path, first_step)))
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115
        self._board = SummaryWriter(str(workdir / TENSORBOARD), purge_step=first_step + 1)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the row of update ``step``."""
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()
        for name, value in metrics.items():
            self._board.add_scalar(name, value, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._board.close()


def _rows_until(path: Path, last: int) -> list[str]:
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            step = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):
            break  # the row that a killed process was writing
        if not line.endswith("\n") or step > last:
            break
        rows.append(line)
    return rows
