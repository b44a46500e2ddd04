"""Runs a command as `python -m` does, where some packages are as if they were not installed: their
names with commas between, the module, its arguments."""

import runpy
import sys
from importlib.machinery import PathFinder


def hide(names):
    """Let the finder of installed modules find nothing of these packages."""
    find = PathFinder.find_spec

    def find_others(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in names else find(name, path, target)

    PathFinder.find_spec = classmethod(find_others)


if __name__ == "__main__":
    names, module, *arguments = sys.argv[1:]
    hide(frozenset(names.split(",")))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
