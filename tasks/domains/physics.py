"""Networks that solve differential equations (Raissi et al. 2019), whose solutions are known.

    L = [mean r(u)² + λ mean (u − u*)² on the boundary] / (the same for u = 0),    u = MLP(p)

r is what is left of the equation, at points p of the unit interval or square: 0 for u = u*. The
last coordinate is time where there is one, and its faces are the start alone.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from tasks.base import Batch, Configuration, Task, TaskFamily, TaskMetadata
from tasks.catalogue import AdamTarget, ParametricFamily, Row
from tasks.images.perceptrons import mlp
from tasks.synthetic import drawing, load

BATCH_SIZE, BOUNDARY_SIZE, HORIZON = 64, 16, 200
BOUNDARY_WEIGHT = 10.0
OUTPUT_SCALE = 0.1  # keeps an untrained network near 0
DIFFUSION, SPEED, VISCOSITY, DAMPING, FREQUENCY = 0.1, 0.5, 0.1, 1.0, 6.0
WAVES = 2

Function = Callable[[jax.Array], jax.Array]


class Equation(NamedTuple):
    """``residual(cfg, u, p)`` and ``exact(cfg, p)`` are of one point p, [D] → [].

    ``faces``: (axis, value) of the parts of the boundary where the solution is given.
    """

    dimension: int
    faces: tuple[tuple[int, float], ...]
    exact: Callable[[Configuration, jax.Array], jax.Array]
    residual: Callable[[Configuration, Function, jax.Array], jax.Array]


def along(u: Function, axis: int) -> Function:
    """∂u / ∂p_axis, by forward differentiation: nested, it costs little."""

    def derivative(p: jax.Array) -> jax.Array:
        direction = jnp.zeros_like(p).at[axis].set(1)
        return jax.jvp(u, (p,), (direction,))[1]

    return derivative


def twice(u: Function, axis: int) -> Function:
    """∂²u / ∂p_axis²."""
    return along(along(u, axis), axis)


def _sines(cfg: Configuration, p: jax.Array) -> jax.Array:
    """u* = Σ_k a_k Π_i sin kπp_i, 0 on the boundary."""
    number = jnp.arange(1, WAVES + 1)
    waves = jnp.sin(jnp.pi * number[:, None] * p[None])
    return jnp.sum(cfg["amplitude"] * jnp.prod(waves, axis=1))


def _poisson(cfg: Configuration, u: Function, p: jax.Array) -> jax.Array:
    """∇²u + f with f = Σ_k a_k D (kπ)² Π_i sin kπp_i."""
    number = jnp.arange(1, WAVES + 1)
    forcing = {"amplitude": cfg["amplitude"] * p.size * jnp.square(jnp.pi * number)}
    return sum(twice(u, axis)(p) for axis in range(p.size)) + _sines(forcing, p)


def _heat(cfg: Configuration, p: jax.Array) -> jax.Array:
    del cfg
    return jnp.exp(-DIFFUSION * jnp.pi**2 * p[1]) * jnp.sin(jnp.pi * p[0])


def _wave(cfg: Configuration, p: jax.Array) -> jax.Array:
    del cfg
    return jnp.sin(2 * jnp.pi * (p[0] - SPEED * p[1]))


def _front(cfg: Configuration, p: jax.Array) -> jax.Array:
    """½ − ½ tanh((x − t/2 − ¼) / 4ν): a shock that travels at speed ½."""
    del cfg
    return 0.5 - 0.5 * jnp.tanh((p[0] - p[1] / 2 - 0.25) / (4 * VISCOSITY))


def _swing(cfg: Configuration, p: jax.Array) -> jax.Array:
    del cfg
    damped = (FREQUENCY**2 - DAMPING**2) ** 0.5
    return jnp.exp(-DAMPING * p[0]) * jnp.cos(damped * p[0])


BOTH_ENDS = ((0, 0.0), (0, 1.0))
IN_TIME = (*BOTH_ENDS, (1, 0.0))

EQUATIONS = {
    "poisson1": Equation(1, BOTH_ENDS, _sines, _poisson),
    "poisson2": Equation(2, (*BOTH_ENDS, (1, 0.0), (1, 1.0)), _sines, _poisson),
    "heat": Equation(
        2, IN_TIME, _heat, lambda cfg, u, p: along(u, 1)(p) - DIFFUSION * twice(u, 0)(p)
    ),
    "advection": Equation(
        2, IN_TIME, _wave, lambda cfg, u, p: along(u, 1)(p) + SPEED * along(u, 0)(p)
    ),
    "burgers": Equation(
        2,
        IN_TIME,
        _front,
        lambda cfg, u, p: along(u, 1)(p) + u(p) * along(u, 0)(p) - VISCOSITY * twice(u, 0)(p),
    ),
    "oscillator": Equation(
        1,
        BOTH_ENDS,
        _swing,
        lambda cfg, u, p: (twice(u, 0)(p) + 2 * DAMPING * along(u, 0)(p)) / FREQUENCY**2 + u(p),
    ),
}


def error_of(equation: Equation, cfg: Configuration, u: Function, batch: Batch) -> jax.Array:
    """The mean squares of residual and boundary, before they are divided; shape []."""
    residual = jax.vmap(partial(equation.residual, cfg, u))(batch["inside"])
    gap = jax.vmap(lambda p: u(p) - equation.exact(cfg, p))(batch["boundary"])
    return jnp.mean(jnp.square(residual)) + BOUNDARY_WEIGHT * jnp.mean(jnp.square(gap))


def physics_family(name: str, equation: str, widths: Sequence[int]) -> TaskFamily:
    """An equation of the table; where it has a forcing, every task has its own."""
    solved = EQUATIONS[equation]

    def sample(key: jax.Array) -> Configuration:
        return {"amplitude": jax.random.uniform(key, (WAVES,), minval=0.5, maxval=1.0)}

    def build(cfg: Configuration) -> Task:
        network = hk.without_apply_rng(
            hk.transform(lambda p: OUTPUT_SCALE * mlp(p[None], widths, 1, jnp.tanh)[0, 0])
        )

        def init(key: jax.Array) -> tuple[Any, Any]:
            return network.init(key, jnp.zeros(solved.dimension)), {}

        def loss(params: Any, model_state: Any, key: jax.Array, batch: Batch) -> tuple:
            del key
            error = error_of(solved, cfg, partial(network.apply, params), batch)
            unit = error_of(solved, cfg, lambda p: 0 * jnp.sum(p), batch)
            return error / unit, (model_state, {})

        return Task(init, loss)

    def draw(key: jax.Array, count: int) -> Batch:
        key_inside, key_boundary = jax.random.split(key)
        boundary = jax.random.uniform(key_boundary, (BOUNDARY_SIZE, solved.dimension))
        face = jnp.arange(BOUNDARY_SIZE) % len(solved.faces)
        axis = jnp.array([axis for axis, _ in solved.faces])[face]
        value = jnp.array([value for _, value in solved.faces])[face]
        boundary = boundary.at[jnp.arange(BOUNDARY_SIZE), axis].set(value)
        inside = jax.random.uniform(key_inside, (count, solved.dimension))
        return {"inside": inside, "boundary": boundary}

    metadata = TaskMetadata(
        "physics-informed", "mlp", "tanh", "synthetic", tuple(widths), BATCH_SIZE, HORIZON, 1.0
    )
    return TaskFamily(name, metadata, load, sample, build, *drawing(draw, BATCH_SIZE))


def _row(name: str, equation: str, share: float, *widths: int) -> Row:
    return Row(name, partial(physics_family, name, equation, widths), AdamTarget(1e-2, 60, share))


ROWS = (
    _row("poisson_1d_mlp32x32", "poisson1", 0.5, 32, 32),
    _row("poisson_2d_mlp32x32", "poisson2", 0.6, 32, 32),
    _row("heat_mlp32x32", "heat", 0.6, 32, 32),
    _row("advection_mlp32x32", "advection", 0.8, 32, 32),
    _row("burgers_mlp32x32", "burgers", 0.3, 32, 32),
    _row("oscillator_mlp32x32", "oscillator", 0.3, 32, 32),
)

FAMILIES = (
    ParametricFamily(
        "poisson_networks",
        "Poisson's equation; the forcing varies",
        tuple({"equation": equation, "widths": [32, 32]} for equation in ("poisson1", "poisson2")),
        physics_family,
        AdamTarget(1e-2, 60, 0.6),
    ),
)
