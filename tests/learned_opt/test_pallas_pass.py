"""The kernel for GPUs is the plain form, interpreted here and compiled for there."""

import re
from itertools import pairwise
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt import RULES
from learned_opt.kernels import native, network_pass, pallas_pass, pass_of_tensor
from learned_opt.kernels.network_pass import Factors, FullSquares, NetworkPass
from learned_opt.kernels.pass_of_tensor import pass_fits
from tests.learned_opt.accelerator import (
    compiled_for_gpu,
    interpret_kernels,
    mesh_of_gpus,
    pretend_gpu,
)
from tests.learned_opt.rules_table import LOUD, quick_jit

SHAPES = {
    "scalar": (), "odd": (37,), "another": (37,), "wide": (3, 7), "tall": (7, 3), "line": (1, 5),
    "kernel": (2, 2, 3, 5), "empty": (0, 3),
}  # fmt: skip
RULES_AND_WIDTHS = [
    (name, hidden) for name in ("mlp", "adafactor_mlp") for hidden in ((4, 4), (32, 32))
]
STEPS = 4


@pytest.fixture
def gpu(monkeypatch):
    pretend_gpu(monkeypatch)
    interpret_kernels(monkeypatch)
    monkeypatch.setattr(pallas_pass, "BLOCK", 16)
    monkeypatch.setattr(pallas_pass, "NARROW_BLOCK", 16)


def normals(key, shapes=SHAPES):
    keys = jax.random.split(jax.random.key(key), len(shapes))
    return {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}


def make(name, hidden):
    """A rule, and a θ of it in which nothing is zero."""
    rule = RULES[name](**LOUD, hidden=hidden)
    leaves, tree = jax.tree.flatten(rule.init(jax.random.key(3)))
    noise = normals(4, {i: leaf.shape for i, leaf in enumerate(leaves)})
    return rule, tree.unflatten([x + 0.02 * noise[i] for i, x in enumerate(leaves)])


def trajectory(rule, theta, gradient_scale=1.0):
    """Updates and states of a few steps down a bowl, with gradients that shrink and are noisy."""
    tx, traces = rule.build(theta), []

    @quick_jit
    def update(*arguments):
        traces.append(0)
        return tx.update(*arguments)

    params = normals(1)
    state, steps = tx.init(params), []
    for t in range(STEPS):
        noise = normals(10 + t)
        gradients = jax.tree.map(
            lambda p, n, t=t: gradient_scale * 10.0**-t * (p + 0.1 * n), params, noise
        )
        step, state = update(gradients, state, params)
        params = jax.tree.map(lambda p: 0.9 * p, params)
        steps.append(step)
    assert len(traces) == 1
    return jax.device_get((steps, state))


def assert_within(actual, expected, tolerance=1e-6):
    """Every number is within so many of the largest of all."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    largest = max(np.abs(b).max(initial=0.0) for b in jax.tree.leaves(expected))
    for (path, a), b in zip(
        jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True
    ):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * largest, err_msg=name)


ONE_OF_EACH_RULE = [
    one if one in RULES_AND_WIDTHS[1:3] else pytest.param(*one, marks=pytest.mark.slow)
    for one in RULES_AND_WIDTHS
]


@pytest.mark.parametrize(("name", "hidden"), ONE_OF_EACH_RULE)
def test_a_rule_on_a_gpu_is_the_plain_one_at_every_step(name, hidden, request):
    rule, theta = make(name, hidden)
    expected, expected_state = trajectory(rule, theta)
    request.getfixturevalue("gpu")
    steps, state = trajectory(rule, theta)
    for step, expected_step in zip(steps, expected, strict=True):
        assert_within(step, expected_step)
    jax.tree.map(lambda a, b: assert_within(a, b, 1e-6), state, expected_state)


FEW = {"odd": (17,), "tall": (7, 3)}


@pytest.mark.parametrize(
    ("name", "hidden", "shape"),
    [
        ("mlp", (4, 4), (7, 3)),
        ("adafactor_mlp", (32, 32), (7, 3)),
        ("adafactor_mlp", (4, 4), (17,)),
    ],
)
def test_derivatives_are_those_of_the_plain_form(name, hidden, shape, request):
    """Forwards and backwards, by θ, gradient, parameters and the state."""
    rule, theta = make(name, hidden)
    gradient, params = (jax.random.normal(jax.random.key(i), shape) for i in (20, 21))
    state = rule.build(theta).init(params)
    state = state._replace(tensors=jax.tree.map(lambda x: x + 0.1, state.tensors))

    def loss(theta, gradient, params, tensors):
        before = state._replace(tensors=tensors)
        return 1e3 * jnp.sum(rule.build(theta).update(gradient, before, params)[0] * params)

    arguments = (theta, gradient, params, state.tensors)

    def derivatives(*x):
        return jax.jvp(loss, x, x), jax.grad(loss, (0, 1, 2, 3))(*x)

    expected = quick_jit(derivatives)(*arguments)
    request.getfixturevalue("gpu")
    actual = quick_jit(lambda *x: derivatives(*x))(*arguments)
    jax.tree.map(lambda a, b: assert_within(a, b, 1e-5), actual, expected)


@pytest.mark.parametrize(("name", "hidden"), RULES_AND_WIDTHS[1:3])
def test_particles_with_a_theta_each_in_a_scan_on_two_devices(name, hidden, request):
    rule, theta = make(name, hidden)
    params = normals(5, FEW)
    noise = jax.random.normal(jax.random.key(6), (4,))
    many = jax.tree.map(lambda x: jnp.stack([x + 0.01 * n for n in noise]), theta)

    def train(theta):
        tx = rule.build(theta)

        def step(carry, _):
            params, state = carry
            steps, state = tx.update(params, state, params)
            return (jax.tree.map(jnp.add, params, steps), state), None

        return jax.lax.scan(step, (params, tx.init(params)), length=3)[0][0]

    mesh = jax.sharding.Mesh(jax.devices()[:2], ("rows",))
    rows = jax.sharding.PartitionSpec("rows")

    def spread():
        return jax.shard_map(
            jax.vmap(train), mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False
        )

    expected = quick_jit(spread())(many)
    request.getfixturevalue("gpu")
    request.getfixturevalue("monkeypatch").setattr(jax, "device_count", lambda: 2)
    assert "learned_opt_network_pass" in str(jax.make_jaxpr(spread())(many))
    assert_within(quick_jit(spread())(many), expected)


KINDS = ("momenta", "factored", "full")


def some_pass(kind, hidden, shape=(2, 3, 5), momenta=3):
    """A pass of random numbers, of the kinds of squares that there are."""
    keys = iter(jax.random.split(jax.random.key(8), 20))

    def draw(*shape):
        return jax.random.normal(next(keys), shape)

    matrices, rows, columns = shape
    squares, inputs = None, 2 + momenta
    if kind != "momenta":
        second, inputs = jnp.square(draw(1, *shape)), 4 + 4 * momenta
    if kind == "factored":
        of_lines = (draw(n, matrices, of) for n in (momenta, hidden[0]) for of in (rows, columns))
        squares = Factors(second, *of_lines)
    elif kind == "full":
        squares, inputs = FullSquares(second, jnp.square(draw(momenta, *shape))), 4 + 6 * momenta
    widths = [inputs, *hidden, 2]
    layers = [(draw(i, o) * i**-0.5, draw(o)) for i, o in pairwise(widths)]
    return NetworkPass(
        draw(*shape), draw(*shape), draw(momenta, *shape), squares, layers, jnp.array([0.1, 0.2])
    )


@pytest.mark.parametrize("hidden", [(4, 4), (20, 5)])
@pytest.mark.parametrize("kind", KINDS)
def test_nan_passes_where_it_is_and_nowhere_else(kind, hidden, gpu):
    of = some_pass(kind, hidden)
    clean = network_pass.plain(of)
    assert np.isfinite(clean).all()
    for name in ("gradient", "parameter"):
        broken = getattr(of, name).at[1, 2, 3].set(np.nan)
        actual = jax.jit(pallas_pass.in_one_pass)(of._replace(**{name: broken}))
        where = np.argwhere(np.isnan(actual))
        np.testing.assert_array_equal(where, [[1, 2, 3]])
        np.testing.assert_allclose(
            actual[~np.isnan(actual)], clean[~np.isnan(actual)], rtol=1e-5, atol=1e-7
        )


def test_products_take_the_precision_that_jax_is_told():
    """Exact without a word. Processors heed none of it: what the kernel asks for is looked at."""
    of = some_pass("factored", (32, 32))

    def asked(precision):
        with jax.default_matmul_precision(precision):
            text = str(jax.make_jaxpr(pallas_pass.in_one_pass)(of))
        return re.findall(r"precision=([^\n]+)", text)

    assert asked(None) == asked("float32") == ["(Precision.HIGHEST, Precision.HIGHEST)"]
    assert asked("tensorfloat32") == ["(Precision.HIGH, Precision.HIGH)"]
    assert asked("TF32_TF32_F32_X3") == ["TF32_TF32_F32_X3"]


def lowered(function, *arguments, platform="cuda"):
    """The program for a platform that need not be here."""
    with compiled_for_gpu():
        traced = jax.jit(function).trace(*arguments)
        return traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize(
    ("name", "hidden", "platform"),
    [
        (*RULES_AND_WIDTHS[0], "cuda"),
        *(pytest.param(*one, "cuda", marks=pytest.mark.slow) for one in RULES_AND_WIDTHS[1:]),
        (*RULES_AND_WIDTHS[-1], "rocm"),
    ],
)
def test_rules_lower_to_the_kernel_for_gpus_and_the_plain_form_elsewhere(
    name, hidden, platform, monkeypatch
):
    pretend_gpu(monkeypatch)
    rule, theta = make(name, hidden)
    params = normals(0)
    many = jax.tree.map(lambda x: jnp.stack([jnp.stack([x, x])] * 3), theta)

    def step(theta, params):
        tx = rule.build(theta)
        return tx.update(params, tx.init(params), params)

    particles = jax.vmap(jax.vmap(step, (0, None)), (0, None))
    text = lowered(particles, many, params, platform=platform)
    assert text.count("xla.gpu.triton") == len(SHAPES) - 2  # one is empty, two are as one
    assert "triton" not in lowered(particles, many, params, platform="cpu")
    updates, _ = quick_jit(step)(theta, normals(0, FEW))  # placed on a processor after all
    assert all(np.isfinite(u).all() for u in updates.values())


@pytest.mark.parametrize("varying", ["theta", "params"])
def test_the_kernel_lowers_where_types_say_what_varies(varying, monkeypatch):
    """Inside a `jax.shard_map` that checks them: models of one θ, or one model and many θ."""
    pretend_gpu(monkeypatch)
    rule, theta = make("adafactor_mlp", (4, 4))
    split, whole = jax.sharding.PartitionSpec("x"), jax.sharding.PartitionSpec()
    many = {"theta": theta, "params": {"matrix": jnp.ones((7, 3)), "vector": jnp.ones(4)}}
    many[varying] = jax.tree.map(lambda x: jnp.stack([x, x]), many[varying])

    def step(theta, params):
        def alone(tree, name):
            return jax.tree.map(lambda x: x[0], tree) if name == varying else tree

        tx, params = rule.build(alone(theta, "theta")), alone(params, "params")
        updates, _ = tx.update(params, tx.init(params), params)
        return jax.tree.map(lambda x: x[None], updates)

    specs = tuple(split if name == varying else whole for name in many)
    spread = jax.shard_map(step, mesh=mesh_of_gpus(2), in_specs=specs, out_specs=split)
    traced = jax.jit(spread).trace(*many.values())
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("xla.gpu.triton") == 2


def test_where_the_kernel_is_taken(monkeypatch):
    matrix, apart = jnp.ones((3, 4)), jnp.ones((5, 2, 4))
    assert not pass_fits(matrix, 3, (32, 32))
    pretend_gpu(monkeypatch)
    assert pass_fits(matrix, 3, (32, 32))
    assert pass_fits(jnp.ones(()), 3, (32, 32))
    assert pass_fits(matrix, 3, (32, 4))
    assert not pass_fits(matrix, 3, (4, 33))
    assert not pass_fits(apart, 3, (32, 32))  # its largest axes are not the last
    assert not pass_fits(jnp.ones((0, 3)), 3, (32, 32))
    huge = jax.ShapeDtypeStruct((2**15, 2**14), jnp.float32)
    assert pass_fits(huge, 3, (32, 32))
    assert not pass_fits(huge, 4, (32, 32))
    for capability, taken in [("7.5", False), ("8.0", True), ("12.0", True), ("gfx942", True)]:
        pretend_gpu(monkeypatch, SimpleNamespace(compute_capability=capability))
        assert pass_fits(matrix, 3, (32, 32)) == taken
    with native.plain_forms():
        assert not pass_fits(matrix, 3, (32, 32))
    assert pass_fits(matrix, 3, (32, 32))
    monkeypatch.setattr(pass_of_tensor, "in_one_pass", None)
    assert not pass_fits(matrix, 3, (32, 32))
    assert pass_of_tensor.why_not() == "this JAX has no Triton"
    monkeypatch.undo()
    pretend_gpu(monkeypatch, devices=2)  # the compiler may cut the arrays, but not the kernel
    assert not pass_fits(matrix, 3, (32, 32))


def test_plain_forms_are_had_where_the_kernel_of_processors_was_taken_before():
    there = native.why_not() is None
    with native.plain_forms():
        assert not native.available()
    assert native.available() == there
