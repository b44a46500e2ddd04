"""What the optimizers of this package refuse with."""


class LearnedOptimizerError(ValueError):
    """An argument, a parameter, a gradient or a saved state that cannot be used, and why."""
