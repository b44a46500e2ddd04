"""Compiled trainers of an evaluation: made ahead of their use, two at a time, then let go."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

from meta_train.evaluate.contestant import Contestant
from meta_train.evaluate.runs import RUNS_AT_ONCE, Trainer, data_of
from tasks import TaskFamily

COMPILERS = 2  # threads; XLA compiles outside Python's lock

Key = tuple[str, int, str]


class Trainers(AbstractContextManager):
    """One of every family, horizon and contestant that is asked for."""

    def __init__(
        self,
        families: Mapping[str, TaskFamily],
        data: Mapping[str, Any],
        *,
        most: int = RUNS_AT_ONCE,
    ):
        """``most``: runs of a call, as of `Trainer`."""
        self._families, self._data, self._most = dict(families), dict(data), most
        self._pool = ThreadPoolExecutor(COMPILERS, thread_name_prefix="compile")
        self._placed: dict[str, Future[Any]] = {}
        self._made: dict[Key, Future[Trainer]] = {}

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def family(self, name: str) -> tuple[TaskFamily, Any]:
        """A family, and its splits."""
        return self._families[name], self._data[name]

    def add(self, name: str, make: Callable[[], TaskFamily]) -> None:
        """Another family, by a name of its own; made where it is not there yet."""
        if name not in self._families:
            family = make()
            self._families[name], self._data[name] = family, family.load()

    def begin(self, family: str, horizon: int, contestants: Sequence[Contestant]) -> None:
        """Compile what will be needed, in this order, while others train."""
        for contestant in contestants:
            self._begun(family, horizon, contestant)

    def get(self, family: str, horizon: int, contestant: Contestant) -> Trainer:
        """The trainer, compiled."""
        return self._begun(family, horizon, contestant).result()

    def forget(self, family: str, horizon: int) -> None:
        """Let those of a task go, and their memory."""
        for key in [key for key in self._made if key[:2] == (family, horizon)]:
            del self._made[key]
        if not any(key[0] == family for key in self._made):
            self._placed.pop(family, None)

    def _begun(self, family: str, horizon: int, contestant: Contestant) -> Future[Trainer]:
        key = family, horizon, contestant.name
        if family not in self._placed:
            of_family = self._families[family], self._data[family]
            self._placed[family] = self._pool.submit(data_of, *of_family)
        if key not in self._made:
            self._made[key] = self._pool.submit(self._compiled, family, horizon, contestant)
        return self._made[key]

    def _compiled(self, family: str, horizon: int, contestant: Contestant) -> Trainer:
        data = self._placed[family].result()  # begun before, so that a thread is at it, or was
        trainer = Trainer(
            self._families[family], data, contestant, horizon=horizon, most=self._most
        )
        trainer.compile()
        return trainer
