"""A warning where a model, its dtype or the horizon is not like what the manifest states."""

import warnings

import jax
import jax.numpy as jnp
import pytest

import learned_opt
from learned_opt import RULES, OutsideEnvelopeWarning

META_TRAINING = {
    "tasks": [{"name": "a", "parameters": 100}, {"name": "b", "parameters": 400}],
    "horizons": [100, 500],
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("envelope") / "optimizer"
    rule = RULES["mlp"](hidden=(4,))
    theta = rule.init(jax.random.key(0))
    learned_opt.save(path, rule, theta, meta_training=META_TRAINING)
    learned_opt.save(path.with_name("unstated"), rule, theta, meta_training={})
    return path


def model(size, dtype=jnp.float32):
    return {"w": jnp.zeros((size // 2, 2), dtype)}


INSIDE = [(model(100), None), (model(400), 100), (model(50), 500), (model(800), 300)]
OUTSIDE = [
    (model(48), None, "48 parameters, where it was trained on 100 to 400"),
    (model(1_000_000), None, "1,000,000 parameters"),
    (model(100), 501, "501 updates, where it was trained for 100 to 500"),
    (model(100), 99, "99 updates"),
    (model(100, jnp.bfloat16), None, "parameters in bfloat16, where it was trained on float32"),
]


@pytest.mark.parametrize(("params", "num_steps"), INSIDE)
def test_inside_there_is_none(saved, params, num_steps):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learned_opt.load(saved, num_steps=num_steps).init(params)


@pytest.mark.parametrize(("params", "num_steps", "message"), OUTSIDE)
def test_outside_there_is_one_that_says_what_and_how_to_silence_it(
    saved, params, num_steps, message
):
    with pytest.warns(OutsideEnvelopeWarning, match=message) as caught:
        learned_opt.load(saved, num_steps=num_steps).init(params)
    (warning,) = [w for w in caught if issubclass(w.category, OutsideEnvelopeWarning)]
    for part in (str(saved), "learned_opt.guard", "filterwarnings"):
        assert part in str(warning.message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=OutsideEnvelopeWarning)
        learned_opt.load(saved, num_steps=num_steps).init(params)
        learned_opt.load(saved.with_name("unstated"), num_steps=num_steps).init(params)


def test_it_comes_while_tracing_too_and_once_a_compilation(saved):
    tx = learned_opt.load(saved)
    init = jax.jit(tx.init)
    with pytest.warns(OutsideEnvelopeWarning):
        init(model(10))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        init(model(10))


@pytest.mark.parametrize(
    "odd",
    [{"tasks": "all"}, {"tasks": [3, {"parameters": "many"}]}, {"horizons": {"a": 1}},
     {"horizons": [True, "x"]}, {"tasks": [{"parameters": 100}], "dtypes": 7}],
)  # fmt: skip
def test_a_manifest_that_states_nothing_of_use_is_no_error(saved, odd):
    path = saved.with_name("odd")
    rule = RULES["mlp"](hidden=(4,))
    learned_opt.save(path, rule, rule.init(jax.random.key(0)), meta_training=odd)
    learned_opt.load(path, num_steps=3).init(model(100))
