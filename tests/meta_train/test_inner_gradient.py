"""The inner gradient in parts, on several devices and rematerialised: the same θ, less memory."""

import dataclasses
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from meta_train import rematerialization
from meta_train.assemble import assemble
from meta_train.config import ConfigError, check_config
from meta_train.estimation import make_estimator, rows_of
from meta_train.inner_gradient import differentiate_as, in_sequence, over_devices
from meta_train.meta_training import meta_training, outer_step
from meta_train.outer import outer_optimizer
from meta_train.parallel import BATCH_AXIS, device_mesh, row_devices, split_rows
from meta_train.presets import TINY
from meta_train.problems.optimizer_training import meta_data, optimizer_training
from meta_train.rematerialization import best_cuts, differentiate_rematerialized
from tasks import get_family
from tasks.base import differentiate_whole
from tests.meta_train.stubs import SGD

CONFIG = dataclasses.replace(TINY, task="fashion_mnist_8x8_mlp8", devices=1)
KEY = jax.random.key(3)


def theta_after(updates, **changes):
    config = dataclasses.replace(CONFIG, **changes)
    check_config(config)
    run = assemble(config)
    state = run.training.init(run.key_init)
    state, metrics = run.training.advance(state, np.int32(updates), run.key_updates, run.data)
    return jax.device_get(state.theta), float(metrics["meta_loss"])


@pytest.fixture(scope="module")
def reference():
    return theta_after(6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"microbatches": 4},
        {"devices": 2, "batch_devices": 2},
        {"devices": 4, "batch_devices": 2, "microbatches": 2},
        {"devices": 4, "batch_devices": 4, "block": 2},
        {"rematerialize": True},
        {"rematerialize": True, "microbatches": 2, "devices": 2, "batch_devices": 2},
        {"block": 2},
    ],
    ids=str,
)
def test_the_same_theta_of_a_learned_rule(reference, changes):
    theta, meta_loss = theta_after(6, **changes)
    assert meta_loss == pytest.approx(reference[1], rel=1e-5)
    for ours, theirs in zip(*map(jax.tree.leaves, (theta, reference[0])), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def sgd_training(family=None, **changes):
    """(training, its arguments) of a meta-trained learning rate, which compiles quickly."""
    config = dataclasses.replace(CONFIG, **changes)
    check_config(config)
    family = family or get_family(config.task)
    splits = family.load()
    mesh = device_mesh(
        rows_of(config), jax.devices()[: config.devices], batch_devices=config.batch_devices
    )
    layout = split_rows(mesh, config.block or 1)
    differentiate = differentiate_as(config, family, splits["train"])
    problem = optimizer_training(family, SGD, differentiate=differentiate)
    estimator_at = partial(make_estimator, config, problem, loss_bound=4.0, layout=layout)
    training = meta_training(SGD.init, estimator_at, outer_step(outer_optimizer(config)), mesh)
    data = meta_data(splits, "train")
    return training, (training.init(jax.random.key(0)), np.int32(4), jax.random.key(1), data)


@pytest.fixture(scope="module")
def rates():
    """The meta-trained learning rate of an estimator, undivided."""
    found = {}

    def of(estimator):
        if estimator not in found:
            training, arguments = sgd_training(estimator=estimator)
            found[estimator] = training.advance(*arguments)
        return found[estimator]

    return of


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


PARTS = [
    ("pes", {"devices": 2, "batch_devices": 2}),
    ("pes", {"devices": 4, "batch_devices": 2, "microbatches": 2, "rematerialize": True}),
    slow("pes", {"microbatches": 4}),
    slow("pes", {"devices": 4, "batch_devices": 4}),
    slow("pes", {"block": 4}),
    slow("pes", {"devices": 2, "block": 2}),
    slow("truncated_backprop", {"microbatches": 2, "rematerialize": True}),
    slow("truncated_backprop", {"block": 4}),
    slow("dodge", {"microbatches": 2, "rematerialize": True}),
]


@pytest.mark.parametrize(("estimator", "changes"), PARTS, ids=str)
def test_the_same_theta_however_it_is_divided(rates, estimator, changes):
    expected, metrics = rates(estimator)
    training, arguments = sgd_training(estimator=estimator, **changes)
    state, ours = training.advance(*arguments)
    start = float(SGD.init(None))
    assert abs(float(expected.theta) - start) > 1e-3
    assert float(state.theta) == pytest.approx(float(expected.theta), rel=0, abs=1e-6)
    assert float(ours["meta_loss"]) == pytest.approx(float(metrics["meta_loss"]), rel=1e-5)


def test_devices_that_share_a_minibatch_talk_once_a_step_and_once_an_update():
    """More collectives at once could lock XLA's threads on CPU."""
    training, arguments = sgd_training(devices=4, batch_devices=2)
    text = training.advance.lower(*arguments).compile().as_text()
    collectives = re.findall(
        r"= (?:\([^)]*\)|\S+) (all-[\w-]+|reduce-scatter[\w-]*|collective-[\w-]+)\(", text
    )
    assert sorted(collectives) == ["all-gather", "all-reduce"]


def noisy_loss(params, model_state, key, batch):
    """A mean over examples of (p − x)², with noise, a mean and a counter in its state."""
    x = batch["x"]
    loss = jnp.mean((params["p"] - x) ** 2) + params["p"].sum() * jax.random.normal(key)
    return loss, ({"mean": x.mean(), "calls": model_state["calls"] + 1}, {"spread": x.max()})


ARGUMENTS = (
    {"p": jnp.asarray(2.0, jnp.bfloat16)},
    {"mean": jnp.zeros(()), "calls": jnp.zeros((), jnp.int32)},
    KEY,
    {"x": jnp.arange(8.0)},
)


def test_parts_in_sequence_are_means_from_one_model_state():
    """Closed form: of (p − x)² on x = 0…7 in two parts, each with its own noise."""
    (loss, (state, metrics)), gradient = in_sequence(differentiate_whole, 2)(noisy_loss)(*ARGUMENTS)
    noise = np.mean([float(jax.random.normal(k)) for k in jax.random.split(KEY, 2)])
    x = np.arange(8.0)
    assert float(loss) == pytest.approx(np.mean((2 - x) ** 2) + 2 * noise, rel=1e-2)
    assert float(gradient["p"]) == pytest.approx(np.mean(2 * (2 - x)) + noise, rel=1e-2)
    assert gradient["p"].dtype == jnp.bfloat16
    assert float(state["mean"]) == pytest.approx(3.5)
    assert int(state["calls"]) == 1
    assert float(metrics["spread"]) == pytest.approx((3 + 7) / 2)


def test_parts_on_devices_are_those_in_sequence():
    mesh = device_mesh(4, jax.devices()[:4], batch_devices=2)
    assert (row_devices(mesh), mesh.shape[BATCH_AXIS]) == (2, 2)
    spread = jax.shard_map(
        over_devices(differentiate_whole)(noisy_loss),
        mesh=mesh,
        in_specs=PartitionSpec(),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    expected = in_sequence(differentiate_whole, 2)(noisy_loss)(*ARGUMENTS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), spread(*ARGUMENTS),
                 expected)  # fmt: skip
    whole = differentiate_whole(noisy_loss)(*ARGUMENTS)
    outside = over_devices(differentiate_whole)(noisy_loss)(*ARGUMENTS)
    jax.tree.map(np.testing.assert_array_equal, outside, whole)


LAYERS, WIDTH, EXAMPLES = 8, 32, 1024


def deep_loss(params, model_state, key, batch):
    hidden = batch["x"]
    for weight in params["layers"] * 2:  # each in two stretches
        hidden = jax.nn.gelu(hidden @ weight)
    loss = jnp.mean((hidden.sum(axis=1) - batch["y"]) ** 2)
    return loss + 0 * params["unused"].astype(loss.dtype), (model_state, {"loss": loss})


def recurrent_loss(params, model_state, key, batch):
    def step(hidden, x):
        return jax.nn.gelu(jnp.tanh(hidden @ params["layers"][0]) + jnp.sin(x)), None

    hidden, _ = jax.lax.scan(step, batch["x"], jnp.linspace(0, 1, 64))
    return jnp.mean(hidden**2), (model_state, {})


def deep_arguments():
    keys = jax.random.split(KEY, LAYERS)
    layers = [jax.random.normal(k, (WIDTH, WIDTH)) / np.sqrt(WIDTH / 2) for k in keys]
    batch = {"x": jax.random.normal(KEY, (EXAMPLES, WIDTH)), "y": jnp.arange(EXAMPLES)}
    return {"layers": layers, "unused": jnp.ones((), jnp.int32)}, {}, KEY, batch


def compiled_gradient(differentiate, loss, arguments):
    floats = {"layers": arguments[0]["layers"]}

    def of(layers):
        params = {**arguments[0], **layers}
        return differentiate(lambda p, *rest: loss({**params, **p}, *rest))(layers, *arguments[1:])

    return jax.jit(of).lower(floats).compile(), floats


@pytest.mark.parametrize(("loss", "share"), [(deep_loss, 0.6), (recurrent_loss, 0.5)])
def test_a_rematerialised_gradient_is_the_same_and_holds_less(loss, share):
    """In what the compiler itself says it needs, on the platform of the test."""
    arguments = deep_arguments()
    plain, floats = compiled_gradient(differentiate_whole, loss, arguments)
    again, _ = compiled_gradient(differentiate_rematerialized, loss, arguments)
    for ours, theirs in zip(*map(jax.tree.leaves, (again(floats), plain(floats))), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    bytes_of = [p.memory_analysis().temp_size_in_bytes for p in (again, plain)]
    assert bytes_of[0] < share * bytes_of[1]


def test_a_rematerialised_gradient_has_derivatives(monkeypatch):
    """As estimators take them: forward, and backward; of stretches of four equations."""
    monkeypatch.setattr(
        rematerialization, "best_cuts", lambda jaxpr: list(range(3, len(jaxpr.eqns), 4))
    )
    weight = jax.random.normal(KEY, (4, 4))
    batch = {"x": jax.random.normal(KEY, (8, 4)), "y": jnp.arange(8)}

    def norm(scale, differentiate):
        params = {"layers": [scale * weight] * 2, "unused": jnp.ones(())}
        _, gradient = differentiate(deep_loss)(params, {}, KEY, batch)
        return sum(jnp.sum(g**2) for g in gradient["layers"])

    for take in (jax.grad, jax.jacfwd):
        derivative = jax.jit(take(norm), static_argnums=1)
        ours, theirs = (
            derivative(0.3, how) for how in (differentiate_rematerialized, differentiate_whole)
        )
        assert float(ours) == pytest.approx(float(theirs), rel=1e-4)
        assert abs(float(ours)) > 1e-4


def test_cuts_are_where_least_is_alive():
    """Between layers, not within them; a loss of few equations is not cut at a loss."""

    def wide_then_narrow(x):
        for _ in range(6):
            wide = jnp.tanh(jnp.tile(x, 8)) + jnp.sin(jnp.tile(x, 8))
            x = wide.reshape(8, -1).sum(axis=0)
        return x.sum()

    jaxpr = jax.make_jaxpr(wide_then_narrow)(jnp.ones(100)).jaxpr
    cuts = best_cuts(jaxpr)
    assert cuts
    for cut in cuts:
        assert jaxpr.eqns[cut - 1].outvars[0].aval.shape == (100,)
    assert best_cuts(jax.make_jaxpr(lambda x: jnp.sin(x).sum())(jnp.ones(3)).jaxpr) == []


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["pes", "truncated_backprop"])
def test_a_device_holds_the_activations_of_a_block_and_of_a_microbatch(estimator):
    """Temporary bytes grow with the rows at a time, and fall with the parts of the minibatch."""
    family = get_family("fashion_mnist_8x8_mlp64x64_tanh", batch_size=1024)
    one = 1024 * (64 + 64 + 10) * 4 * (2 if estimator == "pes" else 1)

    def temporary(**changes):
        training, arguments = sgd_training(family, estimator=estimator, **changes)
        compiled = training.advance.lower(*arguments).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    alone, four, parts = temporary(), temporary(block=4), temporary(block=4, microbatches=16)
    assert four - alone > 3 * one
    assert four > 2.5 * alone
    assert parts < 0.6 * four


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"microbatches": 3}, "`config.microbatches`=3 times .* does not divide the 64 examples"),
        ({"batch_devices": 2}, "`config.batch_devices`=2: .* has 1 devices; lower it, or set"),
        ({"devices": 2, "batch_devices": 3}, "`config.batch_devices`=3: .* has 2 devices; lower"),
        ({"task": "quadratic8", "microbatches": 2}, "'quadratic8' has no minibatches of examples"),
        (
            {"estimator": "truncated_backprop", "devices": 2, "batch_devices": 2},
            "`config.batch_devices`=2: 'truncated_backprop' differentiates.*`config.microbatches`",
        ),
        ({"microbatches": 0}, "`config.microbatches`=0: must be at least 1"),
        ({"memory_limit": -1.0}, "`config.memory_limit`=-1.0: must be at least 0"),
    ],
)
def test_what_cannot_be_divided_is_named(changes, message):
    config = dataclasses.replace(CONFIG, **changes)

    def prepare():
        check_config(config)
        assemble(config)

    with pytest.raises(ConfigError, match=message):
        prepare()
