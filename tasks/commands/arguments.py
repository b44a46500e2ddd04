"""What the commands say of arguments that they cannot take."""

from collections.abc import Sequence


class CommandError(ValueError):
    """What was given on the command line cannot be done."""


def names_given(command: str, names: Sequence[str]) -> Sequence[str]:
    """The names; at least one.

    Raises:
      CommandError: there is none.
    """
    if not names:
        raise CommandError(
            f"`{command}` needs the NAME of a task; `python -m tasks list` has all of them"
        )
    return names
