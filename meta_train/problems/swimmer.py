"""A linear policy that swims: Purcell's three-link swimmer (1977), driven by its joints.

    a = tanh(θ o);    L = −(forward velocity − 1e-4 ‖a‖²)

Resistive-force theory (Gray and Hancock 1955): an element of a link that moves at u is pulled by
−(c_t u_t + c_n u_n) per unit length, along and across the link, with c_n = 2 c_t. The fluid has
no inertia, and neither have the links: force and torque on the whole body are zero at all times.
With (v, ω) the velocity of the body and φ the joint angles,

    R (v, ω, φ̇) = generalised drag;    R_bb (v, ω) + R_bj φ̇ = 0
    I φ̈ = κ a − (R_jb (v, ω) + R_jj φ̇) − d φ̇ − stop(φ)

Observations, actions, reward, time step and horizon are those of Gym's Swimmer, whose fluid is
another one: its links have inertia.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.problem import Data, UnrolledProblem

HORIZON = 1000
"""Inner steps of an episode."""

# middles of the links relative to the middle of the body = MIDDLES @ directions, in link lengths
MIDDLES = np.asarray([[2, 3, 1], [-1, 0, 1], [-1, -3, -2]]) / 6
# rates of the links' directions = FROM_JOINTS @ (rate of the head, rates of the two joints)
FROM_JOINTS = np.asarray([[1, 0, 0], [1, 1, 0], [1, 1, 1]])


class Body(NamedTuple):
    """Physical constants; units of length, time and force are those of the drag coefficients.

    ``length``: of a link; ``tangential_drag``, ``normal_drag``: force per unit length and
    velocity; ``joint_inertia``, ``joint_damping``: of each motor; ``torque``: κ, of the action 1;
    ``joint_limit``: angle in radians beyond which a joint is pushed back by ``stop_stiffness``
    times the square of the excess; ``time_step``: between two actions.
    """

    length: float = 1.0
    tangential_drag: float = 1.0
    normal_drag: float = 2.0
    joint_inertia: float = 0.3
    joint_damping: float = 0.1
    torque: float = 2.0
    joint_limit: float = np.deg2rad(100)
    stop_stiffness: float = 200.0
    time_step: float = 0.04


BODY = Body()
"""The swimmer of the experiments."""


class SwimmerState(NamedTuple):
    """``position`` [2]: of the middle of the body (the mean over its length);
    ``angles`` [3]: of the head, and of the two joints; ``joint_rates`` [2].
    """

    position: jax.Array
    angles: jax.Array
    joint_rates: jax.Array


def resistance(angles: jax.Array, body: Body) -> jax.Array:
    """R: drag force, and torques, at a unit of each velocity; symmetric, positive definite.

    Shapes: angles [3] → [5, 5], for (v_x, v_y, ω, φ̇₁, φ̇₂), ω the rate of the head's angle.
    """
    absolute = jnp.cumsum(angles)
    along = jnp.stack([jnp.cos(absolute), jnp.sin(absolute)], axis=1)
    across = jnp.stack([-along[:, 1], along[:, 0]], axis=1)
    # velocity of the middle of link i = jacobian[i] @ (v, rates of the links' directions)
    turning = body.length * jnp.asarray(MIDDLES, angles.dtype)[:, None, :] * across.T[None]
    moving = jnp.broadcast_to(jnp.eye(2, dtype=angles.dtype)[None], (3, 2, 2))
    jacobian = jnp.concatenate([moving, turning], axis=2)
    tangential = jnp.einsum("ik,ikn->in", along, jacobian)
    normal = jnp.einsum("ik,ikn->in", across, jacobian)
    drag = body.length * (
        body.tangential_drag * jnp.einsum("in,im->nm", tangential, tangential)
        + body.normal_drag * jnp.einsum("in,im->nm", normal, normal)
    )
    own_rotation = body.normal_drag * body.length**3 / 12
    drag += own_rotation * jnp.diag(jnp.asarray([0, 0, 1, 1, 1], angles.dtype))
    to_links = np.eye(5)
    to_links[2:, 2:] = FROM_JOINTS
    change = jnp.asarray(to_links, angles.dtype)
    return change.T @ drag @ change


def body_velocity(angles: jax.Array, joint_rates: jax.Array, body: Body) -> jax.Array:
    """(v_x, v_y, ω) at which no force and no torque is left. Shapes: [3], [2] → [3]."""
    return _body_velocity(resistance(angles, body), joint_rates)


def _body_velocity(drag: jax.Array, joint_rates: jax.Array) -> jax.Array:
    return -solve3(drag[:3, :3], drag[:3, 3:] @ joint_rates)


def solve3(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """matrix⁻¹ vector by Cramer's rule: under vmap a LAPACK call a particle is 10 × as slow.

    Shapes: [3, 3], [3] → [3].
    """
    cofactors = jnp.stack([jnp.cross(matrix[(i + 1) % 3], matrix[(i + 2) % 3]) for i in range(3)])
    return cofactors.T @ vector / jnp.dot(matrix[0], cofactors[0])


def velocity(state: SwimmerState, action: jax.Array, body: Body) -> SwimmerState:
    """The time derivative of the state at an action [2] in [−1, 1]."""
    drag = resistance(state.angles, body)
    moving = _body_velocity(drag, state.joint_rates)
    fluid = drag[3:] @ jnp.concatenate([moving, state.joint_rates])
    joints = state.angles[1:]
    excess = jnp.maximum(jnp.abs(joints) - body.joint_limit, 0)
    stop = body.stop_stiffness * jnp.sign(joints) * excess**2
    acceleration = (
        body.torque * action - fluid - body.joint_damping * state.joint_rates - stop
    ) / body.joint_inertia
    turning = jnp.concatenate([moving[2:], state.joint_rates])
    return SwimmerState(moving[:2], turning, acceleration)


def advance(state: SwimmerState, action: jax.Array, body: Body) -> SwimmerState:
    """One step of Runge and Kutta of fourth order, the action held."""

    def ahead(slope: SwimmerState, time: float) -> SwimmerState:
        return jax.tree.map(lambda x, dx: x + time * dx, state, slope)

    h = body.time_step
    k1 = velocity(state, action, body)
    k2 = velocity(ahead(k1, h / 2), action, body)
    k3 = velocity(ahead(k2, h / 2), action, body)
    k4 = velocity(ahead(k3, h), action, body)
    mean = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, k1, k2, k3, k4)
    return ahead(mean, h)


def observation(state: SwimmerState, body: Body) -> jax.Array:
    """Angles of the head and the joints, v_x, v_y, ω, and the rates of the joints. Shape [8]."""
    moving = body_velocity(state.angles, state.joint_rates, body)
    return jnp.concatenate([state.angles, moving, state.joint_rates])


def swimmer(body: Body = BODY) -> UnrolledProblem:
    """The problem at the top of this file; θ is the matrix of the policy [2, 8].

    An episode begins with angles and rates uniform in [−0.1, 0.1]. ``data`` is not used.
    """

    def init(key: jax.Array, theta: jax.Array) -> SwimmerState:
        del theta
        start = jax.random.uniform(key, (5,), minval=-0.1, maxval=0.1)
        return SwimmerState(jnp.zeros(2), start[:3], start[3:])

    def step(
        key: jax.Array, theta: jax.Array, state: SwimmerState, data: Data
    ) -> tuple[SwimmerState, jax.Array]:
        del key, data
        action = jnp.tanh(theta @ observation(state, body))
        after = advance(state, action, body)
        forward = (after.position[0] - state.position[0]) / body.time_step
        return after, 1e-4 * jnp.sum(action**2) - forward

    return UnrolledProblem(init, step)
