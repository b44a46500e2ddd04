"""Episodes of a problem at one θ."""

import jax


def episode(problem, theta, length, data=None, key=None):
    """(last state, losses [length]); the same key at every step."""
    key = jax.random.key(0) if key is None else key

    def step(state, _):
        return problem.step(key, theta, state, data)

    return jax.lax.scan(step, problem.init(key, theta), length=length)


def total_loss(problem, theta, length, data=None, key=None):
    return episode(problem, theta, length, data, key)[1].sum()
