"""The memory that a program takes, from its equations: what is alive at once where that is most.

It follows what compilers do with equations in their order:

- what is computed entry by entry is made where it is read: it takes no memory until something
  reads it that needs it whole, a product or a loop say, and until then keeps what it is made of;
- an expensive function that several read is kept;
- a loop holds its carry once, and takes over the memory of a first carry that nobody else reads;
- of branches the largest counts; what is spread over devices counts in the size of its part.

Real programs hold more (copies, scratch of libraries) or less (an order that is kinder).
"""

from collections.abc import Sequence

import numpy as np
from jax.extend.core import Jaxpr

from meta_train.flat_program import Equation, Flat, bytes_of, flatten, readers_of, scan_of

_EXPENSIVE = """
exp exp2 expm1 log log1p tanh logistic erf erf_inv sin cos tan pow sqrt rsqrt cbrt div
"""
_CHEAP = """
abs add add_any and atan2 broadcast_in_dim ceil clamp convert_element_type copy copy_p eq
expand_dims floor ge gt integer_pow iota is_finite le lt max min mul ne neg not
optimization_barrier or pad random_unwrap random_wrap real reduce_precision rem reshape rev round
select_n shift_left shift_right_arithmetic shift_right_logical sign slice split square squeeze
stop_gradient sub transpose xor
"""
_PIECEWISE = """
argmax argmin concatenate reduce reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum
reduce_xor
"""
_SAME = """
expand_dims optimization_barrier random_unwrap random_wrap reshape sharding_constraint squeeze
stop_gradient
"""
_IN_PLACE = "dynamic_update_slice scatter scatter-add scatter_add scatter_mul scatter_min"

EXPENSIVE = frozenset(_EXPENSIVE.split())
ENTRY_BY_ENTRY = EXPENSIVE | frozenset(_CHEAP.split())
READ_PIECEWISE = frozenset(_PIECEWISE.split())
"""What reads entry by entry, but whose results take memory."""
SAME_ENTRIES = frozenset(_SAME.split())
"""What gives its operand another name."""
IN_PLACE = frozenset(_IN_PLACE.split())
"""What writes into its first operand where nobody else reads that."""


def peak_bytes(jaxpr: Jaxpr, inputs: Sequence[int], donated: Sequence[bool]) -> int:
    """Bytes at the fullest moment of a program, its inputs and outputs counted.

    Args:
      jaxpr: the program.
      inputs: bytes of every input on a device.
      donated: which of them the program may take over.
    """
    return _Walk(flatten(jaxpr, inputs), donated).peak


class _Buffer:
    """Memory that is taken from the equation ``first`` to the equation ``last``."""

    def __init__(self, size: int, first: int):
        self.size, self.first, self.last = size, first, first


class _Walk:
    """What is alive at every equation of a flat program, and the ``peak`` of it.

    A value is *made of* buffers: of one of its own, or of those that it is computed from where
    it is read.
    """

    def __init__(self, program: Flat, given: Sequence[bool | None], *, in_place: bool = False):
        """``given``: of the inputs, True where the program may take their memory over, False
        where it must keep it, None where another program counts it. ``in_place``: outputs that
        are computed entry by entry are written where that program wants them.
        """
        self._sizes = program.sizes
        self._last_read, self._readers = readers_of(program)
        self._made_of: dict[int, frozenset[_Buffer]] = {}
        self._whole = set(program.inputs)
        self._buffers: list[_Buffer] = []
        end = len(program.equations)
        self._within = np.zeros(end + 1, np.int64)
        for value, away in zip(program.inputs, given, strict=True):
            if away is not None:
                self._own(value, 0)
                self._buffers[-1].last = 0 if away else end
        for place, equation in enumerate(program.equations):
            self._step(place, equation)
        for value in program.outputs:
            (self._read if in_place else self._read_whole)(value, end)
        self.output_sizes = [self._sizes[v] for v in program.outputs]
        self.peak = self._peak(end)

    def _peak(self, end: int) -> int:
        change = np.zeros(end + 2, np.int64)
        for buffer in self._buffers:
            if buffer.last >= buffer.first:
                change[buffer.first] += buffer.size
                change[buffer.last + 1] -= buffer.size
        return int((np.cumsum(change)[:-1] + self._within).max())

    def _step(self, place: int, equation: Equation) -> None:
        name, reads, gives = equation.name, equation.reads, equation.gives
        fused = name in ENTRY_BY_ENTRY or (
            name == "sharding_constraint" and self._sizes[reads[0]] == self._sizes[gives[0]]
        )
        if fused or name in READ_PIECEWISE:
            for value in reads:
                self._read(value, place)
        else:
            taken = _INNER.get(name, _Walk._no_program)(self, place, equation)
            for value in set(reads) - set(taken):
                self._read_whole(value, place)
            for value in taken:
                self._take_over(value, place)
        kept = not fused or (name in EXPENSIVE and max(self._readers[v] for v in gives) > 1)
        made_of = frozenset().union(*(self._made_of.get(v, frozenset()) for v in reads))
        for value in gives:
            if kept:
                self._own(value, place)
                continue
            self._made_of[value] = made_of
            if name in SAME_ENTRIES and self._whole.issuperset(reads):
                self._whole.add(value)

    def _own(self, value: int, place: int) -> None:
        buffer = _Buffer(self._sizes[value], place)
        self._buffers.append(buffer)
        self._made_of[value] = frozenset([buffer])
        self._whole.add(value)

    def _read(self, value: int, place: int) -> None:
        for buffer in self._made_of.get(value, ()):
            buffer.last = max(buffer.last, place)

    def _read_whole(self, value: int, place: int) -> None:
        """The value gets memory, if it has none of its own yet."""
        self._read(value, place)
        if value not in self._whole:
            self._own(value, place)

    def _take_over(self, value: int, place: int) -> None:
        """The memory of a value that nobody reads later becomes that of the result."""
        self._read(value, place)
        if self._last_read.get(value) == place:
            for buffer in self._made_of.get(value, ()):
                if buffer.last == place and value in self._whole:
                    buffer.last = place - 1

    # Programs within an equation: each returns the reads whose memory it may take over.

    def _no_program(self, place: int, equation: Equation) -> list[int]:
        del place
        return equation.reads[:1] if equation.name in IN_PLACE else []

    def _scan(self, place: int, equation: Equation) -> list[int]:
        params, sizes = equation.params, [self._sizes[v] for v in equation.reads]
        (consts, carries), length = scan_of(equation.source), params["length"]
        slices = [size // max(length, 1) for size in sizes[consts + carries :]]
        given = [None] * consts + [True] * (carries + len(slices))
        inputs = [*sizes[: consts + carries], *slices]
        body = _Walk(flatten(params["jaxpr"], inputs), given, in_place=True)
        carried = equation.reads[consts : consts + carries]
        self._carry(place, carried, equation.gives[:carries], body.peak)
        stacked = zip(equation.gives[carries:], body.output_sizes[carries:], strict=True)
        for value, size in stacked:
            self._sizes[value] = length * size
        return carried

    def _while(self, place: int, equation: Equation) -> list[int]:
        params, first = equation.params, equation.params["cond_nconsts"]
        reads, consts = equation.reads[first:], params["body_nconsts"]
        given = [None] * consts + [True] * (len(reads) - consts)
        inputs = [self._sizes[v] for v in reads]
        body = _Walk(flatten(params["body_jaxpr"], inputs), given, in_place=True)
        self._carry(place, reads[consts:], equation.gives, body.peak)
        return reads[consts:]

    def _carry(self, place: int, reads: list[int], gives: list[int], peak: int) -> None:
        """Count a loop: its carry is counted as its result."""
        for value, read in zip(gives, reads, strict=True):
            self._sizes[value] = self._sizes[read] or self._sizes[value]
        self._within[place] += max(0, peak - sum(self._sizes[v] for v in gives))

    def _cond(self, place: int, equation: Equation) -> list[int]:
        reads = equation.reads[1:]
        given, inputs = self._given(reads, place), [self._sizes[v] for v in reads]
        branches = [_Walk(flatten(b, inputs), given) for b in equation.params["branches"]]
        fullest = max(branches, key=lambda branch: branch.peak)
        self._count_once(place, equation, reads, given, fullest)
        return []

    def _shard_map(self, place: int, equation: Equation) -> list[int]:
        program = equation.params["jaxpr"]
        local = [bytes_of(v) for v in getattr(program, "jaxpr", program).invars]
        # A part is made of what is whole outside; what is split outside is there already.
        made = [own < self._sizes[v] for own, v in zip(local, equation.reads, strict=True)]
        there = [
            None if part else away
            for part, away in zip(made, self._given(equation.reads, place), strict=True)
        ]
        given = [True if part else away for part, away in zip(made, there, strict=True)]
        inner = _Walk(flatten(program, local), given)
        self._count_once(place, equation, equation.reads, there, inner)
        return []

    def _given(self, reads: list[int], place: int) -> list[bool | None]:
        """Which values a program within may take over: those that nobody reads later."""
        return [
            True
            if v in self._whole and self._made_of.get(v) and self._last_read[v] == place
            else None
            for v in reads
        ]

    def _count_once(
        self,
        place: int,
        equation: Equation,
        reads: list[int],
        given: list[bool | None],
        inner: "_Walk",
    ) -> None:
        """Count a program within, but for what is counted here: its results, what it is given."""
        for value, size in zip(equation.gives, inner.output_sizes, strict=True):
            self._sizes[value] = size
        handed = sum(self._sizes[v] for v, away in zip(reads, given, strict=True) if away)
        self._within[place] += inner.peak - sum(inner.output_sizes) - handed


_INNER = {
    "scan": _Walk._scan,
    "while": _Walk._while,
    "cond": _Walk._cond,
    "shard_map": _Walk._shard_map,
}
