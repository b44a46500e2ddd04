"""Checkpoints of meta-training."""

from checkpoints.training import CheckpointError, TrainingCheckpoints, differences

__all__ = ["CheckpointError", "TrainingCheckpoints", "differences"]
