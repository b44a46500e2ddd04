"""The interface of every estimator of the registry, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import UnrolledProblem
from meta_train.estimators import ESTIMATORS
from meta_train.estimators.episodes import begin_episodes, log_uniform, no_episodes
from tests.meta_train.estimators.problems import drift

THETA = jnp.ones(3)
SETTINGS = dict(window=2, particles=6, sigma=0.1, length=8)


@pytest.fixture(params=sorted(ESTIMATORS))
def make(request):
    return ESTIMATORS[request.param]


def test_works_in_jit_and_scan_with_old_and_new_keys(make):
    estimator = make(drift(), **SETTINGS)
    for key in (jax.random.key(0), jax.random.PRNGKey(0)):
        state = estimator.init(key, THETA)
        step = jax.jit(estimator.step)
        looped = []
        for k in jax.random.split(key, 3):
            gradient, state, info = step(k, THETA, state, None)
            looped.append(gradient)
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(info))

        def body(state, k):
            gradient, state, _ = estimator.step(k, THETA, state, None)
            return state, gradient

        _, scanned = jax.lax.scan(body, estimator.init(key, THETA), jax.random.split(key, 3))
        np.testing.assert_allclose(np.stack(looped), scanned, rtol=1e-5)


def test_the_gradient_is_like_theta(make):
    """Mixed precisions too."""
    theta = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.asarray(0.5)}

    def step(key, theta, state, data):
        del key, data
        return state, theta["b"] + theta["a"].astype(jnp.float32).sum()

    estimator = make(UnrolledProblem(lambda key, theta: jnp.zeros(()), step), **SETTINGS)
    gradient, *_ = estimator.step(
        jax.random.key(0), theta, estimator.init(jax.random.key(0), theta), None
    )
    same = jax.tree.map(lambda g, t: (g.shape, g.dtype) == (t.shape, t.dtype), gradient, theta)
    assert all(jax.tree.leaves(same))


def test_data_reaches_every_inner_step_unchanged(make):
    def step(key, theta, state, data):
        del key
        return state, data["scale"] * theta.sum() * data["mask"].sum()

    problem = UnrolledProblem(lambda key, theta: jnp.zeros(()), step)
    estimator = make(problem, **SETTINGS)
    data = {"scale": jnp.asarray(2.0), "mask": jnp.ones((4, 2), bool)}
    *_, info = estimator.step(
        jax.random.key(0), THETA, estimator.init(jax.random.key(0), THETA), data
    )
    np.testing.assert_allclose(info.losses.mean(axis=1), 2 * 2.0 * 3 * 8, rtol=1e-5)


def test_the_problem_is_never_differentiated(make):
    @jax.custom_jvp
    def opaque(x):
        return x

    @opaque.defjvp
    def _(primals, tangents):
        raise AssertionError("differentiated")

    def step(key, theta, state, data):
        del key, data
        return state, opaque(theta.sum())

    estimator = make(UnrolledProblem(lambda key, theta: jnp.zeros(()), step), **SETTINGS)
    gradient, *_ = estimator.step(
        jax.random.key(0), THETA, estimator.init(jax.random.key(0), THETA), None
    )
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_losses_are_bounded_and_divergence_is_counted(make, reduction):
    """Losses of the steps 0.5, 7, ∞ and not a number, at a bound of 2: 0.5 + 2 + 2 + 2."""
    losses = jnp.asarray([0.5, 7.0, jnp.inf, jnp.nan])

    def step(key, theta, state, data):
        del key, data
        return state + 1, losses[state] + 0 * theta.sum()

    problem = UnrolledProblem(lambda key, theta: jnp.zeros((), jnp.int32), step)
    for window, finite, total in ((4, False, 6.5), (2, True, 2.5)):
        settings = {**SETTINGS, "window": window, "reduction": reduction}
        estimator = make(problem, **settings, loss_bound=2.0)
        state = estimator.init(jax.random.key(0), THETA)
        gradient, _, info = estimator.step(jax.random.key(0), THETA, state, None)
        expected = total / (window if reduction == "mean" else 1)
        np.testing.assert_allclose(info.losses, np.full((3, 2), expected))
        assert int(info.diverged) == (0 if finite else 3)
        assert not np.asarray(gradient).any()


def test_an_episode_begins_at_the_perturbed_theta_of_its_first_window(make):
    def step(key, theta, state, data):
        del key, data
        return state, (theta - state).sum()  # zero in the window that the state began in

    problem = UnrolledProblem(lambda key, theta: theta, step)
    estimator = make(problem, **SETTINGS)
    state = estimator.init(jax.random.key(0), THETA)
    for window in range(8):
        *_, info = (result := estimator.step(jax.random.key(window), THETA, state, None))
        state = result[1]
        assert (np.abs(info.losses).max() < 1e-6) == (window % 4 == 0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"window": 3}, "`window`=3 does not divide `length`=8"),
        ({"window": 0}, "`window`=0"),
        ({"particles": 5}, "`particles`=5"),
        ({"particles": 0}, "`particles`=0"),
        ({"sigma": 0.0}, "`sigma`=0.0"),
        ({"sigma": -1.0}, "`sigma`=-1.0"),
        ({"sigma": float("nan")}, "`sigma`=nan"),
        ({"reduction": "median"}, "`reduction`='median'"),
        ({"length": None, "stagger": True}, "`stagger`=True"),
        ({"loss_bound": float("nan")}, "`loss_bound`=nan"),
    ],
)
def test_bad_settings_are_named(make, changed, message):
    with pytest.raises(ValueError, match=message):
        make(drift(), **{**SETTINGS, **changed})


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda k, t, s, d: (s, t), "must be a scalar"),
        (lambda k, t, s, d: (s, jnp.zeros((), jnp.int32)), "must be a scalar, floating"),
        (lambda k, t, s, d: (jnp.zeros(4), t.sum()), "changed the shapes"),
        (lambda k, t, s, d: (s.astype(jnp.int32), t.sum()), "changed the shapes or dtypes"),
    ],
)
def test_problems_that_cannot_be_unrolled_are_refused(make, step, message):
    estimator = make(UnrolledProblem(lambda key, theta: jnp.zeros(3), step), **SETTINGS)
    state = estimator.init(jax.random.key(0), THETA)
    with pytest.raises(ValueError, match=message):
        estimator.step(jax.random.key(0), THETA, state, None)


def test_theta_with_integer_leaves_is_refused(make):
    with pytest.raises(ValueError, match=r"`theta`\['n'\] has dtype int32"):
        make(drift(), **SETTINGS).init(jax.random.key(0), {"n": jnp.zeros((), jnp.int32)})


def run_episodes(windows, pairs=8, **settings):
    """(restart, age at the end of the window) of every window: [windows, pairs] each."""
    episodes, restarts, ages = no_episodes(pairs), [], []
    for i in range(windows):
        keys = jax.random.split(jax.random.key(i), pairs)
        restart, episodes = begin_episodes(keys, episodes, **settings)
        episodes = episodes._replace(age=episodes.age + settings["window"])
        restarts.append(restart)
        ages.append(episodes.age)
    return np.asarray(restarts), np.asarray(ages)


@pytest.mark.parametrize(("pairs", "length", "window"), [(8, 16, 2), (10, 200, 20), (49, 98, 2)])
def test_staggered_pairs_cover_all_ages(pairs, length, window):
    """As many pairs as windows: in floating point, shares of 10 or 49 lose some."""
    restarts, ages = run_episodes(2 * pairs, pairs, length=length, window=window, stagger=True)
    assert restarts[0].all()
    for row in ages[pairs:]:
        assert sorted(row) == list(range(window, length + 1, window))
    assert (restarts[pairs:].sum(axis=1) == 1).all()


def test_without_stagger_all_begin_together_and_none_never_restarts():
    restarts, ages = run_episodes(12, length=8, window=2, stagger=False)
    assert (restarts.all(axis=1) == (np.arange(12) % 4 == 0)).all()
    assert ages.max() == 8
    restarts, _ = run_episodes(12, length=None, window=2, stagger=False)
    assert restarts[0].all()
    assert not restarts[1:].any()


def test_drawn_lengths_are_log_uniform_and_whole_windows():
    draw = log_uniform(10, 1000)
    lengths = np.asarray(jax.vmap(draw)(jax.random.split(jax.random.key(0), 20_000)))
    assert lengths.min() == 10
    assert 990 <= lengths.max() <= 1000
    middle = np.mean(lengths <= 100)
    assert middle == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(20_000))
    restarts, ages = run_episodes(300, length=draw, window=20, stagger=True)
    ended = ages[:-1][restarts[1:]]
    assert (ended % 20 == 0).all()
    assert ended.max() <= 1000
    assert len(set(ended)) > 10
