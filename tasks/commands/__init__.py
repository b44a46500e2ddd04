"""The subcommands of `python -m tasks`."""
