"""The compiled kernels equal the plain forms, and give way to them where they cannot be had."""

import functools
import os
import shutil
import subprocess
import sys
from importlib import import_module

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, PartitionSpec

import learned_opt
from learned_opt.kernels import native, step_of_tensor
from tests.golden import trajectories
from tests.learned_opt import rules_table

RULES_WITH_KERNELS = [
    import_module(f"learned_opt.rules.{name}") for name in ("mlp", "adafactor_family")
]
SHAPES = ((), (7,), (9000,), (5, 1), (1, 9), (130, 97), (2, 3, 4), (3, 3, 4, 6), (0, 3))
WIDTHS = {
    "mlp": ((32, 32), (4, 4), (5, 7, 3)),
    "adafactor_mlp": ((32, 32), (4, 4), (6,)),
}
CASES = [(rule, hidden) for rule, widths in WIDTHS.items() for hidden in widths]

needs_kernels = pytest.mark.skipif(
    native.why_not() is not None, reason=f"no kernels here: {native.why_not()}"
)


def choose(monkeypatch, fits):
    """Every rule takes the kernel, or none does, whatever the devices of this process."""

    def chosen(parameter, long):
        del long
        if fits and parameter.size:
            calls.append(parameter.shape)
        return fits and parameter.size > 0

    calls = []
    for module in RULES_WITH_KERNELS:
        monkeypatch.setattr(module, "kernel_fits", chosen)
    return calls


def made(rule, hidden, **constants):
    row = rules_table.ROWS[rule]._replace(rule=rule)
    return rules_table.make(row, hidden=hidden, **constants)


def draw(key, shapes=SHAPES):
    keys = jax.random.split(key, len(shapes))
    return [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]


def trajectory(rule, theta, steps=4):
    """Updates and states of a few steps from parameters that move."""
    tx = rule.build(theta)
    parameters = draw(jax.random.key(1))
    state, update, recorded = tx.init(parameters), rules_table.quick_jit(tx.update), []
    for step in range(steps):
        noise = draw(jax.random.fold_in(jax.random.key(2), step))
        gradients = jax.tree.map(
            lambda n, p, s=step: 0.1 * (s + 1) * n + 0.1 * p, noise, parameters
        )
        updates, state = update(gradients, state, parameters)
        parameters = jax.tree.map(jnp.add, parameters, updates)
        recorded.append((updates, state))
    return recorded


def relative(value, reference):
    return float(jnp.abs(value - reference).max() / (jnp.abs(reference).max() + 1e-20))


def worst(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max(relative(x, y) for x, y in pairs if x.size)


@needs_kernels
@pytest.mark.parametrize(("name", "hidden"), CASES)
def test_updates_and_states_are_those_of_the_plain_form(name, hidden, monkeypatch):
    rule, theta = made(name, hidden)
    choose(monkeypatch, fits=False)
    plain = trajectory(rule, theta)
    calls = choose(monkeypatch, fits=True)
    assert worst(trajectory(rule, theta), plain) < 1e-5
    assert {s for s in SHAPES if 0 not in s} == {tuple(s) for s in calls}
    louder = made(name, hidden, exponent_multiplier=0.32)[0]
    assert worst(trajectory(louder, theta), plain) > 1e-4  # it could have been seen


@needs_kernels
@pytest.mark.parametrize("name", ["mlp_lopt", "adafac_mlp_lopt_h4", "adafac_mlp_lopt_h32"])
def test_golden_trajectories(name, monkeypatch):
    calls = choose(monkeypatch, fits=True)
    converted = trajectories.weights(name)
    tx = converted.optimizer.build(converted.theta)
    assert trajectories.worst_deviation(name, tx, jax.jit(tx.update)) < 1
    assert calls


@needs_kernels
@pytest.mark.slow
@pytest.mark.parametrize("name", WIDTHS)
def test_state_in_bfloat16(name, monkeypatch):
    rule, theta = made(name, (4, 4), state_dtype="bfloat16")
    choose(monkeypatch, fits=False)
    plain = trajectory(rule, theta, steps=1)
    choose(monkeypatch, fits=True)
    updates, state = trajectory(rule, theta, steps=1)[0]
    assert worst(updates, plain[0][0]) < 1e-5
    assert jax.tree.map(jnp.result_type, state) == jax.tree.map(jnp.result_type, plain[0][1])


def one_step(rule, tensors, theta, gradient):
    tx = rule.build(theta)
    updates, _ = tx.update(gradient, tx.init(tensors), tensors)
    return updates


@needs_kernels
@pytest.mark.parametrize(
    "name",
    [
        name if i == 0 else pytest.param(name, marks=pytest.mark.slow)
        for i, name in enumerate(WIDTHS)
    ],
)
def test_derivatives_and_many_thetas_at_once(name, monkeypatch):
    """One tensor after another of every batch: θ alone, gradients alone, both, and both twice."""
    rule, theta = made(name, (4, 4))
    shapes = ((3,), (4, 5))
    tensors = draw(jax.random.key(3), shapes)
    gradients = [draw(jax.random.key(k), shapes) for k in (4, 5)]
    thetas = [jax.tree.map(lambda x, s=s: x * s, theta) for s in (1.0, 1.3, 0.7)]
    stack = functools.partial(jax.tree.map, lambda *x: jnp.stack(x))
    step = functools.partial(one_step, rule, tensors)

    def loss(theta, gradient):
        updates = step(theta, gradient)
        return sum(jnp.sum(u * jnp.arange(u.size).reshape(u.shape)) for u in updates)

    @rules_table.quick_jit
    def everything():
        return {
            "gradient": jax.grad(loss)(theta, gradients[0]),
            "tangent": jax.jvp(loss, (theta, gradients[0]), (thetas[1], gradients[1]))[1],
            "thetas": jax.vmap(step, (0, None))(stack(*thetas), gradients[0]),
            "gradients": jax.vmap(step, (None, 0))(theta, stack(*gradients)),
            "each": jax.vmap(jax.vmap(step, (None, 0)), (0, None))(
                stack(*thetas), stack(*gradients)
            ),
        }

    choose(monkeypatch, fits=False)
    plain = everything()
    everything.clear_cache()
    assert choose(monkeypatch, fits=True) == []
    kernel = everything()
    for part in plain:
        assert worst(kernel[part], plain[part]) < 1e-5, part
    for i, of in enumerate(thetas):
        assert (
            worst(jax.tree.map(lambda x, i=i: x[i], kernel["thetas"]), step(of, gradients[0]))
            < 1e-5
        )


@needs_kernels
@pytest.mark.slow
@pytest.mark.parametrize("name", WIDTHS)
def test_multipliers_that_are_hyperparameters(name, monkeypatch):
    """`optax.inject_hyperparams` traces them."""
    _, theta = made(name, (4, 4))
    rule = learned_opt.RULES[name]
    tx = optax.inject_hyperparams(
        lambda step_multiplier: rule(step_multiplier=step_multiplier, hidden=(4, 4)).build(theta)
    )(step_multiplier=0.02)
    tensors = draw(jax.random.key(3), ((3,), (4, 5)))
    state = tx.init(tensors)
    louder = state._replace(hyperparams={"step_multiplier": jnp.float32(0.04)})
    calls = choose(monkeypatch, fits=True)
    update = rules_table.quick_jit(tx.update)
    once, twice = (update(tensors, s, tensors)[0] for s in (state, louder))
    assert len(calls) == 2
    assert worst(twice, jax.tree.map(lambda x: 2 * x, once)) < 1e-6


@needs_kernels
def test_exponents_of_all_sizes(monkeypatch):
    """A network whose output μ is set by its bias alone, from e^−80 to past the largest number."""
    rule, theta = made("mlp", (4, 4), exponent_multiplier=1.0)
    last = max(theta)
    tensor = [jnp.ones((3,))]

    def steps(mu):
        layer = {"w": jnp.zeros_like(theta[last]["w"]), "b": jnp.stack([1.0, mu])}
        return one_step(rule, tensor, {**theta, last: layer}, tensor)[0]

    exponents = jnp.concatenate([jnp.linspace(-80, 88, 701), jnp.array([88.7, 89.0, 1e3, jnp.nan])])
    choose(monkeypatch, fits=True)
    found = np.asarray(jax.jit(jax.vmap(steps))(exponents))[:, 0]
    exact = -0.02 * np.exp(np.asarray(exponents[:-3], np.float64))
    np.testing.assert_allclose(found[:-3], exact, rtol=4e-7)
    assert found[-3] == found[-2] == -np.inf
    assert np.isnan(found[-1])


@needs_kernels
@pytest.mark.parametrize("name", WIDTHS)
def test_what_is_not_a_number_stays_one(name, monkeypatch):
    choose(monkeypatch, fits=True)
    rule, theta = made(name, (4, 4))
    tensors = [jnp.ones((4, 5)), jnp.ones((6,))]
    broken = [jnp.ones((4, 5)).at[1, 2].set(jnp.nan), jnp.ones((6,)).at[3].set(jnp.inf)]
    for update in one_step(rule, tensors, theta, broken):
        assert not np.isfinite(update).all()


@needs_kernels
def test_the_same_bits_whatever_the_threads():
    code = """
import os, sys
os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:int(sys.argv[1])])
import hashlib, jax
from learned_opt import RULES
rule = RULES["adafactor_mlp"](hidden=(32, 32))
tx = rule.build(rule.init(jax.random.key(0)))
p = [jax.random.normal(jax.random.key(1), s) for s in ((400, 300), (3, 100, 100))]
state = tx.init(p)
for step in range(3):
    u, state = jax.jit(tx.update)(p, state, p)
assert "learned_opt_step_of_tensor" in jax.jit(tx.update).lower(p, state, p).as_text()
print(hashlib.sha256(b"".join(x.tobytes() for x in jax.tree.leaves((u, state)))).hexdigest())
"""
    environment = {**os.environ, "XLA_FLAGS": ""}
    threads = sorted({1, len(os.sched_getaffinity(0))})
    found = {
        subprocess.run(
            [sys.executable, "-c", code, str(n)],
            env=environment, check=True, capture_output=True, text=True,
        ).stdout
        for n in threads
    }  # fmt: skip
    assert len(found) == 1


@needs_kernels
def test_taken_on_one_device_and_inside_shard_map_alone(monkeypatch):
    seen = []

    def look(x):
        seen.append(step_of_tensor.kernel_fits(x, long=True))
        return x

    mesh = Mesh(np.array(jax.devices()[:2]), ("rows",))
    spec = PartitionSpec("rows")
    x = jnp.zeros((2, 3))
    jax.jit(look)(x)
    jax.jit(jax.shard_map(look, mesh=mesh, in_specs=spec, out_specs=spec))(x)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    look(x)
    look(jnp.zeros((0, 3)))
    look(jnp.zeros((3, 5, 2)))  # factored over its first two axes
    seen.append(step_of_tensor.kernel_fits(jnp.zeros(step_of_tensor.LONG + 1), long=False))
    seen.append(step_of_tensor.kernel_fits(jnp.zeros(step_of_tensor.LONG), long=False))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    look(x)
    assert seen == [False, True, True, False, False, False, True, False]


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A process that has not looked for kernels, with a cache folder of its own."""
    native.why_not.cache_clear()
    monkeypatch.setenv("LEARNED_OPT_CACHE", str(tmp_path))
    yield tmp_path / "kernels"
    native.why_not.cache_clear()


def compiler(folder, does):
    """A program called c++ that does this, first in PATH."""
    folder.mkdir()
    program = folder / "c++"
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)
    return str(folder)


def test_switched_off(fresh, monkeypatch):
    monkeypatch.setenv(native.SWITCH, "off")
    assert native.why_not() == "LEARNED_OPT_KERNELS='off'"
    assert not fresh.exists()


def test_without_a_compiler(fresh, monkeypatch):
    monkeypatch.setenv("PATH", str(fresh.parent))
    assert native.why_not() == "there is no C++ compiler here"
    assert not step_of_tensor.kernel_fits(jnp.zeros(3), long=True)


def test_a_compiler_that_fails(fresh, monkeypatch, tmp_path):
    monkeypatch.setenv(
        "PATH", compiler(tmp_path / "bin", "echo no such header >&2; exit 1"), prepend=os.pathsep
    )
    assert native.why_not().endswith("c++ does not compile them: no such header")
    assert not list(fresh.iterdir())  # nothing half-made


def test_a_compiler_that_hangs(fresh, monkeypatch, tmp_path):
    does = 'case "$1" in --version) echo 1;; *) exec sleep 60;; esac'
    monkeypatch.setenv("PATH", compiler(tmp_path / "bin", does), prepend=os.pathsep)
    monkeypatch.setattr(native, "COMPILE_SECONDS", 1)
    assert native.why_not().endswith("c++ took over 1 s")


def test_a_cache_folder_that_cannot_be_written(fresh):
    fresh.write_text("a file where the folder should be")
    assert "kernels" in native.why_not()


@needs_kernels
def test_a_damaged_library_is_compiled_again(fresh, monkeypatch):
    monkeypatch.setattr(jax.ffi, "register_ffi_target", lambda *args, **kwargs: None)  # only once
    library = fresh / f"{native._fingerprint(shutil.which('c++'))}.so"
    fresh.mkdir(mode=0o700)
    library.write_bytes(b"\x7fELF and no more")
    assert native.why_not() is None
    assert library.stat().st_size > 10_000
    assert oct(fresh.stat().st_mode)[-3:] == "700"


@needs_kernels
def test_another_source_is_another_library(fresh, monkeypatch, tmp_path):
    del fresh
    name = native._fingerprint("c++")
    other = tmp_path / "other.cc"
    other.write_text(native.SOURCE.read_text() + "\n")
    monkeypatch.setattr(native, "SOURCE", other)
    assert native._fingerprint("c++") != name
