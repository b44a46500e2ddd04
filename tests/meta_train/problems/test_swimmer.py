"""The swimmer obeys the mechanics of viscous fluids: what must not move it, and what must."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.problems.swimmer import (
    Body,
    SwimmerState,
    advance,
    body_velocity,
    observation,
    resistance,
    solve3,
    swimmer,
    velocity,
)

BODY = Body()
ANGLES = jnp.asarray([0.3, -0.8, 0.5])
RATES = jnp.asarray([0.7, -1.1])
CYCLE = 2 * np.pi
STEPS = 200


@jax.jit
def swim(joints, rates, body=BODY):
    """Displacement and turn of one cycle of prescribed strokes, the fluid's answer alone.

    ``joints`` and ``rates`` [STEPS + 1, 2]: at evenly spaced times of the cycle. The head's
    angle is integrated along (Heun), from zero.
    """

    def velocities(head, angles, speeds):
        return body_velocity(jnp.concatenate([head[None], angles]), speeds, body)

    def step(carry, ends):
        place, head = carry
        (a, da), (b, db) = ends
        h = CYCLE / STEPS
        first = velocities(head, a, da)
        second = velocities(head + h * first[2], b, db)
        mean = (first + second) / 2
        return (place + h * mean[:2], head + h * mean[2]), None

    ends = ((joints[:-1], rates[:-1]), (joints[1:], rates[1:]))
    return jax.lax.scan(step, (jnp.zeros(2), jnp.zeros(())), ends)[0]


def stroke(first, second):
    """The joints along two functions of time, and their rates."""
    times = jnp.linspace(0, CYCLE, STEPS + 1)
    functions = (first, second)
    joints = jnp.stack([jax.vmap(f)(times) for f in functions], axis=1)
    return joints, jnp.stack([jax.vmap(jax.grad(f))(times) for f in functions], axis=1)


def wave(amplitude, lag):
    """Both joints swing with an amplitude, the second behind the first by ``lag`` radians."""
    return stroke(lambda t: amplitude * jnp.sin(t), lambda t: amplitude * jnp.sin(t - lag))


def points_on_links(angles, rates, moving, points=2000):
    """Positions and velocities of small elements, from the geometry of the chain alone."""
    along = np.cumsum(angles.astype(float))
    turning = moving[2] + np.concatenate([[0], np.cumsum(rates)])
    where, speed, direction = [], [], []
    joint, joint_speed = np.zeros(2), np.zeros(2)
    for angle, rate in zip(along, turning, strict=True):
        e, n = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        distance = (np.arange(points) + 0.5)[:, None] / points * BODY.length
        where.append(joint - distance * e)
        speed.append(joint_speed - distance * rate * n)
        direction.append(np.broadcast_to(e, (points, 2)))
        joint, joint_speed = joint - BODY.length * e, joint_speed - BODY.length * rate * n
    where, speed = np.concatenate(where), np.concatenate(speed)
    where -= where.mean(axis=0)
    return where, speed - speed.mean(axis=0) + moving[:2], np.concatenate(direction)


def test_no_force_and_no_torque_is_left_on_the_body():
    """Summed over 6,000 elements of the links, each pulled by the drag of its own velocity."""
    moving = np.asarray(body_velocity(ANGLES, RATES, BODY), float)
    where, speed, along = points_on_links(np.asarray(ANGLES), np.asarray(RATES), moving)
    tangential = (speed * along).sum(axis=1, keepdims=True) * along
    force = -(BODY.tangential_drag * tangential + BODY.normal_drag * (speed - tangential))
    force *= BODY.length / 2000
    torque = where[:, 0] * force[:, 1] - where[:, 1] * force[:, 0]
    scale = np.abs(force).sum()
    np.testing.assert_allclose(force.sum(axis=0) / scale, 0, atol=1e-6)
    assert abs(torque.sum()) / scale < 1e-6


def test_the_power_of_the_joints_is_what_the_fluid_takes_up():
    moving = body_velocity(ANGLES, RATES, BODY)
    every = np.concatenate([moving, RATES])
    drag = np.asarray(resistance(ANGLES, BODY))
    np.testing.assert_allclose(drag, drag.T, atol=1e-6)
    assert np.linalg.eigvalsh(drag).min() > 0
    _, speed, along = points_on_links(np.asarray(ANGLES), np.asarray(RATES), np.asarray(moving))
    tangential = (speed * along).sum(axis=1)
    squares = (BODY.tangential_drag - BODY.normal_drag) * tangential**2
    power = (squares + BODY.normal_drag * (speed**2).sum(axis=1)).sum() * BODY.length / 2000
    assert every @ drag @ every == pytest.approx(power, rel=1e-4)


def test_the_linear_solve_agrees_with_lapack():
    drag = np.asarray(resistance(ANGLES, BODY))[:3, :3]
    vector = np.asarray([1.0, -2.0, 0.5], np.float32)
    np.testing.assert_allclose(
        solve3(jnp.asarray(drag), jnp.asarray(vector)), np.linalg.solve(drag, vector), rtol=1e-4
    )


def test_scallop_theorem_a_stroke_that_goes_back_as_it_came_makes_no_way():
    """Any path of the two joints, there slowly and back fast."""

    def there_and_back(t):  # from 0 to 1 and back to 0, not symmetric in time
        return jnp.sin(t / 2 + 0.4 * jnp.sin(t / 2) ** 2 * jnp.sin(t)) ** 2

    reciprocal = stroke(
        lambda t: 1.2 * there_and_back(t), lambda t: jnp.sin(3 * there_and_back(t)) - 0.4
    )
    place, turn = swim(*reciprocal)
    moved, _ = swim(*wave(1.0, np.pi / 2))
    np.testing.assert_allclose(place, 0, atol=1e-4)
    assert abs(turn) < 1e-4
    assert np.linalg.norm(moved) > 100 * np.linalg.norm(place)


def test_a_wave_towards_the_tail_swims_head_first_and_the_opposite_phase_backwards():
    forward, _ = swim(*wave(0.5, np.pi / 2))
    backward, _ = swim(*wave(0.5, -np.pi / 2))
    assert forward[0] > 0.02
    assert backward[0] < -0.02
    together, _ = swim(*wave(0.5, 0.0))
    np.testing.assert_allclose(together, 0, atol=1e-4)


def test_small_strokes_swim_by_the_square_of_their_amplitude():
    lengths = [float(jnp.linalg.norm(swim(*wave(a, np.pi / 2))[0])) for a in (0.1, 0.2)]
    assert lengths[1] / lengths[0] == pytest.approx(4, rel=0.05)


def test_with_equal_drag_along_and_across_nothing_swims():
    """Force balance alone then keeps the middle of the body where it is."""
    body = BODY._replace(tangential_drag=2.0)
    place, _ = swim(*wave(1.0, np.pi / 2), body)
    np.testing.assert_allclose(place, 0, atol=1e-5)


def test_without_actuation_a_swimmer_at_rest_stays():
    state = SwimmerState(jnp.asarray([1.0, -2.0]), ANGLES, jnp.zeros(2))
    after = advance(state, jnp.zeros(2), BODY)
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_motion_does_not_depend_on_where_the_swimmer_is_nor_on_where_it_looks():
    quarter = jnp.asarray([np.pi / 2, 0, 0], jnp.float32)
    action = jnp.asarray([0.8, -0.3])
    here = SwimmerState(jnp.zeros(2), ANGLES, RATES)
    there = SwimmerState(jnp.asarray([3.0, -1.0]), ANGLES + quarter, RATES)
    moved, turned = (advance(state, action, BODY) for state in (here, there))
    step = np.asarray(moved.position)
    np.testing.assert_allclose(
        turned.position - there.position, [-step[1], step[0]], rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(turned.angles - quarter, moved.angles, rtol=1e-5)
    np.testing.assert_allclose(turned.joint_rates, moved.joint_rates, rtol=1e-5)


def test_a_time_step_of_a_tenth_gives_the_same_path():
    state, action = SwimmerState(jnp.zeros(2), ANGLES, RATES), jnp.asarray([1.0, -1.0])
    fine = BODY._replace(time_step=BODY.time_step / 10)
    many = jax.jit(lambda s: jax.lax.fori_loop(0, 10, lambda i, s: advance(s, action, fine), s))
    for got, expected in zip(advance(state, action, BODY), many(state), strict=True):
        np.testing.assert_allclose(got, expected, atol=3e-5)


def test_the_stop_pushes_back_beyond_the_limit_only():
    def push(joint):
        angles = jnp.asarray([0.0, joint, 0.0])
        return velocity(SwimmerState(jnp.zeros(2), angles, jnp.zeros(2)), jnp.zeros(2), BODY)

    inside, beyond, below = (
        push(joint).joint_rates[0]
        for joint in (BODY.joint_limit - 0.01, BODY.joint_limit + 0.1, -BODY.joint_limit - 0.1)
    )
    assert inside == 0
    assert beyond == pytest.approx(-BODY.stop_stiffness * 0.01 / BODY.joint_inertia, rel=1e-4)
    assert below == pytest.approx(float(-beyond))


def test_reward_is_forward_velocity_less_the_cost_of_the_action():
    problem = swimmer()
    theta = jax.random.normal(jax.random.key(1), (2, 8))
    state = problem.init(jax.random.key(0), theta)
    seen = observation(state, BODY)
    np.testing.assert_allclose(seen[:3], state.angles)
    np.testing.assert_allclose(seen[6:], state.joint_rates)
    action = np.tanh(np.asarray(theta) @ np.asarray(seen))
    after, loss = problem.step(jax.random.key(2), theta, state, None)
    expected = advance(state, jnp.asarray(action), BODY)
    np.testing.assert_allclose(after.angles, expected.angles, rtol=1e-5)
    forward = (expected.position[0] - state.position[0]) / BODY.time_step
    assert loss == pytest.approx(float(1e-4 * (action**2).sum() - forward), abs=1e-5)
    rates = (expected.angles[0] - state.angles[0]) / BODY.time_step
    assert seen[5] == pytest.approx(float(rates), abs=0.05)  # ω is the rate of the head's angle


def test_strong_policies_keep_finite_and_near_the_limits():
    problem = swimmer()

    def episode(key):
        key_theta, key_init = jax.random.split(key)
        theta = 3 * jax.random.normal(key_theta, (2, 8))

        def step(state, _):
            state, loss = problem.step(key_init, theta, state, None)
            return state, (loss, jnp.abs(state.angles[1:]).max())

        return jax.lax.scan(step, problem.init(key_init, theta), length=500)[1]

    losses, angles = jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(0), 64))
    assert np.isfinite(losses).all()
    assert angles.max() < BODY.joint_limit + 0.7
