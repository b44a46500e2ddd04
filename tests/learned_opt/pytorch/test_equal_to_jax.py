"""The optimizers of PyTorch are the rules of JAX."""

import jax
import jax.extend
import numpy as np
import optax
import pytest
import torch

from learned_opt.pytorch import (
    LearnedOptimizer,
    LearnedOptimizerError,
    adafactor_mlp,
    base_shapes,
    features,
    mlp,
    nominal_mlp,
    normalized_mlp,
    optimizer,
    statistics,
)
from learned_opt.pytorch.layouts import laid_out
from tests.learned_opt.pytorch.comparison import (
    CASES,
    batches,
    deviation,
    equal,
    follow,
    in_torch,
    named,
    new_net,
    portable,
    some_tensors,
    to_jax,
    train,
    trajectory,
)


@pytest.mark.parametrize("case", CASES)
def test_equals_the_rule_of_jax_after_every_step(case):
    _, _, gradients, after = trajectory(case)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((gradients, after)))
    start = named(new_net())
    moved = {name: np.abs(after[name][-1] - p).max() for name, p in start.items()}
    assert min(moved.values()) > 1e-3, moved
    worst = deviation(case)
    print(f"{case}: {worst:.3f} of the tolerance")
    assert worst <= 1


def with_other(function, change):
    """A function with its arguments changed."""
    return lambda *args: function(*change(*args))


def earlier_of_equals(shape):
    if len(shape) < 2:
        return None
    order = np.argsort(-np.asarray(shape), kind="stable")
    return int(order[1]), int(order[0])


RULE_METHODS = {
    "start": nominal_mlp.NominalMLPRule.update,
    "decay": normalized_mlp.NormalizedMLPRule.update,
}
FAULTS = {
    "a decay": (
        "mlp",
        (mlp, "update_mean", with_other(mlp.update_mean, lambda m, g, b: (m, g, 0.99 * b))),
    ),
    "an epsilon": ("mlp", (mlp, "EPSILON", 1e-4)),
    "an epsilon under a root": ("adafactor_mlp", (adafactor_mlp, "MOMENT_EPSILON", 1e-5)),
    "time begins at 1": (
        "mlp",
        (mlp, "tanh_of_steps", with_other(mlp.tanh_of_steps, lambda t, *a: (t + 1, *a))),
    ),
    "decays as they were at first": ("adafactor_mlp", (adafactor_mlp, "SPEED", 0.0)),
    "layout of matrices": (
        "adafactor_mlp",
        (optimizer, "laid_out", with_other(laid_out, lambda x, _: (x, "torch"))),
    ),
    "layout of kernels": (
        "normalized_mlp",
        (
            optimizer,
            "laid_out",
            with_other(laid_out, lambda x, y: (x, y if x.ndim == 2 else "torch")),
        ),
    ),
    "which of equal axes": (
        "adafactor_mlp",
        (statistics, "factored_axes", earlier_of_equals),
        (features, "factored_axes", earlier_of_equals),
    ),
    "fan-in": ("mu_mlp", (base_shapes, "FAN_IN", 0)),
    "no hidden matrices": ("mu_mlp", (optimizer, "step_scale", lambda *args: 1.0)),
    "correction of the start off by one": (
        "nominal_mlp",
        (
            nominal_mlp.NominalMLPRule,
            "update",
            with_other(RULE_METHODS["start"], lambda *a: (*a[:4], a[4] + 1, a[5])),
        ),
    ),
    "sign of the decay": (
        "normalized_mlp",
        (
            normalized_mlp.NormalizedMLPRule,
            "update",
            with_other(RULE_METHODS["decay"], lambda *a: (*a[:5], -a[5])),
        ),
    ),
    "RMS over the tensor": (
        "normalized_mlp",
        (normalized_mlp, "inverse_rms_of_matrices", features.inverse_rms),
    ),
    "Newton-Schulz": ("celo2", (normalized_mlp, "COEFFICIENTS", (3.4445, -4.7750, 2.0))),
    "an epsilon of AdamW": ("celo2", (normalized_mlp, "ADAM_EPSILON", 1e-5)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_comparison_sees_a(fault, monkeypatch):
    case, *changes = FAULTS[fault]
    for owner, name, value in changes:
        monkeypatch.setattr(owner, name, value)
    worst = deviation(case, steps=20)
    print(f"{fault}: {worst:.1f}")
    assert worst > 3


def test_loss_curves_agree_where_each_side_differentiates_for_itself():
    saved, losses, *_ = trajectory("adafactor_mlp")
    assert losses[-10:].mean() < 0.6 * losses[:3].mean()
    model, found = new_net(), []
    tx = in_torch(model, "adafactor_mlp", saved)
    for images, labels in zip(*batches(), strict=True):
        tx.zero_grad()
        logits = model(torch.from_numpy(images))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels).long())
        loss.backward()
        tx.step()
        found.append(loss.item())
    worst = np.abs(np.asarray(found) - losses).max()
    print(f"loss curves: {worst:.1e}")
    assert worst < 1e-3


@pytest.mark.parametrize("layout", ["haiku", "torch"])
@pytest.mark.parametrize("shape", [(), (1,), (4, 4), (2, 2, 2, 3, 3)])
def test_every_rank_in_either_layout(shape, layout):
    for rule in ("adafactor_mlp", "normalized_mlp"):
        constants = {} if rule == "adafactor_mlp" else {"learning_rate": 0.01}
        found, expected = follow(portable(rule, **constants), shape, layout=layout)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_the_correction_of_nominal_mlp_preconditioned():
    saved = portable("nominal_mlp", preconditioned=True, nominal_epsilon=1e-2, weight_decay=0.3)
    found, expected = follow(saved, (3, 5))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_schedule_of_pytorch_is_one_of_optax():
    constants = {"weight_decay": 0.1, "newton_schulz_steps": 2}
    saved = portable("normalized_mlp", learning_rate=0.02, **constants)
    scheduled = portable(
        "normalized_mlp", learning_rate=optax.exponential_decay(0.02, 1, 0.5), **constants
    )
    tx = scheduled.build()
    (p, *_), gradients = some_tensors()
    ours = LearnedOptimizer([p], saved)
    schedule = torch.optim.lr_scheduler.ExponentialLR(ours, 0.5)
    params, update = to_jax(p), jax.jit(tx.update)
    state = tx.init(params)
    for _ in range(4):
        p.grad = gradients()[0]
        updates, state = update(to_jax(p.grad), state, params)
        params = params + updates
        ours.step()
        schedule.step()
        np.testing.assert_allclose(to_jax(p), params, rtol=1e-5, atol=1e-6)
    with pytest.raises(LearnedOptimizerError, match=r"schedule of optax.*lr_scheduler"):
        LearnedOptimizer([p], scheduled)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["mlp", "mu_mlp", "nominal_mlp"])
def test_elsewhere_lr_is_a_factor_of_the_update(rule):
    saved, before = portable(rule), some_tensors()[0]
    (once, gradients), (half, _) = some_tensors(), some_tensors()
    groups = [{"params": half[:2], "lr": torch.tensor(0.5)}, {"params": half[2:]}]
    both = [LearnedOptimizer(once, saved), LearnedOptimizer(groups, saved, learning_rate=0.25)]
    assert [g["lr"] for tx in both for g in tx.param_groups] == [1.0, 0.5, 0.25]
    values = gradients()
    for tx, tensors in zip(both, (once, half), strict=True):
        train(tx, tensors, lambda: values, 1)
    for i, (p, q, r) in enumerate(zip(before, once, half, strict=True)):
        torch.testing.assert_close(r - p, (0.5 if i < 2 else 0.25) * (q - p), rtol=1e-4, atol=2e-7)


def test_groups_have_decays_and_layouts_of_their_own():
    saved = portable("normalized_mlp", learning_rate=0.01, weight_decay=0.5)
    (a, *_), gradients = some_tensors()
    b, c, d, e = (torch.nn.Parameter(a.detach().clone()) for _ in range(4))
    value, before = gradients()[0], a.detach().clone()
    together = LearnedOptimizer(
        [
            {"params": [a]},
            {"params": [b], "weight_decay": 0.0},
            {"params": [c], "layout": "torch", "lr": 0.02},
        ],
        saved,
    )
    together.add_param_group({"params": [d], "lr": 0.0})
    alone = LearnedOptimizer([e], saved, layout="torch", learning_rate=0.02)
    for p in (a, b, c, d, e):
        p.grad = value.clone()
    together.step()
    alone.step()
    torch.testing.assert_close(b - a, 0.01 * 0.5 * before, rtol=1e-4, atol=1e-7)
    assert equal([c, d], [e, before])
