"""The optimizers of PyTorch are ``torch.optim.Optimizer``s like any other."""

import copy
import io

import jax
import jax.extend
import pytest
import torch

from learned_opt.pytorch import (
    LearnedOptimizer,
    LearnedOptimizerError,
    adafactor_mlp,
    features,
    mlp,
    network,
    nominal_mlp,
    normalized_mlp,
    optimizer,
)
from tests.learned_opt.pytorch.comparison import (
    CASES,
    equal,
    every_rule,
    portable,
    some_tensors,
    train,
)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_dict_continues_identically(case, dtype):
    rule, constants, _ = CASES[case]
    saved = portable(rule, **{k: v for k, v in constants.items() if k != "base_shapes"})

    def make(tensors):
        groups = [{"params": tensors[:2]}, {"params": tensors[2:], "lr": 0.01}]
        tx = LearnedOptimizer(groups, saved)
        return tx, torch.optim.lr_scheduler.StepLR(tx, 2, 0.5)

    tensors, gradients = some_tensors(dtype)
    tx, schedule = make(tensors)
    for _ in range(3):
        train(tx, tensors, gradients, 1)
        schedule.step()
    buffer = io.BytesIO()
    torch.save([tx.state_dict(), schedule.state_dict()], buffer)
    buffer.seek(0)
    states = torch.load(buffer, weights_only=True)
    others = [torch.nn.Parameter(p.detach().clone()) for p in tensors]
    again, its_schedule = make(others)
    again.load_state_dict(states[0])
    its_schedule.load_state_dict(states[1])
    kept = copy.deepcopy(states[0])
    copied, its_tensors = copy.deepcopy((tx, tensors))  # with its own θ
    values = [gradients() for _ in range(3)]
    for optimizer_, parameters in ((tx, tensors), (again, others), (copied, its_tensors)):
        train(optimizer_, parameters, iter(values).__next__, 3)
    assert equal(tensors, others)
    assert equal(tensors, its_tensors)
    assert [g["lr"] for g in tx.param_groups] == [g["lr"] for g in again.param_groups]
    dtypes = {s.dtype for p in others for n, s in again.state[p].items() if n != "step"}
    assert dtypes == {torch.float32}
    for i, state in kept["state"].items():  # what was loaded is no longer touched
        assert all(torch.equal(value, states[0]["state"][i][name]) for name, value in state.items())


def test_a_state_of_something_else_is_refused_and_changes_nothing():
    tensors, gradients = some_tensors()
    adam, ours = torch.optim.Adam(tensors), LearnedOptimizer(tensors, portable("mlp"))
    other = LearnedOptimizer(some_tensors()[0], portable("adafactor_mlp"))
    for tx in (adam, ours):
        train(tx, tensors, gradients, 1)
    train(other, other.param_groups[0]["params"], gradients, 1)
    before = copy.deepcopy(ours.state_dict())
    for state, words in (
        (adam.state_dict(), r"of another optimizer: its group 0 has no \['layout'\]"),
        (other.state_dict(), r"of another optimizer.*where the rule 'mlp' has"),
    ):
        with pytest.raises(LearnedOptimizerError, match=words):
            ours.load_state_dict(state)
    after = ours.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert equal(*([s["momenta"] for s in x["state"].values()] for x in (after, before)))
    half = copy.deepcopy(before)
    half["param_groups"][0]["params"] = half["param_groups"][0]["params"][:2]
    with pytest.raises(ValueError, match="parameter group"):
        ours.load_state_dict(half)


def test_hooks_of_a_state_dict_are_heeded():
    tensors, gradients = some_tensors()
    tx = LearnedOptimizer(tensors, portable("mlp"))
    train(tx, tensors, gradients, 2)

    def zero(_, state_dict):
        state = {
            i: {name: torch.zeros_like(value) for name, value in values.items()}
            for i, values in state_dict["state"].items()
        }
        return {**state_dict, "state": state}

    tx.register_load_state_dict_pre_hook(zero)
    tx.load_state_dict(tx.state_dict())
    assert not tx.state[tensors[0]]["momenta"].any()
    assert tx.state[tensors[0]]["step"] == 0


def test_parameters_without_a_gradient_are_skipped():
    tensors, gradients = some_tensors()
    tx = LearnedOptimizer(tensors, portable("mlp"))
    tensors[1].requires_grad_(False)
    before = [p.detach().clone() for p in tensors]
    values = gradients()
    tensors[0].grad, tensors[3].grad = values[0], values[3]
    tx.step()
    assert [bool(tx.state.get(p)) for p in tensors] == [True, False, False, True, False]
    assert [torch.equal(p, q) for p, q in zip(tensors, before, strict=True)] == [
        False, True, True, False, True,
    ]  # fmt: skip
    tx.zero_grad()
    tx.step()
    assert [p.grad for p in tensors] == [None] * 5
    assert tx.state[tensors[0]]["step"] == 1


def test_a_closure_has_gradients_and_clipping_is_outside():
    (p, *_), _ = some_tensors()
    tx = LearnedOptimizer([p], portable("mlp", step_multiplier=0.05))

    def closure():
        tx.zero_grad()
        loss = p.square().sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p], 1.0)
        return loss

    assert tx.step() is None
    losses = [tx.step(closure).item() for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]
    assert not p.grad.requires_grad
    assert not any(x.requires_grad for x in tx.state[p].values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("rule", ["mlp", "adafactor_mlp", "normalized_mlp"])
def test_other_dtypes_are_updated_in_float32_and_rounded_once(rule, dtype):
    constants = {"learning_rate": 0.01} if rule == "normalized_mlp" else {"step_multiplier": 0.01}
    saved = portable(rule, **constants)
    tensors, gradients = some_tensors(dtype)
    whole = [torch.nn.Parameter(p.detach().float()) for p in tensors]
    values = gradients()
    for parameters, gradients_ in ((tensors, values), (whole, [g.float() for g in values])):
        before = [p.detach().clone() for p in parameters]
        tx = LearnedOptimizer(parameters, saved)
        train(tx, parameters, lambda gs=gradients_: gs, 1)
        if parameters is tensors:
            start, state = before, tx.state
    for p, p0, q in zip(tensors, start, whole, strict=True):
        assert p.dtype == dtype
        update = (q.detach() - p0.float()).to(dtype)
        torch.testing.assert_close(
            p.detach(), p0 + update, rtol=0, atol=2 * torch.finfo(dtype).eps + 1e-6
        )
        if p.numel():
            assert not torch.equal(p, p0)
            assert state[p]["momenta"].dtype == torch.float32


def test_long_tensors_go_through_blocks_to_the_same_update(monkeypatch):
    shapes = [(5, 7), (40,), (2, 3, 4, 5)]
    results = []
    for block in (1 << 15, 6):
        monkeypatch.setattr(network, "LARGEST_BLOCK", {"cpu": block})
        for rule in ("mlp", "adafactor_mlp", "nominal_mlp", "normalized_mlp"):
            constants = {"learning_rate": 0.01} if rule == "normalized_mlp" else {}
            generator = torch.Generator().manual_seed(0)
            tensors = [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]
            tx = LearnedOptimizer(tensors, portable(rule, **constants))
            train(tx, tensors, lambda g=generator: [torch.randn(s, generator=g) for s in shapes], 2)
            results.append(tensors)
    for whole, cut in zip(results[:4], results[4:], strict=True):
        for a, b in zip(whole, cut, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_parameters_with_strides_of_their_own():
    p = some_tensors()[0][0]
    results = []
    for strided in (False, True):
        q = p.detach().clone()
        q = torch.nn.Parameter(q.T.contiguous().T if strided else q)
        tx = LearnedOptimizer([q], portable("adafactor_mlp"))
        q.grad = torch.ones_like(q).cumsum(1)
        tx.step()
        results.append(q)
    assert equal(*([q] for q in results))


def test_a_step_runs_nothing_of_jax(monkeypatch):
    trained = []
    for saved in every_rule():
        tensors, gradients = some_tensors()
        trained.append((LearnedOptimizer(tensors, saved), tensors))
    monkeypatch.setattr(jax.extend.core.Primitive, "bind", None)
    with pytest.raises(TypeError):
        jax.lax.sin_p.bind(1.0)
    for tx, tensors in trained:
        train(tx, tensors, gradients, 2)
        tx.load_state_dict(tx.state_dict())
    modules = (adafactor_mlp, features, mlp, network, nominal_mlp, normalized_mlp, optimizer)
    assert not any({"jax", "jnp", "optax"} & set(vars(module)) for module in modules)


def test_all_of_a_step_is_on_the_device_of_the_parameter():
    """The meta device refuses tensors of another one, as an accelerator does."""
    celo2 = portable("normalized_mlp", learning_rate=0.1, newton_schulz_steps=2, vectors="adamw")

    def empty():
        return [torch.empty(s, device="meta") for s in [(3, 4), (4,), (), (2, 3, 2, 2)]]

    for saved in [*every_rule(), celo2]:
        tensors = [torch.nn.Parameter(x) for x in empty()]
        tx = LearnedOptimizer(tensors, saved)
        train(tx, tensors, empty, 2)
        tx.load_state_dict(tx.state_dict())
        assert all(tx.state[p]["momenta"].device.type == "meta" for p in tensors)
        assert {tx.state[p]["step"].device.type for p in tensors} == {"cpu"}
