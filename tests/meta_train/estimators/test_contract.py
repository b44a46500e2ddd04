"""The interface of every estimator of the registry, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import UnrolledProblem
from meta_train.estimators import ESTIMATORS
from tests.meta_train.estimators import proofs
from tests.meta_train.estimators.problems import DRIFT
from tests.meta_train.estimators.proofs import DIFFERENTIATE, EVOLUTION, WHOLE

THETA = jnp.ones(3)
SETTINGS = dict(window=2, particles=6, sigma=0.1, length=8)
KEY = jax.random.key(0)


FAST = ("pes", "pes_analytic", "truncated_es", "truncated_backprop", "rtrl", "mixture")


@pytest.fixture(
    params=[n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in sorted(ESTIMATORS)]
)
def name(request):
    return request.param


def make(name, problem, **changed):
    return proofs.make(name, problem, **{**SETTINGS, **changed})


def one_step(estimator, theta=THETA, data=None):
    return estimator.step(KEY, theta, estimator.init(KEY, theta), data)


def test_every_estimator_has_its_place_in_the_proofs():
    assert {*EVOLUTION, *DIFFERENTIATE, "pes_analytic", "mixture"} == set(ESTIMATORS)


def test_works_in_jit_and_scan_with_old_and_new_keys(name):
    estimator = make(name, DRIFT)
    for key in (jax.random.key(0), jax.random.PRNGKey(0)):
        state = estimator.init(key, THETA)
        step = jax.jit(lambda *arguments: estimator.step(*arguments))
        looped = []
        for k in jax.random.split(key, 3):
            gradient, state, info = step(k, THETA, state, None)
            looped.append(gradient)
        assert step._cache_size() == 1
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(info))

        def body(state, k):
            gradient, state, _ = estimator.step(k, THETA, state, None)
            return state, gradient

        _, scanned = jax.lax.scan(body, estimator.init(key, THETA), jax.random.split(key, 3))
        np.testing.assert_allclose(np.stack(looped), scanned, rtol=1e-5)


def test_step_is_pure(name):
    """The same arguments give the same result, and the state that was given is as it was."""
    estimator = make(name, DRIFT)
    state = estimator.init(KEY, THETA)
    before = jax.tree.map(np.array, state)
    first = estimator.step(KEY, THETA, state, None)
    second = estimator.step(KEY, THETA, state, None)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    jax.tree.map(np.testing.assert_array_equal, state, before)
    same = jax.tree.map(lambda x, y: (x.shape, x.dtype) == (y.shape, y.dtype), state, first[1])
    assert all(jax.tree.leaves(same))


def test_the_gradient_is_like_theta(name):
    """Mixed precisions too."""
    theta = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.asarray(0.5)}

    def step(key, theta, state, data):
        del key, data
        return state, theta["b"] + theta["a"].astype(jnp.float32).sum()

    estimator = make(name, UnrolledProblem(lambda key, theta: jnp.zeros(()), step))
    gradient, *_ = one_step(estimator, theta)
    same = jax.tree.map(lambda g, t: (g.shape, g.dtype) == (t.shape, t.dtype), gradient, theta)
    assert all(jax.tree.leaves(same))
    assert all(np.any(np.asarray(leaf, np.float32)) for leaf in jax.tree.leaves(gradient))


def test_data_reaches_every_inner_step_unchanged(name):
    def step(key, theta, state, data):
        del key
        return state, data["scale"] * theta.sum() * data["mask"].sum()

    estimator = make(name, UnrolledProblem(lambda key, theta: jnp.zeros(()), step))
    data = {"scale": jnp.asarray(2.0), "mask": jnp.ones((4, 2), bool)}
    *_, info = one_step(estimator, data=data)
    steps = SETTINGS["length"] if name in WHOLE else SETTINGS["window"]
    np.testing.assert_allclose(info.losses.mean(axis=1), steps * 2.0 * 3 * 8, rtol=1e-5)


@pytest.mark.parametrize("name", EVOLUTION)
def test_evolution_strategies_never_differentiate_the_problem(name):
    @jax.custom_jvp
    def opaque(x):
        return x

    @opaque.defjvp
    def _(primals, tangents):
        raise AssertionError("differentiated")

    def step(key, theta, state, data):
        del key, data
        return state, opaque(theta.sum())

    estimator = make(name, UnrolledProblem(lambda key, theta: opaque(theta), step))
    assert np.isfinite(one_step(estimator)[0]).all()


@pytest.mark.parametrize("name", EVOLUTION)
def test_evolution_strategies_see_through_an_accuracy(name):
    """A count of signs has no derivative, and a smoothed gradient."""

    def step(key, theta, state, data):
        del key, data
        return state, -jnp.mean((theta > 0).astype(jnp.float32))

    problem = UnrolledProblem(lambda key, theta: jnp.zeros(()), step)
    estimator = make(name, problem, sigma=1.0, particles=2_000)
    gradient, *_ = one_step(estimator, jnp.zeros(3))
    density = 1 / np.sqrt(2 * np.pi)  # of N(0, 1) at 0: the derivative of P(θ + ε > 0)
    steps = SETTINGS["length"] if name in WHOLE else SETTINGS["window"]
    np.testing.assert_allclose(gradient, np.full(3, -steps * density / 3), rtol=0.15)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_losses_are_bounded_and_divergence_is_counted(name, reduction):
    """Losses of the steps 0.5, 7, ∞ and not a number, at a bound of 2: 0.5 + 2 + 2 + 2."""
    losses = jnp.asarray([0.5, 7.0, jnp.inf, jnp.nan])

    def step(key, theta, state, data):
        del key, data
        return state + 1, losses[state] + 0 * theta.sum()

    problem = UnrolledProblem(lambda key, theta: jnp.zeros((), jnp.int32), step)
    for window, finite, total in ((4, False, 6.5), (2, True, 2.5)):
        length = window if name in WHOLE else 8
        estimator = make(
            name, problem, window=window, length=length, reduction=reduction, loss_bound=2.0
        )
        gradient, _, info = one_step(estimator)
        expected = total / (window if reduction == "mean" else 1)
        np.testing.assert_allclose(info.losses, np.full(info.losses.shape, expected))
        assert int(info.diverged) == (0 if finite else len(info.losses))
        assert not np.asarray(gradient).any()


def test_an_episode_begins_at_the_perturbed_theta_of_its_first_window(name):
    def step(key, theta, state, data):
        del key, data
        return state, (theta - state).sum()  # zero in the window that the state began in

    estimator = make(name, UnrolledProblem(lambda key, theta: theta, step))
    state = estimator.init(KEY, THETA)
    moved = []
    for window in range(8):
        *_, info = (result := estimator.step(jax.random.key(window), THETA, state, None))
        state = result[1]
        moved.append(np.abs(info.losses).max() > 1e-6)
    if name in ("pes", "gpes", "pes_analytic", "truncated_es", "mixture"):
        # Noise is drawn anew: every window, or every second one.
        expected = [False, name != "gpes", True, True] * 2
        assert moved == expected
    else:
        assert not any(moved)


BAD_COMMON = [
    ({"window": 3}, "`window`=3 (does not divide|is not) `length`=8"),
    ({"window": 0}, "`window`=0"),
    ({"window": 2.5}, "`window`=2.5"),
    ({"length": "long"}, "`length`='long'"),
    ({"length": 2**31}, "`length`=2147483648: must be at most 2147483647"),
    ({"reduction": "median"}, "`reduction`='median'"),
    ({"length": None, "stagger": True}, "`stagger`=True"),
    ({"loss_bound": float("nan")}, "`loss_bound`=nan"),
]
BAD_NOISE = [
    ({"particles": 5}, "`particles`=5"),
    ({"particles": 0}, "`particles`=0"),
    ({"particles": 4.0}, "`particles`=4.0"),
    ({"sigma": 0.0}, "`sigma`=0.0"),
    ({"sigma": -1.0}, "`sigma`=-1.0"),
    ({"sigma": float("nan")}, "`sigma`=nan"),
    ({"sigma": {"w": 0.1, "b": 0.0}}, "`sigma`=0.0"),
    ({"sigma": "0.1"}, "`sigma`='0.1'"),
    ({"transform": "sign"}, "`transform`='sign': must be a function"),
    ({"divergence": None}, "`divergence`=None: must be a function"),
    ({"sigma": lambda count: -0.1 - 0.0 * count}, "`sigma`=-0.1"),
]


@pytest.mark.parametrize(("changed", "message"), BAD_COMMON)
def test_bad_settings_are_named(name, changed, message):
    if name in WHOLE and "window" in changed and changed["window"] == 3:
        with pytest.raises(ValueError, match=message):
            ESTIMATORS[name](DRIFT, **{**SETTINGS, **changed})
        return
    settings = {**SETTINGS, **changed}
    if name == "gpes":
        settings["noise_period"] = 6
    with pytest.raises(ValueError, match=message):
        ESTIMATORS[name](DRIFT, **settings)


@pytest.mark.parametrize(("changed", "message"), BAD_NOISE)
@pytest.mark.parametrize("name", [*EVOLUTION, "pes_analytic", "mixture"])
def test_bad_noise_is_named(name, changed, message):
    with pytest.raises(ValueError, match=message):
        make(name, DRIFT, **changed)


@pytest.mark.parametrize("name", DIFFERENTIATE)
def test_estimators_that_differentiate_ignore_noise(name):
    first = one_step(make(name, DRIFT))[0]
    ignored = make(name, DRIFT, particles=5, sigma=-1.0)
    np.testing.assert_array_equal(one_step(ignored)[0], first)
    with pytest.raises(ValueError, match="`episodes`=0"):
        make(name, DRIFT, episodes=0)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("nres", {"length": None}, "`length`=None never restarts, and `nres` draws"),
        ("full_es", {"window": 2}, "`window`=2 is not `length`=8; `full_es`"),
        ("full_es", {"window": 2, "length": None}, "`window`=2 is not `length`=None"),
        ("full_backprop", {"window": 2}, "`window`=2 is not `length`=8; `full_backprop`"),
        ("gpes", {"noise_period": 3}, "`noise_period`=3 is no multiple of `window`=2"),
        ("gpes", {"noise_period": 0}, "`noise_period`=0"),
        ("mixture", {"components": [("pez", 1.0, {})]}, "names 'pez'.*legal ones: .*'pes'"),
        ("mixture", {"components": [("pes", 1.0)]}, r"`components` has \('pes', 1.0\); each is"),
        ("mixture", {"components": [("pes", 0.7, {})]}, r"weights \[0.7\]; they must add up to 1"),
    ],
)
def test_settings_of_one_estimator_are_checked(name, settings, message):
    with pytest.raises(ValueError, match=message):
        ESTIMATORS[name](DRIFT, **{**SETTINGS, **settings})


@pytest.mark.parametrize("name", ["pes", "rtrl", "mixture"])
def test_an_unknown_argument_is_named_with_the_legal_ones(name):
    with pytest.raises(TypeError, match="unknown argument `sigmas`; legal ones: window, "):
        make(name, DRIFT, sigmas=0.1)


@pytest.mark.parametrize(("name", "missing"), [("pes", "particles"), ("rtrl", "window")])
def test_a_missing_argument_is_named(name, missing):
    settings = {k: v for k, v in SETTINGS.items() if k != missing}
    with pytest.raises(TypeError, match=f"`{missing}` is missing"):
        ESTIMATORS[name](DRIFT, **settings)


def test_numbers_of_any_kind_will_do(name):
    """θ and parts of the state as Python's, counts as NumPy's."""

    def step(key, theta, state, data):
        del key, data
        position, count = state
        return (position + theta["a"], count + 1), position * theta["b"]

    problem = UnrolledProblem(lambda key, theta: (theta["b"], 0), step)
    window = np.int64(8 if name in WHOLE else 2)
    estimator = make(name, problem, window=window, length=np.int64(8))
    gradient, *_ = one_step(estimator, {"a": 0.5, "b": np.float32(1.5)})
    assert all(np.isfinite(leaf) for leaf in jax.tree.leaves(gradient))


def test_losses_of_low_precision_are_added_in_single(name):
    """Two of 40,000 are more than float16 holds."""

    def step(key, theta, state, data):
        del key, data
        return state, (4e4 + 1e3 * theta.sum()).astype(jnp.float16)

    estimator = make(name, UnrolledProblem(lambda key, theta: jnp.zeros(()), step), sigma=1.0)
    _, _, info = one_step(estimator, jnp.zeros(3))
    assert int(info.diverged) == 0
    assert np.isfinite(info.losses).all()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda k, t, s, d: (s, t), "must be a scalar"),
        (lambda k, t, s, d: (s, jnp.zeros((), jnp.int32)), "must be a scalar, floating"),
        (lambda k, t, s, d: (jnp.zeros(4), t.sum()), "changed the shapes"),
        (lambda k, t, s, d: (s.astype(jnp.int32), t.sum()), "changed the shapes or dtypes"),
    ],
)
def test_problems_that_cannot_be_unrolled_are_refused(name, step, message):
    estimator = make(name, UnrolledProblem(lambda key, theta: jnp.zeros(3), step))
    with pytest.raises(ValueError, match=message):
        one_step(estimator)


def test_theta_with_integer_leaves_is_refused(name):
    with pytest.raises(ValueError, match=r"`theta`\['n'\] has dtype int32"):
        make(name, DRIFT).init(KEY, {"n": jnp.zeros((), jnp.int32)})
