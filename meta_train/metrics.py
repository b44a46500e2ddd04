"""Rows of metrics: JSON lines and TensorBoard, without a gap or a repeat after a resume."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from checkpoints.steady_clock import now
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
        self._board = _Board(workdir / TENSORBOARD, purge_step=first_step + 1)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the row of update ``step``; what is not a finite number becomes null."""
        row = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._file.write(json.dumps({"step": step, **row}) + "\n")
        self._file.flush()
        self._board.write(step, metrics)

    def show(self, step: int, metrics: Mapping[str, float]) -> None:
        """What is in a log of its own: to TensorBoard alone."""
        self._board.write(step, metrics)

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


class NoWriter:
    """In place of a `MetricsWriter` where another process writes the log."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write nothing."""

    def show(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class _Board:
    """Event files for TensorBoard, written here and now: `SummaryWriter` writes in a thread,
    and where that fails, on a full disk say, its callers wait forever.
    """

    def __init__(self, folder: Path, *, purge_step: int):
        # Here, for it imports PyTorch where that is installed: two seconds of every command.
        from tensorboardX import event_file_writer, proto

        self._proto = proto
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names, which else begin with the time.
        number = sum(1 for _ in folder.iterdir())
        name = str(folder / f"events.{number:06d}")
        self._events = event_file_writer.EventsWriter(name, f".{os.getpid()}")
        log = proto.event_pb2.SessionLog
        self._add(purge_step, session_log=log(status=log.START))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        summary = self._proto.summary_pb2.Summary
        values = [summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._add(step, summary=summary(value=values))

    def close(self) -> None:
        self._events.close()

    def _add(self, step: int, **content: Any) -> None:
        event = self._proto.event_pb2.Event(wall_time=now(), step=step, **content)
        self._events.write_event(event)
        self._events.flush()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows up to the first that is cut or damaged; none where there is no file."""
    rows: list[dict[str, Any]] = []
    if not path.exists():
        return rows
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            row = json.loads(line)
        except ValueError:
            break  # a killed process was writing it
        whole = isinstance(row, dict) and line.endswith("\n")
        if not whole or not isinstance(row.get("step"), int):
            break
        rows.append(row)
    return rows


def _rows_until(path: Path, last: int) -> list[str]:
    return [json.dumps(row) + "\n" for row in read_rows(path) if row["step"] <= last]
