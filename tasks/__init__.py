"""Inner problems and their data.

family = tasks.get_family("fashion_mnist_8x8_mlp32")

Importing this builds nothing and reads nothing; `python -m tasks list` shows what there is.
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
from tasks.catalogue import AdamTarget, ParametricFamily, Row, parametric_families, rows
from tasks.data.prepared import DataUnavailableError
from tasks.data.stream import StreamError
from tasks.registry import (
    UnknownTaskError,
    check_streamed,
    get_family,
    get_streamed_family,
    offline_tasks,
)

__all__ = [
    "AUGMENTATIONS",
    "AdamTarget",
    "AugmentationError",
    "DataUnavailableError",
    "ParametricFamily",
    "Row",
    "SPLITS",
    "StreamError",
    "Task",
    "TaskFamily",
    "TaskMetadata",
    "UnknownTaskError",
    "check_streamed",
    "family_facts",
    "get_family",
    "get_streamed_family",
    "offline_tasks",
    "parameter_count",
    "parametric_families",
    "rows",
]
