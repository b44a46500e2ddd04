"""What a step of every rule costs on this machine, beside `optax.adam`:

python -m learned_opt.benchmark [--parameters=1000000] [--rules=mlp,adafactor_mlp] [--json=FILE]

All rules, Adam, a matrix product and a copy take turns, so that a busy machine slows them alike;
figures are medians over the turns, and ratios those to Adam in the same turn. The step is the
update and `optax.apply_updates`, compiled, its state and parameters donated. A rule with a kernel
on this machine is also there in its plain form. The share of the matrix-product rate counts the
nominal multiply-adds of the rule's network on every parameter, before anything that makes it
cheaper; that of the copy's rate counts the bytes that every form must move: gradients, parameters
and state read, the last two written.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt.base import LearnedOptimizer
from learned_opt.kernels import native
from learned_opt.rules import RULES

TURNS = 15
HIDDEN_LAYERS = 3
INPUTS, OUTPUTS = 256, 32
KERNELS = (native.TARGET, "xla.gpu.triton")
"""Names in a program that has a kernel of a rule in it."""

NUM_STEPS = 1_000
CONSTANTS: Mapping[str, Mapping[str, Any]] = {"normalized_mlp": {"learning_rate": 1e-3}}


class Cost(NamedTuple):
    """Of one step: milliseconds; their ratio to Adam; nominal GFLOP/s of the network and its
    share of the matrix-product rate, or None; nominal GB/s and their share of the copy's, or None;
    bytes of state a parameter; seconds to compile.
    """

    name: str
    milliseconds: float
    ratio_to_adam: float
    gflops: float | None
    share_of_product: float | None
    gigabytes_per_second: float | None
    share_of_copy: float | None
    state_bytes: float
    compile_seconds: float


class Contestant(NamedTuple):
    """``call()`` makes one step and waits for it; ``flops``: nominal, of its network;
    ``moved``: bytes, nominal; ``kernel``: it has one of ours in it.
    """

    name: str
    call: Callable[[], Any]
    flops: float | None
    moved: float | None
    state_bytes: float
    compile_seconds: float
    kernel: bool = False


def model(parameters: int) -> dict[str, jax.Array]:
    """A multilayer perceptron with about so many parameters: four matrices and their biases."""
    rest = INPUTS + OUTPUTS
    width = (np.sqrt(rest**2 + 4 * (HIDDEN_LAYERS - 1) * parameters) - rest) / 2 / 2
    # Wide layers have widths that vectors divide.
    step = 32 if width > 256 else 1
    sizes = [INPUTS, *[max(1, step * round(width / step))] * HIDDEN_LAYERS, OUTPUTS]
    keys = jax.random.split(jax.random.key(0), len(sizes))
    params = {}
    for i, (rows, columns) in enumerate(pairwise(sizes)):
        params[f"w{i}"] = jax.random.normal(keys[i], (rows, columns)) * rows**-0.5
        params[f"b{i}"] = jnp.zeros(columns)
    return params


def contestant(
    name: str,
    tx: optax.GradientTransformationExtraArgs,
    params: optax.Params,
    flops: float | None = None,
) -> Contestant:
    """A compiled step of an optimizer, that goes on from where the one before it stopped."""
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    held = jax.tree.map(lambda x: jnp.array(x, copy=True), (params, tx.init(params)))
    gradients = jax.tree.map(lambda p: 0.01 * p + 1e-4, params)

    def step(carry: Any, gradients: optax.Updates) -> Any:
        params, state = carry
        updates, state = tx.update(gradients, state, params, value=1.0)
        return optax.apply_updates(params, updates), state

    started = time.perf_counter()
    lowered = jax.jit(step, donate_argnums=0).lower(held, gradients)
    compiled = lowered.compile()
    seconds = time.perf_counter() - started
    kernel = any(target in lowered.as_text() for target in KERNELS)
    state = [held]

    def call() -> None:
        state[0] = jax.block_until_ready(compiled(state[0], gradients))

    of_state, of_gradients = (
        sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) for tree in (held[1], gradients)
    )
    moved = of_gradients + 2.0 * (of_gradients + of_state)
    return Contestant(name, call, flops, moved, of_state / size, seconds, kernel)


def product_size() -> int:
    """Rows of the matrices whose product stands for the machine's rate: some milliseconds of it."""
    return 2048 if jax.default_backend() == "cpu" else 8192


def copied_size() -> int:
    """Numbers of the array whose copy stands for the memory's rate: beyond all caches."""
    return 1 << (24 if jax.default_backend() == "cpu" else 28)


def matrix_product() -> Contestant:
    """The product of two matrices, whose rate stands for the machine's."""
    matrix = jnp.ones((product_size(), product_size()))
    product = jax.jit(lambda a: a @ a)
    return Contestant(
        "matrix product",
        lambda: jax.block_until_ready(product(matrix)),
        2.0 * product_size() ** 3,
        None,
        0.0,
        0.0,
    )


def copy() -> Contestant:
    """A pass that reads and writes an array beyond the caches: its rate stands for the memory's."""
    numbers = jnp.ones(copied_size())
    negative = jax.jit(jnp.negative)
    return Contestant(
        "copy", lambda: jax.block_until_ready(negative(numbers)), None, 8.0 * numbers.size, 0.0, 0.0
    )


def nominal_flops(optimizer: LearnedOptimizer) -> float | None:
    """Two for every weight of the per-parameter network: of one parameter; None without one."""
    shapes = jax.eval_shape(optimizer.init, jax.random.key(0))
    weights = [
        leaf.size
        for path, leaf in jax.tree.leaves_with_path(shapes)
        if "mlp/~/linear" in jax.tree_util.keystr(path) and leaf.ndim == 2
    ]
    return 2.0 * sum(weights) if weights else None


def of_rule(name: str, params: optax.Params) -> list[Contestant]:
    """The rule with its own constants and a random θ; and its plain form, where that is another."""
    optimizer = RULES[name](**CONSTANTS.get(name, {}))
    tx = optimizer.build(optimizer.init(jax.random.key(0)), num_steps=NUM_STEPS)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    flops = nominal_flops(optimizer)
    flops = None if flops is None else flops * size
    usual = contestant(name, tx, params, flops)
    if not usual.kernel:
        return [usual]
    with native.plain_forms():
        return [usual, contestant(f"{name}, plain", tx, params, flops)]


def take_turns(calls: Sequence[Callable[[], Any]], turns: int) -> np.ndarray:
    """Seconds of every call in every turn, [calls, turns], after one call of each.

    A call returns what is to be waited for, if it has not waited itself.
    """
    for call in calls:
        jax.block_until_ready(call())
    seconds = np.zeros((len(calls), turns))
    for turn in range(turns):
        for i, call in enumerate(calls):
            started = time.perf_counter()
            jax.block_until_ready(call())
            seconds[i, turn] = time.perf_counter() - started
    return seconds


def compare(
    adam: Contestant,
    product: Contestant,
    copied: Contestant,
    others: Sequence[Contestant],
    turns: int,
) -> list[Cost]:
    """Let all take turns; Adam first, then the others in their order."""
    everyone = [adam, product, copied, *others]
    taken = take_turns([one.call for one in everyone], turns)
    seconds = {one.name: of_one for one, of_one in zip(everyone, taken, strict=True)}
    assert product.flops is not None
    assert copied.moved is not None
    most_flops = product.flops / float(np.median(seconds[product.name]))
    most_bytes = copied.moved / float(np.median(seconds[copied.name]))

    def cost(one: Contestant) -> Cost:
        median = float(np.median(seconds[one.name]))
        flops = None if one.flops is None else one.flops / median
        moved = None if one.moved is None else one.moved / median
        return Cost(
            name=one.name,
            milliseconds=1e3 * median,
            ratio_to_adam=float(np.median(np.divide(seconds[one.name], seconds[adam.name]))),
            gflops=None if flops is None else flops / 1e9,
            share_of_product=None if flops is None else flops / most_flops,
            gigabytes_per_second=None if moved is None else moved / 1e9,
            share_of_copy=None if moved is None else moved / most_bytes,
            state_bytes=one.state_bytes,
            compile_seconds=one.compile_seconds,
        )

    return [cost(one) for one in everyone]


def measure(parameters: int, rules: Sequence[str], turns: int = TURNS) -> list[Cost]:
    """The costs of rules on a model of about so many parameters."""
    params = model(parameters)
    adam = contestant("optax.adam", optax.with_extra_args_support(optax.adam(1e-3)), params)
    others = [one for name in rules for one in of_rule(name, params)]
    return compare(adam, matrix_product(), copy(), others, turns)


def table(costs: Sequence[Cost]) -> str:
    """The costs for a terminal."""
    rows = [
        f"{'':<26}{'ms':>9}{'÷ Adam':>9}{'GFLOP/s':>9}{'of product':>11}{'GB/s':>8}{'of copy':>9}"
        f"{'state B':>9}{'compile s':>11}"
    ]

    def share(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.0f} %"

    for c in costs:
        flops = "" if c.gflops is None else f"{c.gflops:.1f}"
        moved = "" if c.gigabytes_per_second is None else f"{c.gigabytes_per_second:.1f}"
        rows.append(
            f"{c.name:<26}{c.milliseconds:>9.2f}{c.ratio_to_adam:>9.2f}{flops:>9}"
            f"{share(c.share_of_product):>11}{moved:>8}{share(c.share_of_copy):>9}"
            f"{c.state_bytes:>9.1f}{c.compile_seconds:>11.1f}"
        )
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description="What a step of every update rule costs.")
    parser.add_argument("--parameters", type=int, default=1_000_000, help="of the model, about")
    parser.add_argument("--rules", default=",".join(RULES), help="names, with commas between")
    parser.add_argument("--turns", type=int, default=TURNS, help="that every rule takes")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(arguments)
    rules = [name for name in given.rules.split(",") if name]
    if unknown := sorted(set(rules) - set(RULES)):
        parser.error(f"unknown rules {unknown}; legal ones: {', '.join(RULES)}")
    if given.parameters < 1_000 or given.turns < 1:
        parser.error("--parameters must be at least 1000, and --turns at least 1")
    costs = measure(given.parameters, rules, given.turns)
    size = sum(leaf.size for leaf in jax.tree.leaves(model(given.parameters)))
    print(f"{size:,} parameters on {jax.devices()[0].device_kind}\n{table(costs)}")
    if given.json:
        figures = {"parameters": size, "costs": [cost._asdict() for cost in costs]}
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
