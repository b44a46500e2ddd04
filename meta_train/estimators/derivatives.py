"""What the estimators that differentiate need of a problem: a derivative, and its real part.

An inner state may hold integers, booleans and keys beside its floating-point arrays; only the
latter have a derivative.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from meta_train.problem import Data, Theta, UnrolledProblem

Leaves = list[Any]
WAY_OUT = "choose an evolution-strategies estimator: pes, nres, gpes, truncated_es or full_es"
CALLS = ("jit", "pjit", "closed_call", "checkpoint")  # primitives that apply their jaxpr once


def split_floating(state: Any) -> tuple[Leaves, Leaves, Callable[[Leaves, Leaves], Any]]:
    """The floating-point leaves of a state, the others, and the function that joins them."""
    leaves, treedef = jax.tree.flatten(state)
    leaves = [leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf) for leaf in leaves]
    floating = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]

    def join(floats: Leaves, others: Leaves) -> Any:
        sources = {True: iter(floats), False: iter(others)}
        return jax.tree.unflatten(treedef, [next(sources[kind]) for kind in floating])

    parts = {
        wanted: [leaf for leaf, kind in zip(leaves, floating, strict=True) if kind is wanted]
        for wanted in (True, False)
    }
    return parts[True], parts[False], join


def check_derivative(
    estimator: str, problem: UnrolledProblem, key: jax.Array, theta: Theta, data: Data, mode: str
) -> None:
    """Raise ValueError, while tracing, for a problem that has no derivative by θ.

    That is one that JAX cannot differentiate in this ``mode``, "forward" or "reverse" (a
    callback in neither, a loop of unknown length in reverse), and one whose loss depends on θ,
    directly or through the state, but only by operations whose derivative is zero everywhere
    (an accuracy, a rank). A loss that does not depend on θ at all has the gradient zero.
    """
    try:
        by_value, by_tangent = _loss_depends_on_theta(problem, key, theta, data)
        if mode == "reverse":
            _trace_reverse(problem, key, theta, data)
    except Exception as error:
        raise ValueError(
            f"`{estimator}` needs the derivative of `problem` in {mode} mode, and JAX cannot take "
            f"it ({str(error).splitlines()[0]}); {WAY_OUT}"
        ) from error
    if by_value and not by_tangent:
        raise ValueError(
            f"`{estimator}` needs the derivative of `problem`, and that of its loss is zero "
            f"everywhere, though the loss depends on θ; {WAY_OUT}"
        )


def _trace_reverse(problem: UnrolledProblem, key: jax.Array, theta: Theta, data: Data) -> None:
    """Trace a step backwards; JAX raises where it cannot."""
    floats, others, join = split_floating(jax.eval_shape(problem.init, key, theta))

    def backwards(theta: Theta, floats: Leaves, others: Leaves, key: jax.Array, data: Data) -> Any:
        def loss(theta: Theta, floats: Leaves) -> jax.Array:
            state, loss = problem.step(key, theta, join(floats, others), data)
            return loss + sum(leaf.sum() for leaf in split_floating(state)[0])

        return jax.grad(loss, argnums=(0, 1))(theta, floats)

    jax.eval_shape(backwards, theta, floats, others, key, data)


def _loss_depends_on_theta(
    problem: UnrolledProblem, key: jax.Array, theta: Theta, data: Data
) -> tuple[bool, bool]:
    """Whether the loss of some step depends on θ, and whether its tangent does on that of θ."""
    floats, others, join = split_floating(jax.eval_shape(problem.init, key, theta))

    def init(theta: Theta, tangent: Theta, key: jax.Array) -> tuple:
        return jax.jvp(
            lambda theta: split_floating(problem.init(key, theta))[0], (theta,), (tangent,)
        )

    def step(primals: tuple, tangents: tuple, others: Leaves, key: jax.Array, data: Data) -> tuple:
        def outputs(theta: Theta, floats: Leaves) -> Leaves:
            state, loss = problem.step(key, theta, join(floats, others), data)
            return [*split_floating(state)[0], loss]

        return jax.jvp(outputs, primals, tangents)

    of_init = dependences(jax.make_jaxpr(init)(theta, theta, key).jaxpr)
    both = (theta, floats)
    of_step = dependences(jax.make_jaxpr(step)(both, both, others, key, data).jaxpr)
    p, s = len(jax.tree.leaves(theta)), len(floats)
    by_value = _reaches_loss(of_init[:s], of_step[: s + 1], p, 0, 0)
    by_tangent = _reaches_loss(of_init[s:], of_step[s + 1 :], p, p, p + s)
    return by_value, by_tangent


def _reaches_loss(
    of_init: Sequence[set[int]],
    of_step: Sequence[set[int]],
    p: int,
    first_of_init: int,
    first_of_step: int,
) -> bool:
    """Whether θ, ``p`` inputs from ``first_…`` on, reaches the last output of the step.

    The other outputs of the step are the state, its inputs behind θ: influence may take
    several steps to arrive.
    """
    theta_of_init = set(range(first_of_init, first_of_init + p))
    live = set(range(first_of_step, first_of_step + p))
    live |= {first_of_step + p + i for i, found in enumerate(of_init) if found & theta_of_init}
    for _ in of_step:
        live |= {first_of_step + p + i for i, found in enumerate(of_step[:-1]) if found & live}
    return bool(of_step[-1] & live)


def dependences(jaxpr: Any) -> list[set[int]]:
    """For every output of a jaxpr, the numbers of the inputs that it may depend on."""
    found: dict[Any, set[int]] = {variable: {i} for i, variable in enumerate(jaxpr.invars)}

    def of(variable: Any) -> set[int]:
        return set() if hasattr(variable, "val") else found.get(variable, set())

    for equation in jaxpr.eqns:
        inputs = [of(variable) for variable in equation.invars]
        if equation.primitive.name in CALLS:
            inner = dependences(equation.params["jaxpr"].jaxpr)
            outputs = [set().union(*(inputs[i] for i in reached)) for reached in inner]
        else:
            outputs = [set().union(*inputs)] * len(equation.outvars)
        found.update(zip(equation.outvars, outputs, strict=True))
    return [of(variable) for variable in jaxpr.outvars]
