"""Meta-training a learned optimizer: who is ahead at equal inner steps.

The per-parameter MLP of 19 features and 32-32 hidden units trains small classifiers of 8×8 images;
Adam trains the MLP, its rate falling to zero. The metric is the mean training loss of episodes
from fresh initial parameters at the θ at hand.
"""

import dataclasses
from collections.abc import Mapping
from itertools import pairwise

import jax
import numpy as np

from meta_train.assemble import Run, assemble
from meta_train.config import MetaTrainConfig
from meta_train.loop import compile_advance
from meta_train.presets import CONSTANTS
from meta_train.problem import Theta
from meta_train.problems.optimizer_training import optimizer_training
from meta_train.reproduce.experiment import (
    LABELS,
    Claim,
    Curve,
    Effort,
    Experiment,
    Panel,
    Result,
)
from meta_train.reproduce.measures import in_words
from meta_train.reproduce.scores import mean_curves

POINTS = 6
TEST_RUNS = 8
BINS = 30
EARLY = 10
"""Inner steps; an estimator of short horizon may look better in them than it is."""
PERSISTENT = ("pes", "nres")
TRUNCATED = ("truncated_es", "truncated_backprop")

FULL = MetaTrainConfig(
    task="fashion_mnist_8x8_mlp32x32x32",
    particles=100,
    window=10,
    length_min=1000,
    length_max=1000,
    updates=POINTS * 175,
    learning_rate=2e-3,
    learning_rate_end=0.0,
    warmup=1,
    constants=CONSTANTS["mlp"],
)
FAST = dataclasses.replace(
    FULL,
    task="fashion_mnist_8x8_mlp8",
    particles=32,
    window=5,
    length_min=500,
    length_max=500,
    updates=POINTS * 175,
    learning_rate=3e-3,
)


def train(config: MetaTrainConfig, seeds: int) -> tuple[Run, Theta]:
    """θ at `POINTS` points of every seed, [seeds, points, …]: one compilation for all."""
    run = assemble(config)
    count = np.int32(config.updates // POINTS)
    histories = []
    advance = None
    for seed in range(seeds):
        keys = jax.random.split(jax.random.key(seed))
        key_init, key_updates = jax.device_put(keys, run.key_init.sharding)
        state = run.training.init(key_init)
        advance = advance or compile_advance(run, state)
        thetas = []
        for _ in range(POINTS):
            state, _ = advance(state, count, key_updates, run.data)
            thetas.append(jax.device_get(state.theta))
        histories.append(_stack(thetas))
    return run, _stack(histories)


def _stack(trees: list[Theta]) -> Theta:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def run(effort: Effort) -> Result:
    """168,000 inner steps on a small classifier each, or 1,050,000 on one of the paper's size."""
    config = FAST if effort.fast else FULL
    thetas = {}
    for name in PERSISTENT + TRUNCATED:
        parts, thetas[name] = train(dataclasses.replace(config, estimator=name), effort.seeds)
    curves = score(parts, thetas)
    inner_steps = config.window * config.particles * config.updates
    return Result(
        panels=panels(curves, config),
        claims=claims(curves),
        figures={
            "inner_steps": np.linspace(0, inner_steps, POINTS + 1)[1:],
            "mean_loss": {LABELS[name]: c.mean(axis=-1) for name, c in curves.items()},
            "final_curve": {LABELS[name]: c[:, -1].mean(axis=0) for name, c in curves.items()},
        },
        notes=[
            f"{config.task}: batches of 64 (the paper: 128); episodes of "
            f"{config.length_max} steps in windows of {config.window}, N = {config.particles}, "
            f"σ = {config.sigma:g}; Adam from {config.learning_rate:g} to 0 (the paper: 3e-4), "
            f"constants {config.constants}; {inner_steps:,} inner steps by every estimator.",
            "Backpropagation averages as many episodes as there are particles; one of its inner "
            "steps takes about seven times as long.",
        ],
    )


def score(run: Run, thetas: Mapping[str, Theta]) -> dict[str, np.ndarray]:
    """The mean training loss by inner step at every θ: [seeds, points, T], by estimator."""
    problem = optimizer_training(run.family, run.optimizer)
    curves = mean_curves(problem, run.config.length_max, TEST_RUNS)
    data = jax.device_get(run.data)
    result = {}
    for name, theta in thetas.items():
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), theta)
        result[name] = curves(flat, data).reshape(-1, POINTS, run.config.length_max)
    return result


def panels(curves: Mapping[str, np.ndarray], config: MetaTrainConfig) -> list[Panel]:
    """The metric over meta-training, and the curve of an inner run with the last θ."""
    inner_steps = config.window * config.particles * config.updates
    steps = np.linspace(0, inner_steps, POINTS + 1)[1:]
    progress = [Curve(LABELS[n], steps, c.mean(axis=-1)) for n, c in curves.items()]
    edges = np.unique(np.geomspace(1, config.length_max, BINS + 1).astype(int))
    last = [Curve(LABELS[n], *_binned(c[:, -1], edges)) for n, c in curves.items()]
    return [
        Panel("Mean loss of an episode", "inner steps spent", "training loss", progress,
              y_scale="log"),
        Panel("Training with the last θ", "inner step", "training loss", last,
              x_scale="log", y_scale="log"),
    ]  # fmt: skip


def _binned(curves: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middles of the bins between edges, and the means in them: [bins], [seeds, bins]."""
    parts = [curves[:, low:high].mean(axis=1) for low, high in pairwise(edges)]
    return np.sqrt(edges[:-1] * edges[1:]), np.stack(parts, axis=1)


def claims(curves: Mapping[str, np.ndarray]) -> list[Claim]:
    """What the paper's figure says, of the last θ.

    Args:
      curves: training loss [seeds, points, T] by estimator.
    """
    last = {name: c[:, -1].mean(axis=-1) for name, c in curves.items()}
    found = [
        Claim(
            f"{LABELS[ahead]} is ahead of {LABELS[behind]} at equal inner steps, at every seed",
            bool((last[ahead] < last[behind]).all()),
            f"mean loss {in_words(last[ahead])} against {in_words(last[behind])}",
        )
        for ahead in PERSISTENT
        for behind in TRUNCATED
    ]
    return [*found, *_short_horizons(curves)]


def _short_horizons(curves: Mapping[str, np.ndarray]) -> list[Claim]:
    """The last θ judged by the first `EARLY` inner steps, and by the whole episode."""
    early, whole = (
        {name: np.median(c[:, -1, :steps].mean(axis=-1)) for name, c in curves.items()}
        for steps in (EARLY, None)
    )
    with np.errstate(invalid="ignore"):  # what diverges is infinite
        ratios = {n: (early[n] / early["nres"], whole[n] / whole["nres"]) for n in curves}
    measured = {
        name: f"median loss ÷ that of NRES: {first:.3g} over {EARLY} steps, {last:.3g} over all"
        for name, (first, last) in ratios.items()
    }
    backprop, truncated = ratios["truncated_backprop"], ratios["truncated_es"]
    return [
        Claim(
            f"TBPTT has a short horizon: ahead of NRES over {EARLY} inner steps, behind over all",
            bool(backprop[0] < 1 < backprop[1]),
            measured["truncated_backprop"],
        ),
        Claim(
            "So has truncated ES: the longer the horizon, the further it is behind NRES",
            bool(max(1, 1.1 * truncated[0]) < truncated[1]),
            measured["truncated_es"],
        ),
    ]


LEARNED_OPTIMIZER = Experiment(
    name="learned_optimizer",
    title="Meta-training a learned optimizer",
    source="Li et al. 2023 (arXiv:2304.12180); Vicol et al. 2021 (arXiv:2112.13835)",
    run=run,
)
