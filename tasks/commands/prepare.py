"""``prepare``: download data sets, convert them, and keep their arrays at a resolution."""

from collections.abc import Sequence

from absl import flags

from tasks.commands.arguments import CommandError, names_given
from tasks.data.prepare import prepare

RESOLUTION = flags.DEFINE_integer(
    "resolution", None, "prepare: pixels a side of the arrays; those in the NAME of a task if none."
)


def main(arguments: Sequence[str]) -> None:
    """Prepare the sets of all names, or of the tasks of these names."""
    for name in names_given("prepare", arguments):
        try:
            prepared = prepare(name, RESOLUTION.value)
        except ValueError as error:
            raise CommandError(str(error)) from None
        print(prepared.in_words(), flush=True)
