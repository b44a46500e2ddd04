"""``list``: the table of all tasks."""

import json
from collections.abc import Sequence

from absl import flags

from tasks.commands.arguments import CommandError
from tasks.holdout import TASK_SPLITS
from tasks.listing import as_markdown, as_text, listing

JSON = flags.DEFINE_bool("json", False, "list: as a JSON list of objects.")
MARKDOWN = flags.DEFINE_bool("markdown", False, "list: as a table of Markdown.")
SPLIT = flags.DEFINE_enum("split", None, TASK_SPLITS, "list: only tasks of this split.")
DOMAIN = flags.DEFINE_string("domain", None, "list: only tasks of this domain.")
OFFLINE = flags.DEFINE_bool("offline", None, "list: only tasks that need no network, or that do.")


def main(arguments: Sequence[str]) -> None:
    """Print the table, or a part of it."""
    if arguments:
        raise CommandError(f"`list` takes no NAME, but {arguments[0]!r} is given; try `describe`")
    table = listing()
    domains = sorted({facts["domain"] for facts in table})
    if DOMAIN.value is not None and DOMAIN.value not in domains:
        raise CommandError(f"unknown --domain={DOMAIN.value!r}; legal ones: {', '.join(domains)}")
    for key, wanted in (("split", SPLIT), ("domain", DOMAIN), ("offline", OFFLINE)):
        table = [facts for facts in table if wanted.value in (None, facts[key])]
    if JSON.value:
        print(json.dumps(table, indent=2, ensure_ascii=False))
    elif MARKDOWN.value:
        print(as_markdown(table))
    else:
        print(as_text(table))
