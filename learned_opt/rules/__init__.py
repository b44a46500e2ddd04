"""The update rules, by name: ``RULES[name](**constants)`` is a `LearnedOptimizer`."""

from collections.abc import Callable, Mapping
from functools import partial

from learned_opt.base import LearnedOptimizer
from learned_opt.rules.adafactor_mlp import adafactor_mlp
from learned_opt.rules.hyper import hyper
from learned_opt.rules.mlp import mlp
from learned_opt.rules.mu_mlp import mu_mlp
from learned_opt.rules.nn_adam import nn_adam
from learned_opt.rules.nominal_mlp import nominal_mlp
from learned_opt.rules.normalized_mlp import normalized_mlp
from learned_opt.rules.optax_rule import optax_rule
from learned_opt.rules.rnn_mlp import rnn_mlp
from learned_opt.rules.scheduled_mlp import scheduled_mlp

RULES: Mapping[str, Callable[..., LearnedOptimizer]] = {
    "mlp": mlp,
    "adafactor_mlp": adafactor_mlp,
    "adafactor_mlp_h32": partial(adafactor_mlp, hidden=(32, 32)),
    "mu_mlp": mu_mlp,
    "normalized_mlp": normalized_mlp,
    "scheduled_mlp": scheduled_mlp,
    "rnn_mlp": rnn_mlp,
    "nn_adam": nn_adam,
    "hyper": hyper,
    "nominal_mlp": nominal_mlp,
    "optax": optax_rule,
}
