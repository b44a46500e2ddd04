"""The arithmetic of an inner step that no implementation of it gets around.

    multiply-adds = (weights of the rule's per-parameter network) · (parameters of the model)
                  + 3 · (multiply-adds of the model's loss on a minibatch)

the factor 3 being the backward pass, at twice the forward one. The network is counted on all of
its inputs, before anything that makes it cheaper; products and convolutions alone are counted.
"""

import math
from typing import Any

import jax

from learned_opt import LearnedOptimizer
from learned_opt.benchmark import nominal_flops
from tasks import TaskFamily

PASSES = 3  # forward, and the backward pass at twice its cost


def inner_step_flops(family: TaskFamily, optimizer: LearnedOptimizer) -> float:
    """Nominal operations of one inner step of one particle, two for a multiply-add."""
    key = jax.random.key(0)
    task = family.build(family.sample(key))
    params, model_state = jax.eval_shape(task.init, key)
    batch = jax.eval_shape(family.batch, key, family.load()["train"])
    forward = multiply_adds(jax.make_jaxpr(task.loss)(params, model_state, key, batch).jaxpr)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    return (nominal_flops(optimizer) or 0.0) * size + PASSES * 2.0 * forward


def multiply_adds(jaxpr: Any) -> float:
    """Of all products and convolutions of a jaxpr, with what it calls."""
    total = 0.0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval
            outputs = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
            total += equation.outvars[0].aval.size * kernel.size / outputs
        else:
            times = equation.params["length"] if name == "scan" else 1
            total += times * sum(map(multiply_adds, _called(equation.params)))
    return total


def _called(parameters: dict[str, Any]) -> list[Any]:
    """The jaxprs among the parameters of an equation."""
    leaves = jax.tree.leaves(parameters, is_leaf=_is_jaxpr)
    return [getattr(leaf, "jaxpr", leaf) for leaf in leaves if _is_jaxpr(leaf)]


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")
