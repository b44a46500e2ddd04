"""How the runs of an evaluation come about: trained, or read where they are kept.

`Run` is all that the measuring knows of it, so that a report is drawn again from raw runs by the
code that made it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax

from meta_train.evaluate.contestant import Contestant
from meta_train.evaluate.runs import Curve, RunSpec, Trainer
from meta_train.evaluate.store import Store, Unit

FAILED = "failed: "
"""In what is said of missing runs: before why they could not be trained."""


class MissingRunsError(LookupError):
    """Runs that a report needs are not there: which."""


class Run(Protocol):
    """Makes runs of one task: the curve of every spec."""

    def __call__(self, contestant: Contestant, role: str, specs: Sequence[RunSpec]) -> list[Curve]:
        """Raises:
        MissingRunsError: they are not there, and are not trained now.
        """


class Kept:
    """The runs of one task as they are kept in a store.

    ``basis``: what they depend on beside contestant and specs; ``used``: the paths of the files
    that were asked for.
    """

    def __init__(self, store: Store, task: str, basis: Mapping[str, Any]):
        self._store, self._task, self._basis = store, task, basis
        self.used: list[str] = []

    def unit(self, contestant: Contestant, role: str, specs: Sequence[RunSpec]) -> Unit:
        """What names these runs."""
        basis = {**self._basis, "contestant": contestant.identity}
        return Unit(self._task, contestant.name, role, basis, tuple(specs))

    def __call__(self, contestant: Contestant, role: str, specs: Sequence[RunSpec]) -> list[Curve]:
        """Raises:
        MissingRunsError: they are not there.
        """
        unit = self.unit(contestant, role, specs)
        curves = self._store.read(unit)
        if curves is None:
            curves = self._missing(unit, contestant)
        self.used.append(unit.path)
        return curves

    def _missing(self, unit: Unit, contestant: Contestant) -> list[Curve]:
        why = self._store.failure(unit.path)
        told = f"no {unit.path}" if why is None else f"{FAILED}{why}"
        raise MissingRunsError(f"{unit.role} of {contestant.name}: {told}")


class Trained(Kept):
    """The same, with what is not kept trained now.

    Where that fails, memory does not suffice say, the runs are missing and the report says why:
    one contestant on one task does not cost the others.
    """

    def __init__(
        self,
        store: Store,
        task: str,
        basis: Mapping[str, Any],
        trainer: Callable[[Contestant], Trainer],
    ):
        super().__init__(store, task, basis)
        self._trainer = trainer

    def _missing(self, unit: Unit, contestant: Contestant) -> list[Curve]:
        started = time.perf_counter()
        try:
            trained = self._trainer(contestant).train(unit.specs)
        except Exception as error:
            self._store.write_failure(unit.path, error)
            return super()._missing(unit, contestant)
        made = {
            "seconds": round(time.perf_counter() - started, 3),
            "device": jax.devices()[0].device_kind,
        }
        return self._store.write(unit, trained, made)
