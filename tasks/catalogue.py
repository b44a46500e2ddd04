"""What the zoo holds: fixed tasks and parametric families, by name, from `tasks.domains`.

Nothing is imported before it is asked for, and nothing is read or built to make the tables.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

from tasks.base import TaskFamily

DOMAINS = (
    "images",
    "sizes",
    "language",
    "sequences",
    "graphs",
    "analytic",
    "regression",
    "functions",
    "physics",
    "control",
    "meta",
    "tabular",
    "time_series",
    "signals",
)
"""Modules of `tasks.domains`, each with ``ROWS`` and ``FAMILIES``."""

GRAMMARS = ("images.names", "text.names", "domains.quadratics")
"""Modules of `tasks`, each with a ``GRAMMAR``."""


class AdamTarget(NamedTuple):
    """What `optax.adam` at ``rate`` reaches on a fixed task, from its default initialisation.

    After ``steps`` steps on training data the loss on 200 test examples is at most ``share`` of
    what it was before. The tests hold every task to it.
    """

    rate: float
    steps: int
    share: float


class Row(NamedTuple):
    """A fixed task. ``make() -> TaskFamily`` reads no data; ``offline``: it needs no network."""

    name: str
    make: Callable[[], TaskFamily]
    adam: AdamTarget
    offline: bool = True


class ParametricFamily(NamedTuple):
    """Tasks that differ in what can be traced and in what cannot.

    ``shapes``: keyword arguments of ``make``, JSON values, one for each compiled shape: a member
    is ``make(name, **shape)``, and its own ``sample`` draws what can be traced.
    """

    name: str
    summary: str
    shapes: tuple[Mapping[str, Any], ...]
    make: Callable[..., TaskFamily]
    adam: AdamTarget
    offline: bool = True

    def member(self, index: int) -> TaskFamily:
        """The tasks of one shape, named ``NAME.INDEX``."""
        return self.make(f"{self.name}.{index}", **self.shapes[index])


class Grammar(NamedTuple):
    """Names that are made of parts, of more tasks than can be listed.

    ``form()`` says in a clause how they are written; ``family(name, download, batch_size)`` is
    the family of a name, its data set read, or None where the name is not of this form;
    ``sized``: whether it takes another ``batch_size`` than its own (None).
    """

    form: Callable[[], str]
    family: Callable[[str, bool, int | None], TaskFamily | None]
    sized: bool = True


@lru_cache(maxsize=1)
def rows() -> Mapping[str, Row]:
    """The fixed tasks by name, domain after domain."""
    return _by_name("ROWS")


@lru_cache(maxsize=1)
def parametric_families() -> Mapping[str, ParametricFamily]:
    """The parametric families by name, domain after domain."""
    return _by_name("FAMILIES")


@lru_cache(maxsize=1)
def grammars() -> tuple[Grammar, ...]:
    """In the order in which a name is tried."""
    return tuple(import_module(f"tasks.{module}").GRAMMAR for module in GRAMMARS)


def _by_name(attribute: str) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for domain in DOMAINS:
        for entry in getattr(import_module(f"tasks.domains.{domain}"), attribute):
            if entry.name in found:
                raise ValueError(f"two tasks are named {entry.name!r}; rename one")
            found[entry.name] = entry
    return found
