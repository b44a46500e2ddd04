"""Policies that control small systems, trained by evolution strategies.

    L = mean cost of an episode under the policy / the same under no control

Start states are the batch [B, S]; a policy sees the state, its action is in [−1, 1].
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from tasks.analytic.noisy import log_uniform
from tasks.base import Batch, Configuration, Task, TaskFamily, TaskMetadata
from tasks.catalogue import AdamTarget, ParametricFamily, Row
from tasks.evolution import evolved
from tasks.images.perceptrons import mlp
from tasks.synthetic import drawing, load

BATCH_SIZE, HORIZON, PAIRS, EPISODE = 16, 200, 16, 20
FIRST = hk.initializers.TruncatedNormal(0.01)  # an untrained policy does little
ACTION_SCALE = 0.3
TIME_STEP = 0.1
SIGMAS, CONSTANTS = (0.03, 0.3), (0.7, 1.4)  # of tasks that vary: log-uniform

Policy = Callable[[jax.Array], jax.Array]


class System(NamedTuple):
    """``step(constant, state, action) -> (state, cost)``: [B, S], [B] → [B, S], [B].

    A start is uniform within ``reach`` of 0 in each entry, around ``centre``.
    """

    centre: tuple[float, ...]
    reach: tuple[float, ...]
    step: Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def point_mass(
    constant: jax.Array, state: jax.Array, action: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """A mass on a line is to rest at 0; ``constant`` is its mass."""
    place, speed = state.T
    speed = speed + TIME_STEP * 3 * action / constant
    place = place + TIME_STEP * speed
    cost = jnp.square(place) + 0.1 * jnp.square(speed) + 0.01 * jnp.square(action)
    return jnp.stack([place, speed], axis=1), cost


def pendulum(
    constant: jax.Array, state: jax.Array, action: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """A pendulum is to stand up, at angle 0; ``constant`` scales gravity."""
    angle, speed = state.T
    speed = speed + TIME_STEP * (5 * constant * jnp.sin(angle) + 8 * action)
    angle = angle + TIME_STEP * speed
    cost = 1 - jnp.cos(angle) + 0.01 * jnp.square(speed) + 0.01 * jnp.square(action)
    return jnp.stack([angle, speed], axis=1), cost


def cart_pole(
    constant: jax.Array, state: jax.Array, action: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """A pole is to stand on a cart at 0 (Barto et al. 1983); ``constant`` scales its length."""
    place, speed, angle, turn = state.T
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    length = 0.5 * constant
    push = (10 * action + 0.1 * length * jnp.square(turn) * sine) / 1.1
    bend = (9.8 * sine - cosine * push) / (length * (4 / 3 - 0.1 * jnp.square(cosine) / 1.1))
    pull = push - 0.1 * length * bend * cosine / 1.1
    speed, turn = speed + 0.5 * TIME_STEP * pull, turn + 0.5 * TIME_STEP * bend
    place, angle = place + 0.5 * TIME_STEP * speed, angle + 0.5 * TIME_STEP * turn
    cost = 1 - jnp.cos(angle) + 0.05 * jnp.square(place) + 0.01 * jnp.square(action)
    return jnp.stack([place, speed, angle, turn], axis=1), cost


def bandit(constant: jax.Array, state: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Contexts that do not change: the best action is a bend of two features."""
    best = jnp.tanh(2 * constant * state[:, 0]) * jnp.cos(state[:, 1])
    return state, jnp.square(action - best)


SYSTEMS = {
    "point_mass": System((0.0, 0.0), (1.0, 1.0), point_mass),
    "pendulum": System((0.0, 0.0), (0.5, 0.5), pendulum),
    "cart_pole": System((0.0,) * 4, (0.2,) * 4, cart_pole),
    "bandit": System((0.0, 0.0), (1.0, 1.0), bandit),
}


def episode_cost(
    system: System, constant: jax.Array, policy: Policy, start: jax.Array
) -> jax.Array:
    """Mean cost of `EPISODE` steps from the starts; [B, S] → []."""

    def step(state: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        return system.step(constant, state, policy(state))

    return jnp.mean(jax.lax.scan(step, start, None, EPISODE)[1])


def control_family(
    name: str,
    system: str,
    widths: Sequence[int],
    sigmas: tuple[float, float] = SIGMAS,
    constants: tuple[float, float] = CONSTANTS,
) -> TaskFamily:
    """Policies of a system of the table; σ and the constant are drawn between their bounds."""
    controlled = SYSTEMS[system]

    def sample(key: jax.Array) -> Configuration:
        key_sigma, key_constant = jax.random.split(key)
        constant = log_uniform(key_constant, constants)
        return {"sigma": log_uniform(key_sigma, sigmas), "constant": constant}

    def act(state: jax.Array) -> jax.Array:
        told = mlp(state, widths, 1, jnp.tanh, last_init=FIRST)
        return jnp.tanh(ACTION_SCALE * told[:, 0])

    def build(cfg: Configuration) -> Task:
        network = hk.without_apply_rng(hk.transform(act))

        def init(key: jax.Array) -> tuple[Any, Any]:
            return network.init(key, jnp.zeros((1, len(controlled.reach)))), {}

        def loss(params: Any, model_state: Any, key: jax.Array, batch: Batch) -> tuple:
            del key
            cost = partial(episode_cost, controlled, cfg["constant"], start=batch["start"])
            policy = partial(network.apply, params)
            idle = cost(policy=lambda state: jnp.zeros_like(state[:, 0]))
            return cost(policy=policy) / idle, (model_state, {})

        return evolved(Task(init, loss), cfg["sigma"], PAIRS)

    def draw(key: jax.Array, count: int) -> Batch:
        offset = jax.random.uniform(key, (count, len(controlled.reach)), minval=-1.0, maxval=1.0)
        centre, reach = jnp.array(controlled.centre), jnp.array(controlled.reach)
        return {"start": centre[None] + reach[None] * offset}

    metadata = TaskMetadata(
        "control", "mlp", "tanh", "synthetic", tuple(widths), BATCH_SIZE, HORIZON, 1.0
    )
    return TaskFamily(name, metadata, load, sample, build, *drawing(draw, BATCH_SIZE))


def _row(name: str, system: str, share: float, *widths: int) -> Row:
    make = partial(control_family, name, system, widths, (0.1, 0.1), (1.0, 1.0))
    return Row(name, make, AdamTarget(3e-2, 60, share))


ROWS = (
    _row("point_mass_evolved", "point_mass", 0.5, 16),
    _row("pendulum_evolved", "pendulum", 0.7, 16),
    _row("cart_pole_evolved", "cart_pole", 0.4, 16),
    _row("bandit_evolved", "bandit", 0.5, 16),
)

FAMILIES = (
    ParametricFamily(
        "evolved_policies",
        "policies trained by evolution; σ and the system's constant vary",
        tuple({"system": system, "widths": [16]} for system in ("point_mass", "bandit")),
        control_family,
        AdamTarget(3e-2, 60, 0.5),
    ),
)
