"""Memory predicted before compiling: against the compiler's figure, and what is there."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.assemble import assemble
from meta_train.config import ConfigError, check_config
from meta_train.footprint import peak_bytes
from meta_train.loop import compile_advance
from meta_train.memory import Memory, available_bytes, check_memory, free_memory, predict
from meta_train.presets import TINY
from tasks import get_family

DEEP = "fashion_mnist_8x8_mlp64x64x64x64_gelu"
WIDE = "fashion_mnist_8x8_mlp512x512"
FEW, MANY = 2 / 3, 2  # stated in `memory`: of the compiler's figure


def run_of(task, batch=None, **changes):
    config = dataclasses.replace(TINY, task=task, **{"devices": 1, **changes})
    check_config(config)
    return assemble(config, get_family(task, batch_size=batch))


def figure(compiled):
    """What XLA says that a program takes on a device."""
    m = compiled.memory_analysis()
    return (
        m.argument_size_in_bytes
        + m.output_size_in_bytes
        - m.alias_size_in_bytes
        + m.temp_size_in_bytes
    )


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


SIZES = [
    ("fashion_mnist_8x8_mlp8", {}),
    slow(WIDE, {"particles": 4}),
    slow(WIDE, {"particles": 4, "block": 2}),
    slow(DEEP, {"batch": 1024}),
    slow(DEEP, {"batch": 1024, "block": 4}),
    slow(DEEP, {"batch": 4096, "microbatches": 4}),
    slow(DEEP, {"batch": 4096, "rematerialize": True}),
    slow(DEEP, {"batch": 1024, "devices": 4, "batch_devices": 2}),
    slow(DEEP, {"batch": 1024, "estimator": "truncated_backprop"}),
    slow("fashion_mnist_8x8_conv16x32", {"batch": 512}),
    slow("fashion_mnist_8x8_mlp256x256", {"rule": "adafactor_mlp", "devices": 2}),
    slow("quadratic32+delay:100", {"particles": 64}),
]


@pytest.mark.parametrize(("task", "changes"), SIZES, ids=str)
def test_the_prediction_is_near_the_compilers_figure(task, changes):
    run = run_of(task, **changes)
    memory = predict(run)
    compiled = compile_advance(run, jax.eval_shape(run.training.init, run.key_init))
    arguments = compiled.memory_analysis().argument_size_in_bytes
    assert memory.state + memory.data == pytest.approx(arguments, rel=0.01, abs=1000)
    assert FEW < memory.total / figure(compiled) < MANY


@pytest.mark.slow
def test_a_list_holds_all_its_tasks_and_works_on_one_at_a_time():
    names = ("quadratic32", "fashion_mnist_8x8_mlp8")
    config = dataclasses.replace(TINY, task=",".join(names), devices=1)
    check_config(config)
    run = assemble(config)
    memory = predict(run)
    alone = [predict(run_of(name)) for name in names]
    assert memory.data == sum(one.data for one in alone)
    assert sum(one.state for one in alone) / 2 < memory.state < sum(one.state for one in alone)
    assert memory.work >= max(one.work for one in alone) / 2

    state = jax.eval_shape(run.training.init, run.key_init)
    programs = compile_advance(run, state).programs.estimates
    found = [p.memory_analysis().argument_size_in_bytes for p in programs.values()]
    works = [figure(p) - size for p, size in zip(programs.values(), found, strict=True)]
    assert max(works) > 1.5 * min(works)
    assert FEW < memory.total / (memory.state + memory.data + max(works)) < MANY


def test_a_program_is_traced_once_for_prediction_and_compilation():
    family = get_family("quadratic8")
    traces = []

    def batch(key, arrays):
        traces.append(1)
        return family.batch(key, arrays)

    config = dataclasses.replace(TINY, task="quadratic8", devices=1)
    run = assemble(config, family._replace(batch=batch))
    predict(run)
    before = len(traces)
    compile_advance(run, run.training.init(run.key_init))
    assert len(traces) == before > 0


N = 1000  # entries of 4 bytes


def of(function, *arguments, donated=()):
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    sizes = [4 * int(np.prod(v.aval.shape)) for v in jaxpr.invars]
    return peak_bytes(jaxpr, sizes, [i in donated for i in range(len(sizes))]) / (4 * N)


VECTOR, MATRIX = jnp.zeros(N), jnp.zeros((N, N))


def test_what_is_computed_entry_by_entry_takes_nothing_until_it_is_read_whole():
    """In vectors of N numbers: the argument, and the result."""
    assert of(lambda x: jnp.sin(2 * x + 1) * 3, VECTOR) == 2
    assert of(lambda x: (2 * x + 1).sum() + 0 * x[0], VECTOR) == pytest.approx(1, abs=0.01)
    assert of(lambda x: jax.jit(jnp.sin)(x) + 1, VECTOR) == 2
    # what a product reads is there whole, once: the argument, it and the result
    assert of(lambda x, m: (2 * x + 1) @ m, VECTOR, MATRIX) == N + 3


def test_an_expensive_function_of_two_readers_is_kept_and_a_cheap_one_is_made_again():
    def read_twice(function, x, m):
        y = function(x)
        return ((y + 1) @ m) * y

    assert of(partial(read_twice, jnp.negative), VECTOR, MATRIX) == N + 3
    assert of(partial(read_twice, jnp.sin), VECTOR, MATRIX) == N + 4


def test_what_nobody_reads_is_not_made():
    def dead(x, m):
        (m @ m).sum()
        return x + 1

    assert of(dead, VECTOR, MATRIX) == N + 2


def test_products_in_a_row_are_alive_two_at_a_time():
    def chain(m):
        for _ in range(5):
            m = m @ m
        return m

    assert of(chain, MATRIX) == 3 * N
    assert of(chain, MATRIX, donated=[0]) == 2 * N


def test_a_gradient_keeps_what_its_way_back_needs():
    def loss(x, m):
        for _ in range(5):
            x = jnp.tanh(m @ x)
        return (x**2).sum()

    found = of(jax.grad(loss), jnp.zeros((N, 1)), MATRIX) - N
    assert 1 + 5 <= found <= 1 + 5 + 4  # the argument, five activations, and what is at hand


def test_a_loop_holds_its_carry_once():
    def loop(x, m):
        return jax.lax.scan(lambda x, _: (jnp.tanh(m @ x), None), x, None, length=50)[0]

    assert of(loop, VECTOR, MATRIX) == N + 3  # the argument, the carry, a product
    assert of(loop, VECTOR, MATRIX, donated=[0]) == N + 2

    def two_products(x, m):  # the second takes the place of what the first has read
        return jax.lax.scan(lambda x, _: (m @ (m @ x), None), x, None, length=50)[0]

    assert of(two_products, VECTOR, MATRIX, donated=[0]) == N + 2

    def stacked(x, m):
        return jax.lax.scan(lambda x, _: (m @ x, m @ x), x, None, length=50)[1]

    assert 50 <= of(stacked, VECTOR, MATRIX) - N <= 54

    def while_loop(x, m):
        return jax.lax.fori_loop(0, x[0].astype(int), lambda _, x: m @ x, x)

    assert of(while_loop, VECTOR, MATRIX, donated=[0]) == pytest.approx(N + 2, abs=0.01)


def test_of_branches_the_largest_counts():
    def branches(x, m):
        small, large = (lambda: x + 1), (lambda: (m @ m @ m) @ x)
        return jax.lax.cond(x[0] > 0, large, small)

    assert of(branches, VECTOR, MATRIX) == pytest.approx(3 * N + 2, abs=1.01)


def test_devices_count_their_own_part():
    from meta_train.parallel import device_mesh, split_rows

    mesh = device_mesh(8, jax.devices()[:4])

    def spread(rows, m):
        return split_rows(mesh, 1).spread(lambda mapped, shared: mapped @ shared)(rows, m)

    rows = jnp.zeros((8, N))
    jaxpr = jax.make_jaxpr(spread)(rows, MATRIX).jaxpr
    found = peak_bytes(jaxpr, [2 * 4 * N, 4 * N * N], [False, False]) / (4 * N)
    assert N + 4 <= found <= N + 6  # two rows, their results, a row and its result at work


@pytest.fixture
def memory():
    return Memory(state=200_000_000, data=50_000_000, work=750_000_000, available=900_000_000)


def test_a_run_that_does_not_fit_ends_with_what_to_lower(memory):
    with pytest.raises(ConfigError) as error:
        check_memory(TINY, 4, memory)
    text = str(error.value)
    for part in (
        "predicted to take 1,000.0 MB on each device, where 900.0 MB are available",
        "200.0 MB for the state of its particles, 50.0 MB for the data, 750.0 MB for what it",
        "lower `config.block` (4), set `config.rematerialize`, raise `config.microbatches` (1)",
        f"raise `config.batch_devices` (1), lower `config.particles` ({TINY.particles}), or take",
        "`config.memory_limit`",
    ):
        assert part in text
    state = memory._replace(state=800_000_000, work=150_000_000)
    with pytest.raises(ConfigError, match=r"at a time; lower `config.particles` \("):
        check_memory(dataclasses.replace(TINY, rematerialize=True), 1, state)
    check_memory(TINY, 4, memory._replace(available=1_000_000_000))
    check_memory(TINY, 4, memory._replace(available=None))
    assert memory.in_words() == (
        "predicted to take 1,000.0 MB of the 900.0 MB there on each device: 200.0 MB of state, "
        "50.0 MB of data, 750.0 MB to work with"
    )


def test_what_there_is(tmp_path):
    """The least of what the machine and the container leave, shared by the devices."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 99 kB\nMemAvailable:  5000 kB\n")
    assert free_memory(tmp_path) == 5000 * 1024
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("1000\n")
    assert free_memory(tmp_path) == 5000 * 1024
    (group / "memory.max").write_text("4001000\n")
    assert free_memory(tmp_path) == 4_000_000
    (group / "memory.max").unlink()
    (group / "memory").mkdir()
    (group / "memory/memory.limit_in_bytes").write_text("3000000\n")
    (group / "memory/memory.usage_in_bytes").write_text("1000000\n")
    assert free_memory(tmp_path) == 2_000_000
    assert free_memory(tmp_path / "nothing") is None
    here = free_memory()
    assert here is None or 10**7 < here < 10**13
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:2]), ("rows",))
    limited = dataclasses.replace(TINY, memory_limit=1.5)
    assert available_bytes(limited, mesh) == 1_500_000_000
    both, one = (
        available_bytes(TINY, jax.sharding.Mesh(np.asarray(jax.devices()[:n]), ("rows",)))
        for n in (2, 1)
    )
    assert both is None or both == pytest.approx(one / 2, rel=0.2)


def test_the_limit_of_an_accelerator_is_what_it_says(monkeypatch):
    class Device:
        platform, process_index = "gpu", 0

        def __init__(self, limit):
            self._limit = limit

        def memory_stats(self):
            return {"bytes_limit": self._limit} if self._limit else None

    class Mesh:
        def __init__(self, *limits):
            self.devices = np.asarray([Device(limit) for limit in limits])

    assert available_bytes(TINY, Mesh(8_000, 6_000)) == 6_000
    assert available_bytes(TINY, Mesh(None)) is None
