"""Which part of a compiled meta-step its time goes to, from a trace of it as it runs.

Every operation of the program carries the names of the scopes it was made in (its metadata). A
fused operation belongs to the part that most of what is fused in it comes from; so does a call,
with what of its time none of its operations took, as small ones are recorded as a whole. Times are
those of the operations, on all threads; the shares of the parts add up to one. Recording costs
about as much as the smallest operations, so that a part of many small ones looks larger than it is.
"""

import gzip
import json
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from meta_train.meta_training import OUTER
from meta_train.problems.optimizer_training import INNER_GRADIENT, RULE

PARTS = ("inner gradient", "features", "product", "features and product", "estimator", "outer")
"""``features and product``: what a compiled kernel makes in one call."""

KERNELS = frozenset(("ffi_call", "pallas_call"))
NETWORK = "mlp"  # the Haiku module of a rule's per-parameter network

_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = .*? ([\w\-]+)\((.*)$")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_CALLED = re.compile(r"calls=%?([\w.\-]+)")
_APPLIED = re.compile(r"to_apply=%?([\w.\-]+)")
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_PALLAS = re.compile(r"(\w+)/pallas_call$")
_CONTAINERS = frozenset(("while", "conditional"))


def shares_of_parts(compiled: Any, call: Callable[[], Any]) -> dict[str, float]:
    """The share of each of `PARTS` in the time of a compiled program's operations.

    ``call()`` runs it, a few milliseconds at least, and returns something to wait for.

    Raises:
      RuntimeError: the trace has no operation of the program.
    """
    parts = parts_of_operations(compiled.as_text())
    seconds = seconds_of_operations(call, parts)
    totals: dict[str, float] = defaultdict(float)
    for operation, spent in seconds.items():
        totals[parts[operation]] += spent
    whole = sum(totals.values())
    if not whole:
        raise RuntimeError("the profiler recorded no operation of the compiled meta-step")
    return {part: totals[part] / whole for part in PARTS}


def part_of(op_name: str) -> str:
    """The part that an operation with this name, scope by scope, was made for."""
    scopes = set(re.findall(r"\w+", op_name))
    if INNER_GRADIENT in scopes:
        return "inner gradient"
    if RULE in scopes and scopes & KERNELS:
        return "features and product"
    if RULE in scopes:
        return "product" if NETWORK in scopes else "features"
    return "outer" if OUTER in scopes else "estimator"


class _Operation(NamedTuple):
    """Of a compiled program: its own op_names, the computation it fuses, and its operands."""

    op_names: list[str]
    fused: str | None
    operands: list[str]


def parts_of_operations(text: str) -> dict[str, str]:
    """{operation: part}, of a compiled program's text; loops and branches are left out.

    Kernels in Pallas are there by their own names too: a trace may know them by nothing else.

    Products that XLA hands to a library lose their names: they belong where their operands do,
    and where those differ, where most of the operations do that they read from or that read them.
    """
    names: dict[str, list[str]] = defaultdict(list)  # of the operations in each computation
    operations: dict[str, _Operation] = {}
    computation = ""
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            computation = header[1]
        elif instruction := _INSTRUCTION.match(line):
            name, kind, rest = instruction.groups()
            own = _OP_NAME.findall(line)
            names[computation] += own
            if kind not in _CONTAINERS:
                fused = (_APPLIED if kind == "call" else _CALLED).search(line)
                operands = re.findall(r"%([\w.\-]+)", rest.partition(")")[0])
                operations[name] = _Operation(own, fused and fused[1], operands)
    parts = {}
    for name, operation in operations.items():
        op_names = [*operation.op_names, *(names[operation.fused] if operation.fused else [])]
        if part := _majority([part_of(op_name) for op_name in op_names if "/" in op_name]):
            parts[name] = part
    return _complete(parts, operations) | _kernels(operations)


def _complete(parts: dict[str, str], operations: Mapping[str, _Operation]) -> dict[str, str]:
    """The parts of all operations, from those of some and who reads from whom."""
    readers: dict[str, list[str]] = defaultdict(list)
    for name, operation in operations.items():
        for operand in operation.operands:
            readers[operand].append(name)

    def inferred(name: str) -> str | None:
        of_operands = [parts[n] for n in operations[name].operands if n in parts]
        if len(set(of_operands)) == 1:
            return of_operands[0]
        return _majority([*of_operands, *(parts[n] for n in readers[name] if n in parts)])

    unknown = [name for name in operations if name not in parts]
    while unknown:
        found = {name: part for name in unknown if (part := inferred(name))}
        if not found:
            break
        parts = {**parts, **found}
        unknown = [name for name in unknown if name not in found]
    return {name: parts.get(name, "estimator") for name in operations}


def _kernels(operations: Mapping[str, _Operation]) -> dict[str, str]:
    names = {name for operation in operations.values() for name in operation.op_names}
    return {kernel[1]: part_of(name) for name in names if (kernel := _PALLAS.search(name))}


def _majority(parts: list[str]) -> str | None:
    return Counter(parts).most_common(1)[0][0] if parts else None


def seconds_of_operations(
    call: Callable[[], Any], operations: Mapping[str, Any]
) -> dict[str, float]:
    """{operation: seconds on all threads} of one call, of those among ``operations``."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(call())
        (file,) = Path(folder).rglob("*.trace.json.gz")
        with gzip.open(file) as stream:
            events = json.load(stream)["traceEvents"]
    return seconds_apart(events, operations)


def seconds_apart(
    events: Iterable[Mapping[str, Any]], operations: Mapping[str, Any]
) -> dict[str, float]:
    """{operation: seconds} of the events of a trace, without those of events within them.

    Events of a graph of kernels name the graph as their operation: they are told by their own
    names, those of operations with underscores in the place of other signs, or those of kernels.
    """
    by_kernel = {re.sub(r"\W", "_", name): name for name in operations}
    seconds: dict[str, float] = defaultdict(float)
    within: dict[Any, list[tuple[float, str]]] = defaultdict(list)  # ends, of each thread
    for event in sorted(
        (event for event in events if event.get("ph") == "X"),
        key=lambda event: (event["ts"], -event["dur"]),
    ):
        name = event.get("name", "")
        operation = event.get("args", {}).get("hlo_op", name)
        if operation not in operations:
            operation = by_kernel.get(name, by_kernel.get(name.rpartition("__")[0]))
        if operation is None:
            continue
        around = within[event.get("pid"), event.get("tid")]
        while around and around[-1][0] < event["ts"] + event["dur"]:
            around.pop()
        if around:
            seconds[around[-1][1]] -= event["dur"] / 1e6
        around.append((event["ts"] + event["dur"], operation))
        seconds[operation] += event["dur"] / 1e6
    return dict(seconds)
