"""Rematerialisation (Chen et al. 2016, arXiv:1604.06174): a gradient that keeps few activations.

The equations of the loss are cut into K stretches. Forward, what is alive at the cuts is kept;
backward, each stretch is computed again when its part of the gradient is due. So about

    3 Σ_k (bytes alive at cut k) + max_k (bytes that stretch k makes)

are held in place of all that is made: a value at a cut has a derivative, and a copy of that. K and
the cuts are those where this is least. Bodies of loops, where recurrent models are one equation,
keep their carries alone. Deep networks gain; one of few layers has nothing to cut.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var, jaxpr_as_fun

from meta_train.flat_program import scan_of
from tasks.base import Batch, Loss, ModelState, Params, Value, ValueAndGradient

MOST_STRETCHES = 32
COPIES = 3  # of a value at a cut


def differentiate_rematerialized(loss: Loss) -> ValueAndGradient:
    """The value and the gradient of a loss, from few kept activations."""

    def value_and_gradient(
        params: Params, model_state: ModelState, key: jax.Array, batch: Batch
    ) -> tuple[Value, Params]:
        leaves, structure = jax.tree.flatten((params, model_state, key, batch))

        def flat(*leaves: Any) -> Any:
            return loss(*jax.tree.unflatten(structure, leaves))

        closed, shapes = jax.make_jaxpr(flat, return_shape=True)(*leaves)
        jaxpr = closed.jaxpr
        wanted, params_structure = jax.tree.flatten(params)
        parts = stretches(jaxpr, best_cuts(jaxpr), jaxpr.invars[: len(wanted)])
        values = dict(
            zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *leaves], strict=True)
        )
        for part in parts:
            results = part.compute(*(values[v] for v in part.reads))
            values.update(zip(part.gives, results, strict=True))
        results = [v.val if isinstance(v, Literal) else values[v] for v in jaxpr.outvars]
        cotangents = _backward(parts, values, jaxpr.outvars[0])
        gradient = [
            cotangents.get(v, jnp.zeros_like(values[v])) for v in jaxpr.invars[: len(wanted)]
        ]
        return (
            jax.tree.unflatten(jax.tree.structure(shapes), results),
            jax.tree.unflatten(params_structure, gradient),
        )

    return value_and_gradient


class Stretch(NamedTuple):
    """Equations that are computed again together: ``compute`` makes what others need of them,
    ``gives``, of what they ``reads``; ``moved``: the reads that depend on the parameters.
    """

    compute: Callable[..., list[Any]]
    reads: list[Var]
    gives: list[Var]
    moved: list[Var]


def _backward(parts: Sequence[Stretch], values: dict, loss: Any) -> dict[Var, jax.Array]:
    """The derivatives of the loss by what the stretches read, from the last to the first."""
    cotangents: dict[Var, jax.Array] = {loss: jnp.ones_like(values[loss])}
    for part in reversed(parts):
        given = [v for v in part.gives if v in cotangents]
        if not given or not part.moved:
            continue

        def pulled(reads: Any, due: Any, part: Stretch = part, given: Any = given) -> Any:
            known = dict(zip(part.reads, reads, strict=True))

            def moving(*moved: Any) -> list[Any]:
                arguments = {**known, **dict(zip(part.moved, moved, strict=True))}
                made = dict(zip(part.gives, part.compute(*arguments.values()), strict=True))
                return [made[v] for v in given]

            return list(jax.vjp(moving, *(known[v] for v in part.moved))[1](due))

        found = once_more(
            pulled, [values[v] for v in part.reads], [cotangents.pop(v) for v in given]
        )
        for v, cotangent in zip(part.moved, found, strict=True):
            cotangents[v] = cotangents[v] + cotangent if v in cotangents else cotangent
    return cotangents


def once_more(function: Callable[..., Any], *operands: Any) -> Any:
    """``function(*operands)``, computed then and not before.

    An optimization barrier says so to most compilers. XLA's on CPU merges what is computed twice
    across barriers, but not into a branch of a loop.
    """
    if jax.default_backend() != "cpu":
        return function(*jax.lax.optimization_barrier(operands))
    shapes = jax.eval_shape(function, *operands)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    @partial(jax.checkpoint, prevent_cse=False)  # for whoever differentiates a gradient
    def body(carry: Any, now: jax.Array) -> tuple[Any, None]:
        return jax.lax.cond(now, lambda: function(*operands), lambda: carry), None

    return jax.lax.scan(body, zeros, jnp.asarray([True, False]))[0]


def _with_rematerialized_body(equation: Any) -> Any:
    """A loop that keeps its carries alone; any other equation as it is."""
    if equation.primitive.name != "scan":
        return equation
    body = equation.params["jaxpr"]
    again = jax.checkpoint(jaxpr_as_fun(body), prevent_cse=False)
    return equation.replace(
        params={**equation.params, "jaxpr": jax.make_jaxpr(again)(*body.in_avals)}
    )


def stretches(jaxpr: Jaxpr, cuts: Sequence[int], params: Sequence[Var]) -> list[Stretch]:
    """The equations between the cuts, numbers of equations that increase."""
    found = []
    moving = _moving(jaxpr, params)
    needed = {v for v in jaxpr.outvars if isinstance(v, Var)}
    for first, end in reversed(list(pairwise([0, *cuts, len(jaxpr.eqns)]))):
        equations = [_with_rematerialized_body(e) for e in jaxpr.eqns[first:end]]
        made = [v for e in equations for v in e.outvars]
        reads = dict.fromkeys(v for e in equations for v in e.invars if isinstance(v, Var))
        outside = [v for v in reads if v not in set(made)]
        gives = [v for v in made if v in needed]
        part = jaxpr.replace(
            constvars=[],
            invars=outside,
            outvars=gives,
            eqns=equations,
            debug_info=jaxpr.debug_info.with_unknown_names(),
        )
        compute = jaxpr_as_fun(ClosedJaxpr(part, ()))
        found.append(Stretch(compute, outside, gives, [v for v in outside if v in moving]))
        needed |= set(outside)
    return found[::-1]


def _moving(jaxpr: Jaxpr, params: Sequence[Var]) -> set[Var]:
    """The floating-point values that depend on the parameters."""
    moving = set(params)
    for equation in jaxpr.eqns:
        if any(isinstance(v, Var) and v in moving for v in equation.invars):
            moving |= {v for v in equation.outvars if jnp.issubdtype(_dtype(v), jnp.floating)}
    return moving


def best_cuts(jaxpr: Jaxpr) -> list[int]:
    """Where a gradient keeps the least: after so many equations each."""
    alive = _alive_between(jaxpr)
    made = np.concatenate([[0], np.cumsum([_made(e) for e in jaxpr.eqns], dtype=np.int64)])
    found = [_cuts_within(made, alive, made[-1] / k) for k in range(1, MOST_STRETCHES + 1)]
    return min(found, key=lambda f: f[0])[1]


def _cuts_within(made: np.ndarray, alive: np.ndarray, limit: float) -> tuple[int, list[int]]:
    """(bytes kept, cuts) of stretches that make at most ``limit`` bytes, or are one equation.

    By dynamic programming over the last cut; ``made``: bytes by the first i equations.
    """
    count = len(made) - 1
    least, before = np.zeros(count + 1, np.int64), np.zeros(count + 1, int)
    for i in range(1, count + 1):
        first = min(int(np.searchsorted(made, made[i] - limit)), i - 1)
        before[i] = first + np.argmin(least[first:i])
        least[i] = least[before[i]] + COPIES * alive[i]
    cuts, i = [], count
    while before[i] > 0:
        i = int(before[i])
        cuts.append(i)
    ends = [0, *cuts[::-1], count]
    return int(least[count] + max(made[b] - made[a] for a, b in pairwise(ends))), cuts[::-1]


def _alive_between(jaxpr: Jaxpr) -> np.ndarray:
    """Bytes made by the first i equations and read after them, for every i; 0 at the end."""
    last: dict[Var, int] = {}
    for i, equation in reversed(list(enumerate(jaxpr.eqns))):
        for v in equation.invars:
            if isinstance(v, Var):
                last.setdefault(v, i)
    alive = np.zeros(len(jaxpr.eqns) + 1, np.int64)
    for i, equation in enumerate(jaxpr.eqns):
        for v in equation.outvars:
            alive[i + 1 : last.get(v, i) + 1] += _bytes(v)
    return alive


def _made(equation: Any) -> int:
    """Bytes that a gradient of an equation keeps at most: its results, and those within."""
    results = sum(map(_bytes, equation.outvars))
    if equation.primitive.name == "scan":  # its carries: see `_with_rematerialized_body`
        consts, count = scan_of(equation)
        carries = equation.invars[consts:][:count]
        return results + equation.params["length"] * sum(map(_bytes, carries))
    inner = [p.jaxpr for p in equation.params.values() if isinstance(p, ClosedJaxpr)]
    return results + sum(_made(e) for jaxpr in inner for e in jaxpr.eqns)


def _bytes(v: Any) -> int:
    return v.aval.size * _dtype(v).itemsize


def _dtype(v: Any) -> Any:
    return v.aval.dtype
