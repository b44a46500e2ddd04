"""A learned optimizer as a ``torch.optim.Optimizer``.

p ← p + s·Δ(g, p, state)    s: ``lr`` of the group;  Δ: the rule of `learned_opt.pytorch.rules`
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, overload

import torch
from torch import Tensor

from learned_opt.constants import short
from learned_opt.portable import PortableOptimizer
from learned_opt.pytorch.base import Rule
from learned_opt.pytorch.base_shapes import step_scale
from learned_opt.pytorch.errors import LearnedOptimizerError
from learned_opt.pytorch.layouts import LAYOUTS, laid_out
from learned_opt.pytorch.recipe import make_recipe, warn_outside


class LearnedOptimizer(torch.optim.Optimizer):
    """A learned optimizer that is used as ``torch.optim.Adam`` is.

    ``optimizer = LearnedOptimizer(model.parameters(), "fashion_mlp")``, then ``zero_grad()``,
    ``backward()`` and ``step()`` as ever; with schedules of ``torch.optim.lr_scheduler`` and
    clipping of gradients too. The rules are `mlp`, `adafactor_mlp`, `mu_mlp`, `normalized_mlp` and
    `nominal_mlp`.

    **What ``lr`` is.** For `normalized_mlp` it is the learning rate α, which has to be given. The
    other rules set their steps themselves: there ``lr`` is a factor of the whole update, 1 unless
    it is given, with which a schedule may scale the steps down. Do not give them a rate such as
    1e-3.

    **Layouts.** Rules treat axes differently (the factored statistics, "the last two axes" of
    `normalized_mlp`), and were meta-trained on weights as JAX lays them out. By default a tensor
    of rank 2 and more is shown to the rule that way: axes 0 and 1 go to the end, exchanged, so that
    [out, in] is [in, out] and [out, in, *kernel] is [*kernel, in, out]; a model copied from JAX
    gets the same updates. ``layout="torch"`` shows a tensor as it is, which is right for what both
    worlds lay out alike: the weight of ``nn.Embedding``, or a model's own parameters. The fan-in of
    `mu_mlp` is axis 1 of a tensor of ``torch.nn`` in either.

    **The state** of a parameter is float32 on its device, in the layout of its group, and begins
    with its first gradient: a parameter without one (``grad`` is None) is skipped, and its time
    stands still. Updates are computed in float32 and cast to the dtype of their parameter. θ and
    the constants of the rule are not part of ``state_dict()``: make the optimizer again as it was
    made, then load.

    Args:
      params: tensors, pairs (name, tensor) as of ``model.named_parameters()``, or groups:
        dictionaries with "params" and, where a group has its own, "lr", "layout", and
        "weight_decay" (λ of `normalized_mlp` and `nominal_mlp`).
      optimizer: a name of `learned_opt.list_pretrained`, the path of a saved optimizer, or what
        `learned_opt.read` gives.
      learning_rate: ``lr`` of groups without their own, at least 0.
      layout: "haiku" or "torch", of groups without their own.
      **overrides: constants of the rule in place of the saved ones. ``base_shapes`` of `mu_mlp` is
        the base model (a module), its named parameters, or a mapping from names to shapes; the
        parameters then need names.

    An `OutsideEnvelopeWarning` says where the model is not like what the optimizer was meta-trained
    on.

    Raises:
      FileNotFoundError: neither a shipped optimizer nor a saved one.
      OptimizerFormatError: a damaged or foreign file, or constants that do not fit.
      LearnedOptimizerError: a rule, constant or option that PyTorch has not here; no learning rate
        where there must be one; in `step` a gradient that is sparse or complex, and in
        `load_state_dict` a state of something else, before anything is changed.
    """

    def __init__(
        self,
        params: Any,
        optimizer: str | os.PathLike[str] | PortableOptimizer,
        *,
        learning_rate: float | Tensor | None = None,
        layout: str = "haiku",
        **overrides: Any,
    ):
        self._recipe, manifest = make_recipe(optimizer, overrides)
        self._rules: dict[torch.device, Rule] = {}
        constants = self._recipe.constants
        if learning_rate is None:
            learning_rate = constants.get("learning_rate", 1.0)
        defaults = {
            "lr": learning_rate,
            "weight_decay": constants.get("weight_decay", 0.0),
            "layout": layout,
        }
        super().__init__(params, defaults)
        given = isinstance(optimizer, PortableOptimizer)
        name = self._recipe.name if given else str(optimizer)
        warn_outside(name, manifest, self.param_groups)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, as in ``torch.optim.Optimizer``; its options are those of the class."""
        super().add_param_group(param_group)
        try:
            self._check_group(self.param_groups[-1])
        except LearnedOptimizerError:
            self.param_groups.pop()
            raise

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient.

        Args:
          closure: computes the loss and its gradients anew, with gradients enabled.

        Returns:
          What the closure returned, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        due = [item for item in self._named() if item[2].grad is not None]
        for _, name, parameter in due:
            _check_gradient(parameter, name)
        for group, name, parameter in due:
            if parameter.numel():
                self._update(group, name, parameter)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state, and the options of the groups, from ``state_dict()``.

        Statistics stay float32 whatever the dtype of their parameter is.
        """
        seen: list[Mapping[str, Any]] = []  # what the hooks of a user make of it

        def check(_: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
            self._check_saved(saved)
            seen.append(saved)

        handle = self.register_load_state_dict_pre_hook(check)
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
        # It has cast them to the dtype of the parameter, and rounded thereby.
        for parameter, _, saved in self._saved(seen[0]):
            statistics = {
                name: torch.as_tensor(value).to(parameter.device, torch.float32, copy=True)
                for name, value in saved.items()
            }
            step = torch.as_tensor(saved["step"]).to("cpu", torch.int64, copy=True)
            self.state[parameter] = {**statistics, "step": step}

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, which torch makes of three attributes."""
        return {**super().__getstate__(), "_recipe": self._recipe, "_rules": {}}

    def _update(self, group: Mapping[str, Any], name: str | None, parameter: Tensor) -> None:
        rule = self._rule(parameter.device)
        view = laid_out(parameter, group["layout"])
        assert parameter.grad is not None
        # Products want memory in the order of the axes.
        gradient = laid_out(parameter.grad, group["layout"]).to(torch.float32).contiguous()
        before = view.to(torch.float32).contiguous()
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.int64)
            state.update(rule.init(view.shape, parameter.device))
        update = rule.update(gradient, before, state, int(state["step"]), group["weight_decay"])
        state["step"] += 1
        update = update * (float(group["lr"]) * self._step_scale(name, parameter))
        view.add_(update.to(parameter.dtype))

    def _rule(self, device: torch.device) -> Rule:
        if device not in self._rules:
            self._rules[device] = self._recipe.on(device)
        return self._rules[device]

    def _step_scale(self, name: str | None, parameter: Tensor) -> float:
        return step_scale(name, parameter.shape, self._recipe.constants.get("base_shapes"))

    def _named(self) -> Iterator[tuple[dict[str, Any], str | None, Tensor]]:
        for group in self.param_groups:
            names = group.get("param_names", [None] * len(group["params"]))
            for name, parameter in zip(names, group["params"], strict=True):
                yield group, name, parameter

    def _check_group(self, group: Mapping[str, Any]) -> None:
        rate, decay, layout = group["lr"], group["weight_decay"], group["layout"]
        rule = self._recipe.name
        if rate is None:
            raise LearnedOptimizerError(
                f"`learning_rate`=None: the output of the rule {rule!r} is a direction; give a "
                "rate, as in `LearnedOptimizer(params, name, learning_rate=1e-3)`"
            )
        if not _is_amount(rate):
            raise LearnedOptimizerError(
                f"`lr`, or `learning_rate`, ={short(rate)}: must be a number, at least 0"
            )
        if not _is_amount(decay):
            raise LearnedOptimizerError(
                f"`weight_decay`={short(decay)}: must be a number, at least 0"
            )
        if decay and "weight_decay" not in self._recipe.constants:
            raise LearnedOptimizerError(
                f"`weight_decay`={short(decay)}: the rule {rule!r} has none; leave it out, or 0"
            )
        _check_layout(layout)
        names = group.get("param_names", [None] * len(group["params"]))
        for name, parameter in zip(names, group["params"], strict=True):
            self._step_scale(name, parameter)  # what does not fit is said before the training

    def _saved(self, state_dict: Mapping[str, Any]) -> Iterator[tuple[Tensor, Any, Any]]:
        """The parameters that a state dict has a state of, its group for them, and the state."""
        for ours, theirs in zip(self.param_groups, state_dict["param_groups"], strict=False):
            for parameter, key in zip(ours["params"], theirs["params"], strict=False):
                if key in state_dict["state"]:
                    yield parameter, theirs, state_dict["state"][key]

    def _check_saved(self, state_dict: Mapping[str, Any]) -> None:
        for i, group in enumerate(state_dict["param_groups"]):
            if missing := sorted({"lr", "weight_decay", "layout"} - set(group)):
                raise LearnedOptimizerError(
                    f"`state_dict` is of another optimizer: its group {i} has no {missing}"
                )
            _check_layout(group["layout"])
        rule, meta = self._rule(torch.device("cpu")), torch.device("meta")
        for parameter, group, saved in self._saved(state_dict):
            shape = laid_out(parameter, group["layout"]).shape
            wanted = {name: tuple(x.shape) for name, x in rule.init(shape, meta).items()}
            found = {name: tuple(getattr(x, "shape", ())) for name, x in saved.items()}
            if found != {"step": (), **wanted}:
                raise LearnedOptimizerError(
                    f"`state_dict` is of another optimizer: of a parameter of shape "
                    f"{tuple(parameter.shape)} it has {found}, where the rule "
                    f"{self._recipe.name!r} has {wanted}"
                )


def _check_gradient(parameter: Tensor, name: str | None) -> None:
    called = "a parameter" if name is None else f"the parameter {name!r}"
    assert parameter.grad is not None
    if parameter.grad.layout != torch.strided:
        raise LearnedOptimizerError(
            f"{called} has a sparse gradient, which learned optimizers do not support: make it "
            "dense (`nn.Embedding(…, sparse=False)`), or give it to torch.optim.SparseAdam"
        )
    if parameter.is_complex() or parameter.grad.is_complex():
        raise LearnedOptimizerError(
            f"{called} is complex, which learned optimizers do not support: keep it as "
            "`torch.view_as_real` makes it, or give it to another optimizer"
        )


def _is_amount(value: Any) -> bool:
    if isinstance(value, Tensor):
        value = value.item() if value.numel() == 1 else None
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and 0 <= value < math.inf


def _check_layout(layout: Any) -> None:
    if layout not in LAYOUTS:
        raise LearnedOptimizerError(f"`layout`={short(layout)}: must be one of {LAYOUTS}")
