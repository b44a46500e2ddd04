"""Evaluation of learned optimizers beside tuned hand-designed ones."""
