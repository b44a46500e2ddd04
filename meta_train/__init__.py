"""Meta-training and evaluation of learned optimizers."""

from meta_train.problem import UnrolledProblem

__all__ = ["UnrolledProblem"]
