"""What PyTorch calls otherwise, and what its optimizers refuse."""

import copy
import subprocess
import sys

import pytest
import torch

import learned_opt
from learned_opt import RULES, OptimizerFormatError, PortableOptimizer
from learned_opt.pytorch import (
    LearnedOptimizer,
    LearnedOptimizerError,
    base_shapes,
)
from tests.conftest import ROOT
from tests.learned_opt.pytorch.comparison import (
    Net,
    new_net,
    portable,
)

# µP.


def test_step_scales_are_by_the_fan_in_of_pytorch():
    model = Net(channels=8, hidden=32)
    shapes = base_shapes.base_shapes_of(Net(channels=4, hidden=8))
    scales = {
        name: base_shapes.step_scale(name, p.shape, shapes) for name, p in model.named_parameters()
    }
    assert scales.pop("flat.weight") == 16 / 32  # 8/32 were of the outputs
    assert set(scales.values()) == {1.0}
    kernel = {"w": (4, 6, 3, 3)}
    assert base_shapes.step_scale("w", (8, 18, 3, 3), base_shapes.base_shapes_of(kernel)) == 1 / 3
    for base in (model, model.named_parameters(), dict(model.named_parameters())):
        assert base_shapes.base_shapes_of(base) == {
            name: list(p.shape) for name, p in model.named_parameters()
        }
    assert base_shapes.base_shapes_of(None) is None


@pytest.mark.parametrize("layout", ["haiku", "torch"])
def test_the_step_of_a_hidden_matrix_is_scaled_whatever_its_layout(layout):
    steps = []
    for base in (None, Net(channels=4, hidden=8)):
        model = new_net()
        tx = LearnedOptimizer(
            model.named_parameters(), portable("mu_mlp"), base_shapes=base, layout=layout
        )
        before = copy.deepcopy(model)
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        tx.step()
        pairs = zip(model.named_parameters(), before.parameters(), strict=True)
        steps.append({name: (p - q).detach() for (name, p), q in pairs})
    for name in steps[0]:
        factor = 0.5 if name == "flat.weight" else 1.0
        torch.testing.assert_close(steps[1][name], factor * steps[0][name], rtol=1e-3, atol=1e-7)


# What is refused, and the sentence for it.


def parameter(shape=(2, 3), dtype=torch.float32):
    return torch.nn.Parameter(torch.zeros(shape, dtype=dtype))


def with_base(base, shape=(2, 3), rule="mu_mlp"):
    named_ = [("w", parameter(shape))]
    return lambda: LearnedOptimizer(named_, portable(rule), base_shapes=base)


REFUSALS = {
    "rule": (
        lambda: LearnedOptimizer([parameter()], portable_of_another_rule()),
        r"the rule 'hyper' .* legal ones: \['adafactor_mlp', 'mlp', 'mu_mlp', 'nominal_mlp', "
        r"'normalized_mlp'\]",
    ),
    "optimizer": (lambda: LearnedOptimizer([parameter()], 5), "`optimizer` is of type int"),
    "no rate": (
        lambda: LearnedOptimizer([parameter()], portable("normalized_mlp")),
        r"`learning_rate`=None: .* learning_rate=1e-3",
    ),
    "rate": (
        lambda: LearnedOptimizer([parameter()], portable("mlp"), learning_rate=-1.0),
        r"`lr`.*-1.0.* at least 0",
    ),
    "rate of a group": (
        lambda: LearnedOptimizer([{"params": parameter(), "lr": "fast"}], portable("mlp")),
        "`lr`.*'fast'.*must be a number",
    ),
    "layout": (
        lambda: LearnedOptimizer([parameter()], portable("mlp"), layout="flax"),
        r"`layout`='flax': must be one of \('haiku', 'torch'\)",
    ),
    "decay": (
        lambda: LearnedOptimizer([{"params": parameter(), "weight_decay": 0.1}], portable("mlp")),
        "`weight_decay`=0.1: the rule 'mlp' has none",
    ),
    "decay of a group": (
        lambda: LearnedOptimizer(
            [{"params": parameter(), "weight_decay": -1}], portable("nominal_mlp")
        ),
        "`weight_decay`=-1: must be a number, at least 0",
    ),
    "mask": (
        lambda: LearnedOptimizer(
            [parameter()], portable("normalized_mlp", weight_decay_mask=True), learning_rate=0.1
        ),
        "`weight_decay_mask`: .* parameter groups",
    ),
    "dtype of the state": (
        lambda: LearnedOptimizer([parameter()], "fashion_mlp", state_dtype="bfloat16"),
        "`state_dtype`='bfloat16': in PyTorch the state is float32",
    ),
    "base": (with_base(3), "`base_shapes`=3: must be the base model"),
    "base of numbers": (with_base({"w": 3}), "`base_shapes`=.*must be the base model"),
    "base without it": (with_base({"v": [1]}), r"no shape for the parameter 'w'; it has \['v'\]"),
    "base of another rank": (with_base({"w": [1]}), r"'w' has shape \(2, 3\), in the base \(1,\)"),
    "base along three": (with_base({"w": [1, 1, 1]}, (2, 2, 2)), "grow along one axis, or along"),
    "base along others": (with_base({"w": [1, 2, 1]}, (2, 2, 2)), "axis 1 is the fan-in"),
    "base and no names": (
        lambda: LearnedOptimizer([parameter()], portable("mu_mlp"), base_shapes={"w": [1, 1]}),
        "`base_shapes` is by the names .*named_parameters",
    ),
}


def portable_of_another_rule():
    return PortableOptimizer(RULES["hyper"](), {}, {})


@pytest.mark.parametrize("what", REFUSALS)
def test_it_refuses(what):
    make, words = REFUSALS[what]
    with pytest.raises(LearnedOptimizerError, match=words):
        make()


def test_what_reading_refuses_is_an_error_of_the_format():
    for saved in ("fashion_mlp", portable("mlp")):
        for overrides, words in (
            ({"speed": 1}, r"unknown constants \['speed'\]"),
            ({"step_multiplier": -1}, "`step_multiplier`=-1"),
            ({"hidden": [3]}, "θ"),
        ):
            with pytest.raises(OptimizerFormatError, match=words):
                LearnedOptimizer([parameter()], saved, **overrides)
    with pytest.raises(FileNotFoundError, match="no learned optimizer at 'nothing'"):
        LearnedOptimizer([parameter()], "nothing")


def test_sparse_and_complex_gradients_are_refused_before_anything_is_updated():
    table = torch.nn.Embedding(4, 2, sparse=True)
    first, wave = parameter(), torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    for bad, loss, words in (
        (table.weight, lambda: table(torch.tensor([1])).sum(), r"'bad' has a sparse gradient"),
        (wave, lambda: wave.abs().sum(), r"'bad' is complex"),
    ):
        tx = LearnedOptimizer([("first", first), ("bad", bad)], portable("mlp"))
        first.grad = torch.ones_like(first)
        loss().backward()
        with pytest.raises(LearnedOptimizerError, match=words):
            tx.step()
        assert not first.any()
        assert not tx.state


def test_a_group_that_is_refused_is_not_added():
    tx = LearnedOptimizer([parameter()], portable("mlp"))
    with pytest.raises(LearnedOptimizerError, match="`layout`"):
        tx.add_param_group({"params": [parameter()], "layout": "other"})
    assert len(tx.param_groups) == 1


def test_a_model_unlike_those_of_meta_training_is_told():
    for dtype, words in (
        (torch.float32, "6 parameters"),
        (torch.bfloat16, "parameters in bfloat16"),
    ):
        with pytest.warns(learned_opt.OutsideEnvelopeWarning, match=words):
            LearnedOptimizer([parameter(dtype=dtype)], "fashion_mlp")


# Imports.


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_pytorch_is_imported_only_where_it_is_used():
    done = run(
        "import sys, learned_opt; assert 'torch' not in sys.modules\n"
        "sys.modules['torch'] = None\n"
        "import learned_opt.pytorch"
    )
    assert "ImportError: `learned_opt.pytorch` needs PyTorch" in done.stderr
    assert "learned-opt[torch]" in done.stderr
    assert "AssertionError" not in done.stderr
