"""The proofs are themselves proven: every fault planted here is caught by one of them."""

import importlib
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from meta_train.estimators.noise import Perturbation
from tests.meta_train.estimators.test_mean import check_drift, check_noise_only, check_quadratic
from tests.meta_train.estimators.test_variance import LENGTH, check_variance


def scaled_credit(factor):
    def fault(original, score, differences, counted):
        return original(score, factor * differences, counted)

    return fault


def score_of_a_neighbour(original, score, differences, counted):
    return original(jax.tree.map(lambda x: jnp.roll(x, 1, axis=0), score), differences, counted)


def sigma_for_its_square(original, normal, scale):
    return Perturbation(original(normal, scale).noise, normal)


def noise_not_redrawn(original, keys, theta):
    return original(jax.random.split(jax.random.key(5), len(keys)), theta)


def noise_shared(original, keys, theta):
    return original(jnp.broadcast_to(keys[:1], keys.shape), theta)


def never_reset(original, accumulator, restart, score):
    return original(accumulator, jnp.zeros_like(restart), score)


def reset_every_window(original, accumulator, restart, score):
    return original(accumulator, jnp.ones_like(restart), score)


def only_past_noise(original, accumulator, restart, score):
    return jax.tree.map(jnp.subtract, original(accumulator, restart, score), score)


def no_restart(original, keys, episodes, **settings):
    restart, episodes = original(keys, episodes, **settings)
    return restart & (episodes.begun == 1), episodes


def late_restart(original, keys, episodes, **settings):
    late = episodes._replace(length=jnp.where(episodes.begun > 0, episodes.length + 3, 0))
    restart, begun = original(keys, late, **settings)
    return restart, begun._replace(length=jnp.where(restart, begun.length, episodes.length))


def changed_block(change):
    """A fault in what the unroll of a block of pairs is given."""

    def fault(original, problem, window, reduce):
        unroll = original(problem, window, reduce)
        return lambda block, shared: unroll(change(block), shared)

    return fault


def with_noise(change):
    return changed_block(lambda block: block._replace(noise=jax.tree.map(change, block.noise)))


def unequal_signs(original, problem, window, reduce):
    unroll = original(problem, window, reduce)

    def unequal(block, shared):
        inner, packed = unroll(block, shared)
        return inner, packed.at[:, 1, 0].add(1e-3)

    return unequal


def signs_swap_states(original, problem, window, reduce):
    unroll = original(problem, window, reduce)

    def swapped(block, shared):
        inner, packed = unroll(block, shared)
        return jax.tree.map(lambda x: x[:, ::-1], inner), packed

    return swapped


def mean_for_sum(original, reduction, bound):
    del reduction
    return original("mean", bound)


def always_fresh(original, restart, fresh, old):
    return original(jnp.ones_like(restart), fresh, old)


def never_fresh_after_the_first(original, restart, fresh, old):
    """Where a row was ever filled, it is kept."""
    empty = jax.tree.leaves(old)[0].reshape(len(restart), -1).any(axis=1)
    return original(restart & ~empty, fresh, old)


def drawn_every_window(original, accumulator, restart, score):
    """The score of the newest noise is added in every window, drawn anew or not."""
    newest = jax.tree.map(lambda s: jnp.where(s == 0, 1.0, s), score)
    return original(accumulator, restart, newest)


def nothing(original, *arguments):
    return jax.tree.map(jnp.zeros_like, original(*arguments))


def halved(original, *arguments):
    return jax.tree.map(lambda x: x / 2, original(*arguments))


def old_carry(original, restart, fresh, old):
    """An episode begins with the derivative that the last one left."""
    state = original(restart, fresh[0], old[0])
    return type(fresh)(state, *old[1:])


def rank_one_without(scale):
    def fault(original, key, pushed, theta_vector, pull):
        if scale == "new influence":
            return original(key, pushed, theta_vector, lambda nu: nothing(pull, nu))
        return original(key, pushed, jax.tree.map(jnp.zeros_like, theta_vector), pull)

    return fault


def same_signs(original, key, pushed, theta_vector, pull):
    return original(jax.random.key(0), pushed, theta_vector, pull)


BLOCKS = {"pes": 3, "gpes": 6, "nres": LENGTH, "full_es": LENGTH}
"""Inner steps between two draws of noise, of the estimators whose variance is known."""


FAULTS = {
    # What: (estimator, module, function in it, what is put there instead)
    "factor 2 missing": ("pes", "antithetic", "credit", scaled_credit(2)),
    "sign not negated": ("pes", "antithetic", "credit", scaled_credit(-1)),
    "10 % off": ("nres", "antithetic", "credit", scaled_credit(1.1)),
    "noise of another pair credited": ("pes", "antithetic", "credit", score_of_a_neighbour),
    "σ for σ²": ("pes", "antithetic", "perturbation", sigma_for_its_square),
    "σ for σ², noise kept": ("nres", "antithetic", "perturbation", sigma_for_its_square),
    "noise not redrawn": ("pes", "antithetic", "sample_normal", noise_not_redrawn),
    "all pairs share their noise": ("full_es", "antithetic", "sample_normal", noise_shared),
    "accumulator never reset": ("pes", "pes", "accumulate", never_reset),
    "accumulator reset every window": ("pes", "pes", "accumulate", reset_every_window),
    "only past noise credited": ("pes", "pes", "accumulate", only_past_noise),
    "episodes never restart": ("pes", "antithetic", "begin_episodes", no_restart),
    "restart one window late": ("pes", "antithetic", "begin_episodes", late_restart),
    "members of a pair see other losses": ("pes", "antithetic", "unroll_pairs", unequal_signs),
    "members of a pair swap states": ("pes", "antithetic", "unroll_pairs", signs_swap_states),
    "unrolled with the noise of another pair": (
        "pes", "antithetic", "unroll_pairs", with_noise(lambda e: jnp.roll(e, 1, axis=0)),
    ),
    "unrolled with |ε|": ("pes", "antithetic", "unroll_pairs", with_noise(jnp.abs)),
    "unrolled with ε/2": ("gpes", "antithetic", "unroll_pairs", with_noise(lambda e: e / 2)),
    "mean for sum": ("full_es", "antithetic", "window_loss", mean_for_sum),
    "noise redrawn every window": ("nres", "nres", "choose_rows", always_fresh),
    "noise never redrawn": ("nres", "nres", "choose_rows", never_fresh_after_the_first),
    "noise redrawn every window in GPES": ("gpes", "gpes", "choose_rows", always_fresh),
    "score added where no noise was drawn": ("gpes", "gpes", "accumulate", drawn_every_window),
    "GPES accumulator never reset": ("gpes", "gpes", "accumulate", never_reset),
    "past noise kept over the end of an episode": (
        "pes_analytic", "pes_analytic", "past_score",
        lambda original, accumulator, restart: original(accumulator, jnp.zeros_like(restart)),
    ),
    "truncated gradient halved": (
        "pes_analytic", "pes_analytic", "ravel_pytree",
        lambda original, tree: (original(tree)[0] / 2, original(tree)[1]),
    ),
    "Jacobian kept over the end of an episode": ("rtrl", "forward", "choose", old_carry),
    "no direct influence of θ": ("rtrl", "rtrl", "unit_vectors", nothing),
    "influence on the state halved": ("rtrl", "rtrl", "unit_vectors", halved),
    "θ̃ forgotten": ("uoro", "uoro", "rank_one", rank_one_without("past influence")),
    "no new influence": ("uoro", "uoro", "rank_one", rank_one_without("new influence")),
    "ν the same in every step": ("uoro", "uoro", "rank_one", same_signs),
    "direction of another length": (
        "dodge", "dodge", "sample_normal",
        lambda original, *arguments: jax.tree.map(lambda z: 1.1 * z, original(*arguments)),
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, monkeypatch):
    name, module_name, function, wrong = FAULTS[fault]
    module = importlib.import_module(f"meta_train.estimators.{module_name}")
    monkeypatch.setattr(module, function, partial(wrong, getattr(module, function)))
    checks = [partial(check, name) for check in (check_drift, check_quadratic, check_noise_only)]
    if name in BLOCKS:
        checks.append(partial(check_variance, name, min(BLOCKS[name], 3), BLOCKS[name]))
    for check in checks:
        try:
            check()
        except AssertionError:
            return
    pytest.fail(f"no check caught {fault!r}")
