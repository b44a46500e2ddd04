"""The experiments by name, in the order of the page."""

from collections.abc import Mapping

from meta_train.reproduce.experiment import Experiment
from meta_train.reproduce.experiments.control import CONTROL
from meta_train.reproduce.experiments.influence_balancing import INFLUENCE_BALANCING
from meta_train.reproduce.experiments.l2_regression import L2_REGRESSION
from meta_train.reproduce.experiments.learned_optimizer import LEARNED_OPTIMIZER
from meta_train.reproduce.experiments.learning_rate_schedule import LEARNING_RATE_SCHEDULE
from meta_train.reproduce.experiments.lorenz import LORENZ
from meta_train.reproduce.experiments.many_hyperparameters import MANY_HYPERPARAMETERS
from meta_train.reproduce.experiments.toy_regression import TOY_REGRESSION
from meta_train.reproduce.experiments.variance import VARIANCE

EXPERIMENTS: Mapping[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        INFLUENCE_BALANCING,
        TOY_REGRESSION,
        VARIANCE,
        LORENZ,
        LEARNING_RATE_SCHEDULE,
        MANY_HYPERPARAMETERS,
        L2_REGRESSION,
        CONTROL,
        LEARNED_OPTIMIZER,
    )
}
