"""What reading an optimizer refuses with."""


class OptimizerFormatError(ValueError):
    """A file of a portable optimizer that cannot be used, and why."""
