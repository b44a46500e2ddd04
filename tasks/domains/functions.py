"""Regression of functions: sinusoids, and a texture from its coordinates.

    sinusoids         y = A sin(x − φ), x ~ U(−5, 5)                        (Finn et al. 2017)
    SIREN             sin(ω₀ (W h + b))                                     (Sitzmann et al. 2020)
    Fourier features  [cos 2πBv, sin 2πBv], B ~ N(0, s²), then an MLP       (Tancik et al. 2020)

Losses are mean squares over the target's power, so that predicting 0 has a loss of 1.
"""

from collections.abc import Callable, Sequence
from functools import partial

import haiku as hk
import jax
import jax.numpy as jnp

from tasks.base import Batch, Configuration, Metrics, Task, TaskFamily, TaskMetadata
from tasks.catalogue import AdamTarget, ParametricFamily, Row
from tasks.haiku_task import haiku_task
from tasks.images.perceptrons import mlp
from tasks.images.variation import ACTIVATIONS
from tasks.synthetic import drawing, load

BATCH_SIZE, HORIZON = 64, 200
AMPLITUDES = (1.0, 5.0)
REACH = 5.0
WAVES, WAVE_NUMBER = 6, 2.0  # waves of a texture, standard deviation of their cycles a side
OMEGA = 10.0  # ω₀: the texture has fewer cycles than the photographs of the paper
FEATURES, FEATURE_SCALE = 32, 2.0
OUTPUT_SCALE = 0.3  # keeps an untrained network near 0

Network = Callable[[Configuration, jax.Array], jax.Array]


def sine_family(name: str, widths: Sequence[int], activation: str = "relu") -> TaskFamily:
    """Sinusoids with an amplitude and a phase of their own, by a perceptron."""

    def sample(key: jax.Array) -> Configuration:
        key_amplitude, key_phase = jax.random.split(key)
        low, high = AMPLITUDES
        return {
            "amplitude": jax.random.uniform(key_amplitude, (), minval=low, maxval=high),
            "phase": jax.random.uniform(key_phase, (), maxval=jnp.pi),
        }

    def build(cfg: Configuration) -> Task:
        def loss(batch: Batch) -> tuple[jax.Array, Metrics]:
            target = cfg["amplitude"] * jnp.sin(batch["input"][:, 0] - cfg["phase"])
            inputs = batch["input"] / REACH
            output = mlp(inputs, widths, 1, ACTIVATIONS[activation])[:, 0]
            power = 0.5 * jnp.square(cfg["amplitude"])
            return jnp.mean(jnp.square(output - target)) / power, {}

        return haiku_task(loss, draw(jax.random.key(0), 1))

    def draw(key: jax.Array, count: int) -> Batch:
        return {"input": jax.random.uniform(key, (count, 1), minval=-REACH, maxval=REACH)}

    return _family(name, "mlp", activation, widths, sample, build, draw)


def siren_init(fan_in: int, first: bool) -> hk.initializers.RandomUniform:
    """U(−1/n, 1/n) in the first layer, U(−√(6/n)/ω₀, √(6/n)/ω₀) in the others."""
    bound = 1 / fan_in if first else (6 / fan_in) ** 0.5 / OMEGA
    return hk.initializers.RandomUniform(-bound, bound)


def siren(cfg: Configuration, position: jax.Array, widths: Sequence[int]) -> jax.Array:
    """Sines of linear layers; shapes [B, 2] → [B]."""
    del cfg
    hidden = position
    for i, width in enumerate(widths):
        weights = siren_init(hidden.shape[-1], first=i == 0)
        hidden = jnp.sin(OMEGA * hk.Linear(width, w_init=weights, name=f"hidden_{i}")(hidden))
    last = siren_init(hidden.shape[-1], first=False)
    return hk.Linear(1, w_init=last, name="output")(hidden)[:, 0]


def fourier(cfg: Configuration, position: jax.Array, widths: Sequence[int]) -> jax.Array:
    """A perceptron of random features, which belong to the task; shapes [B, 2] → [B]."""
    angle = 2 * jnp.pi * position @ cfg["features"]
    features = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    return OUTPUT_SCALE * mlp(features, widths, 1)[:, 0]


def plain(cfg: Configuration, position: jax.Array, widths: Sequence[int]) -> jax.Array:
    """A perceptron of the coordinates themselves; shapes [B, 2] → [B]."""
    del cfg
    return OUTPUT_SCALE * mlp(position, widths, 1, jnp.tanh)[:, 0]


NETWORKS = {"siren": (siren, "sine"), "fourier": (fourier, "relu"), "plain": (plain, "tanh")}


def texture(waves: jax.Array, phases: jax.Array, position: jax.Array) -> jax.Array:
    """√(2/K) Σ sin(π kᵀv + φ) of mean square about 1; [2, K], [K], [B, 2] → [B]."""
    angle = jnp.pi * position @ waves + phases[None]
    return jnp.sum(jnp.sin(angle), axis=-1) * (2 / phases.size) ** 0.5


def coordinate_family(name: str, network: str, widths: Sequence[int]) -> TaskFamily:
    """Textures with waves of their own, on v ∈ [−1, 1]², by a network of the table."""
    forward, activation = NETWORKS[network]

    def sample(key: jax.Array) -> Configuration:
        key_waves, key_phases, key_features = jax.random.split(key, 3)
        return {
            "waves": WAVE_NUMBER * jax.random.normal(key_waves, (2, WAVES)),
            "phases": jax.random.uniform(key_phases, (WAVES,), maxval=2 * jnp.pi),
            "features": FEATURE_SCALE / 2 * jax.random.normal(key_features, (2, FEATURES)),
        }

    def build(cfg: Configuration) -> Task:
        def loss(batch: Batch) -> tuple[jax.Array, Metrics]:
            target = texture(cfg["waves"], cfg["phases"], batch["position"])
            output = forward(cfg, batch["position"], widths)
            # over the batch's own power: a random texture's is not 1
            return jnp.mean(jnp.square(output - target)) / jnp.mean(jnp.square(target)), {}

        return haiku_task(loss, draw(jax.random.key(0), 1))

    def draw(key: jax.Array, count: int) -> Batch:
        return {"position": jax.random.uniform(key, (count, 2), minval=-1.0, maxval=1.0)}

    return _family(name, network, activation, widths, sample, build, draw)


def _family(
    name: str,
    architecture: str,
    activation: str,
    widths: Sequence[int],
    sample: Callable[[jax.Array], Configuration],
    build: Callable[[Configuration], Task],
    draw: Callable[[jax.Array, int], Batch],
) -> TaskFamily:
    metadata = TaskMetadata(
        "function regression", architecture, activation, "synthetic", tuple(widths), BATCH_SIZE,
        HORIZON, 1.0,
    )  # fmt: skip
    return TaskFamily(name, metadata, load, sample, build, *drawing(draw, BATCH_SIZE))


def _row(name: str, make: Callable[..., TaskFamily], share: float, *how: object) -> Row:
    return Row(name, partial(make, name, *how), AdamTarget(1e-2, 60, share))


ROWS = (
    _row("sine_mlp40x40", sine_family, 0.6, (40, 40)),
    _row("sine_mlp64_tanh", sine_family, 0.9, (64,), "tanh"),
    _row("texture_mlp32x32_tanh", coordinate_family, 0.95, "plain", (32, 32)),
    _row("texture_siren32x32", coordinate_family, 0.4, "siren", (32, 32)),
    _row("texture_fourier32x32", coordinate_family, 0.2, "fourier", (32, 32)),
)

FAMILIES = (
    ParametricFamily(
        "sine_regressions",
        "sinusoids; amplitude and phase vary",
        ({"widths": [32]}, {"widths": [40, 40]}, {"widths": [64, 64], "activation": "tanh"}),
        sine_family,
        AdamTarget(1e-2, 100, 0.8),
    ),
    ParametricFamily(
        "coordinate_networks",
        "textures from coordinates; waves and features vary",
        tuple({"network": network, "widths": [32, 32]} for network in ("siren", "fourier")),
        coordinate_family,
        AdamTarget(1e-2, 60, 0.4),
    ),
)
