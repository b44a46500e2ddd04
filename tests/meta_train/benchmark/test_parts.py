"""Time goes to the part that it was spent for."""

import jax
import jax.numpy as jnp
import pytest

from meta_train.benchmark.parts import (
    part_of,
    parts_of_operations,
    seconds_apart,
    shares_of_parts,
)

PROGRAM = """
%fused_computation.1 (param_0: f32[8]) -> f32[8] {
  %param_0 = f32[8]{0} parameter(0)
  %multiply.1 = f32[8]{0} multiply(%param_0, %param_0), metadata={op_name="jit(f)/vmap(rule)/mul"}
  ROOT %add.1 = f32[8]{0} add(%multiply.1, %param_0), metadata={op_name="jit(f)/vmap(rule)/add"}
}

ENTRY %main (a: f32[8], w: f32[8,8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %w = f32[8,8]{1,0} parameter(1)
  %gradient = f32[8]{0} sine(%a), metadata={op_name="jit(f)/transpose(jvp(inner_gradient))/sin"}
  %library.1 = f32[8]{0} fusion(%gradient), kind=kCustom, calls=%nameless
  %features = f32[8]{0} fusion(%library.1), kind=kLoop, calls=%fused_computation.1
  %weights = f32[8,8]{1,0} copy(%w), metadata={op_name="jit(f)/vmap(rule)/mlp/transpose"}
  %library.2 = f32[8]{0} fusion(%weights, %features), kind=kCustom, calls=%nameless
  %relu = f32[8]{0} maximum(%library.2, %a), metadata={op_name="jit(f)/rule/mlp/max"}
  %pass.1 = f32[8]{0} custom-call(%relu), metadata={op_name="jit(f)/rule/one_pass/pallas_call"}
  %noise = f32[8]{0} cosine(%pass.1), metadata={op_name="jit(f)/while/body/cos"}
  ROOT %while.1 = f32[8]{0} while(%noise), condition=%c, body=%b
}
"""


def test_names_of_scopes_decide_with_what_transforms_them():
    assert part_of("jit(f)/while/body/transpose(jvp(inner_gradient))/dot_general") == (
        "inner gradient"
    )
    assert part_of("jit(f)/vmap(vmap(rule))/rsqrt") == "features"
    assert part_of("jit(f)/vmap(vmap(rule))/mlp/dot_general") == "product"
    for kernel in ("ffi_call", "cond/branch_0_fun/learned_opt_network_pass/pallas_call"):
        assert part_of(f"jit(f)/vmap(rule)/{kernel}") == "features and product"
    assert part_of("jit(f)/inner_gradient/mlp/~/linear_0/dot_general") == "inner gradient"
    assert part_of("jit(f)/while/body/outer/sqrt") == "outer"
    assert part_of("jit(f)/while/body/normal") == "estimator"


def test_an_operation_without_a_name_belongs_where_its_neighbours_do():
    parts = parts_of_operations(PROGRAM)
    assert parts["library.1"] == "inner gradient"  # as all that it reads
    assert parts["features"] == "features"  # as what is fused in it
    assert parts["library.2"] == "product"  # its weights and its reader, against one operand
    assert parts["noise"] == "estimator"
    assert parts["pass.1"] == parts["one_pass"] == "features and product"
    assert "while.1" not in parts


def event(name, start, duration, thread=1, **arguments):
    of = {"ph": "X", "pid": 1, "tid": thread, "ts": start, "dur": duration}
    return of | {"name": name, "args": arguments}


def test_times_are_those_of_operations_apart_from_what_runs_within_them():
    events = [
        event("call", 0.0, 1e6, hlo_op="call"),
        event("thing", 0.25e6, 0.5e6, hlo_op="gradient"),
        event("thing", 0.3e6, 0.1e6, hlo_op="relu"),
        event("thing", 0.3e6, 0.2e6, thread=2, hlo_op="relu"),  # beside the call, not within it
        event("wait", 0.3e6, 0.2e6),
        event("thing", 1e6, 0.25e6, hlo_op="call"),  # and one after it
        {"ph": "M", "name": "relu"},
    ]
    seconds = seconds_apart(events, {"call": "", "gradient": "", "relu": ""})
    assert seconds == pytest.approx({"call": 0.75, "gradient": 0.4, "relu": 0.3})


def test_kernels_of_a_graph_are_told_by_their_own_names():
    graph = {"hlo_op": "command_buffer_3", "hlo_module": "jit_f"}
    events = [
        event("loop_add_fusion_4", 0.0, 1e6, **graph),
        event("one_pass", 1e6, 1e6, **graph),
        event("one_pass__2", 2e6, 1e6, **graph),
        event("memcpy32_post", 3e6, 1e6, **graph),
    ]
    seconds = seconds_apart(events, {"loop_add_fusion.4": "", "one_pass": ""})
    assert seconds == pytest.approx({"loop_add_fusion.4": 1.0, "one_pass": 2.0})


@pytest.mark.parametrize(
    ("scope", "turns"),
    [("inner_gradient", 310), ("rule", 311), ("rule/mlp", 312), ("outer", 313), ("anything", 314)],
)
def test_the_part_that_computes_most_gets_most_of_the_time(scope, turns):
    # Turns differ, as JAX's compilation cache takes programs for the same that differ in names.
    def busy(x):
        return jax.lax.fori_loop(0, turns, lambda _, y: jnp.sin(y) + jnp.cos(y), x)

    def program(x):
        with jax.named_scope(scope):
            x = busy(x)
        with jax.named_scope("another"):
            return x + 1

    x = jnp.ones(100_000)
    compiled = jax.jit(program).lower(x).compile()
    jax.block_until_ready(compiled(x))
    shares = shares_of_parts(compiled, lambda: compiled(x))
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[part_of(f"jit(program)/{scope}/sin")] > 0.9


def test_a_trace_of_another_program_is_refused():
    x = jnp.ones(10)
    compiled = jax.jit(jnp.sin).lower(x).compile()
    with pytest.raises(RuntimeError, match="no operation"):
        shares_of_parts(compiled, lambda: x)
