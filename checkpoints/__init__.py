"""Checkpoints of meta-training."""

from checkpoints.training import CheckpointError, TrainingCheckpoints

__all__ = ["CheckpointError", "TrainingCheckpoints"]
