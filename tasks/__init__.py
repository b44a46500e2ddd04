"""Inner problems and their data.

family = tasks.get_family("fashion_mnist_8x8_mlp32")
"""

from tasks.augmentations import AUGMENTATIONS, AugmentationError
from tasks.base import (
    SPLITS,
    Task,
    TaskFamily,
    TaskMetadata,
    family_facts,
    parameter_count,
)
from tasks.data.tfds_images import DataUnavailableError
from tasks.registry import OFFLINE_FAMILIES, UnknownTaskError, get_family

__all__ = [
    "AUGMENTATIONS",
    "AugmentationError",
    "OFFLINE_FAMILIES",
    "SPLITS",
    "DataUnavailableError",
    "Task",
    "TaskFamily",
    "TaskMetadata",
    "UnknownTaskError",
    "family_facts",
    "get_family",
    "parameter_count",
]
