"""A program written out flat: its equations in one list, calls within it in their place."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from jax.extend.core import Jaxpr, JaxprEqn, Literal

CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
"""Equations that are others, and where those are."""


class Equation(NamedTuple):
    """One operation of a flat program; values are numbers."""

    source: JaxprEqn
    reads: list[int]
    gives: list[int]

    @property
    def name(self) -> str:
        """Of its primitive."""
        return self.source.primitive.name

    @property
    def params(self) -> dict[str, Any]:
        """Of its primitive: programs within it, axes and the like."""
        return self.source.params


class Flat(NamedTuple):
    """A program without calls; ``sizes``: bytes of every value on a device."""

    equations: list[Equation]
    sizes: list[int]
    inputs: list[int]
    outputs: list[int]


def flatten(jaxpr: Any, inputs: Sequence[int]) -> Flat:
    """The program with its calls written out, without what nobody reads."""
    equations: list[Equation] = []
    sizes: list[int] = []

    def new(size: int) -> int:
        sizes.append(size)
        return len(sizes) - 1

    def walk(jaxpr: Jaxpr, arguments: Sequence[int]) -> list[int]:
        numbers = dict(zip(jaxpr.invars, arguments, strict=True))
        numbers |= {v: new(bytes_of(v)) for v in jaxpr.constvars}

        def number(v: Any) -> int:
            return new(0) if isinstance(v, Literal) else numbers[v]

        for e in jaxpr.eqns:
            reads = [number(v) for v in e.invars]
            if e.primitive.name in CALLS:
                called = e.params[CALLS[e.primitive.name]]
                gives = walk(getattr(called, "jaxpr", called), reads)
            else:
                gives = [new(bytes_of(v)) for v in e.outvars]
                equations.append(Equation(e, reads, gives))
            numbers.update(zip(e.outvars, gives, strict=True))
        return [number(v) for v in jaxpr.outvars]

    first = [new(size) for size in inputs]
    outputs = walk(getattr(jaxpr, "jaxpr", jaxpr), first)
    needed, kept = set(outputs), []
    for equation in reversed(equations):
        if needed.intersection(equation.gives):
            needed.update(equation.reads)
            kept.append(equation)
    return Flat(kept[::-1], sizes, first, outputs)


def bytes_of(v: Any) -> int:
    """Of a value of a program; 0 of what has no dtype."""
    aval = v.aval
    return aval.size * aval.dtype.itemsize if hasattr(aval, "dtype") else 0


class Scan(NamedTuple):
    """How many operands a scan reads as they are, how many it carries; what follows is sliced."""

    consts: int
    carries: int


def scan_of(equation: JaxprEqn) -> Scan:
    """Told from the ranks, since JAX keeps these numbers in one place or another.

    The body sees what is sliced, and makes what is stacked, with one axis less.
    """
    body = equation.params["jaxpr"]
    body = getattr(body, "jaxpr", body)

    def same(outside: Sequence[Any], within: Sequence[Any]) -> int:
        pairs = zip(outside, within, strict=True)
        return sum(len(a.aval.shape) == len(b.aval.shape) for a, b in pairs)

    carries = same(equation.outvars, body.outvars)
    return Scan(same(equation.invars, body.invars) - carries, carries)


def readers_of(program: Flat) -> tuple[dict[int, int], Counter[int]]:
    """The last equation that reads a value, and how many do; outputs are read at the end."""
    last: dict[int, int] = {}
    counts: Counter[int] = Counter(program.outputs)
    for place, equation in enumerate(program.equations):
        for value in set(equation.reads):
            last[value] = place
            counts[value] += 1
    last.update(dict.fromkeys(program.outputs, len(program.equations)))
    return last, counts
