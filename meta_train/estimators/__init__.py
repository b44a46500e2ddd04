"""Estimators of ∇_θ Σ_t L_t of an `UnrolledProblem`, by name, over one interface:

estimator = ESTIMATORS["pes"](problem, window=10, particles=100, sigma=0.3, length=100)
state = estimator.init(key, theta)
gradient, state, info = estimator.step(key, theta, state, data)
"""

from collections.abc import Callable, Mapping

from meta_train.estimators.base import EstimatorInfo, GradientEstimator
from meta_train.estimators.dodge import dodge
from meta_train.estimators.full_backprop import full_backprop
from meta_train.estimators.full_es import full_es
from meta_train.estimators.gpes import gpes
from meta_train.estimators.mixture import mixture_of
from meta_train.estimators.nres import nres
from meta_train.estimators.pes import pes
from meta_train.estimators.pes_analytic import pes_analytic
from meta_train.estimators.rtrl import rtrl
from meta_train.estimators.truncated_backprop import truncated_backprop
from meta_train.estimators.truncated_es import truncated_es
from meta_train.estimators.uoro import uoro

_EVOLUTION: Mapping[str, Callable[..., GradientEstimator]] = {
    "full_es": full_es,
    "truncated_es": truncated_es,
    "pes": pes,
    "pes_analytic": pes_analytic,
    "nres": nres,
    "gpes": gpes,
}
_DIFFERENTIATE: Mapping[str, Callable[..., GradientEstimator]] = {
    "truncated_backprop": truncated_backprop,
    "full_backprop": full_backprop,
    "rtrl": rtrl,
    "uoro": uoro,
    "dodge": dodge,
}
ESTIMATORS: Mapping[str, Callable[..., GradientEstimator]] = {
    **_EVOLUTION,
    **_DIFFERENTIATE,
    "mixture": mixture_of({**_EVOLUTION, **_DIFFERENTIATE}),
}
NEED_DERIVATIVE = frozenset(_DIFFERENTIATE) | {"pes_analytic"}
"""Those that differentiate the problem."""
WITHOUT_NOISE = frozenset(_DIFFERENTIATE)
"""Those that ignore ``particles`` and ``sigma``, and take ``episodes``."""

__all__ = ["ESTIMATORS", "NEED_DERIVATIVE", "WITHOUT_NOISE", "EstimatorInfo", "GradientEstimator"]
