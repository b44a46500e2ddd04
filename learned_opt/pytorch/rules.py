"""The update rules that PyTorch has, each the one of its name in `learned_opt.rules`."""

from collections.abc import Callable, Mapping

from learned_opt.pytorch.adafactor_mlp import AdafactorMLPRule
from learned_opt.pytorch.base import Constants, Rule, Theta
from learned_opt.pytorch.mlp import MLPRule
from learned_opt.pytorch.nominal_mlp import NominalMLPRule
from learned_opt.pytorch.normalized_mlp import NormalizedMLPRule

PYTORCH_RULES: Mapping[str, Callable[[Constants, Theta], Rule]] = {
    "adafactor_mlp": AdafactorMLPRule,
    "mlp": MLPRule,
    "mu_mlp": AdafactorMLPRule,  # its η is of a parameter by its name: `base_shapes`
    "nominal_mlp": NominalMLPRule,
    "normalized_mlp": NormalizedMLPRule,
}
"""``PYTORCH_RULES[name](constants, theta)`` makes a rule."""
