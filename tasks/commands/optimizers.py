"""Optimizers as a user writes them on the command line.

    adam                                        of optax, with the rate that is given apart
    optax.adamw(1e-3, weight_decay=1e-4)        any function that can be imported, with constants
    learned_opt.load("runs/demo/optimizer")     a learned optimizer among them

Nothing is evaluated but constants; a function is imported by its name and called with them.
"""

import ast
from collections.abc import Callable
from importlib import import_module
from typing import Any

import optax

from tasks.commands.arguments import CommandError

EXAMPLES = 'adam, optax.adamw(1e-3, weight_decay=1e-4), learned_opt.load("NAME_OR_PATH")'


def parse_optimizer(text: str, rate: float) -> optax.GradientTransformationExtraArgs:
    """The optimizer that ``text`` names; ``rate`` is for one that is named without arguments.

    Raises:
      CommandError: there is none such, or it cannot be made so.
    """
    try:
        expression = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise _refused(text, "cannot be read") from None
    if isinstance(expression, ast.Name):
        make = _imported(text, ("optax", expression.id))
        positional, named = [rate], dict[str, Any]()
    elif isinstance(expression, ast.Call):
        make = _imported(text, _dotted(text, expression.func))
        positional, named = _constants(text, expression)
    else:
        raise _refused(text, "is neither a name nor a call of a function")
    try:
        made = make(*positional, **named)
    except Exception as error:
        raise _refused(text, f"fails ({type(error).__name__}: {error})") from error
    if not isinstance(made, optax.GradientTransformation):
        raise _refused(text, f"makes {type(made).__name__}, which is no optimizer of optax")
    return optax.with_extra_args_support(made)


def _dotted(text: str, function: ast.expr) -> tuple[str, ...]:
    if isinstance(function, ast.Name):
        return (function.id,)
    if isinstance(function, ast.Attribute):
        return (*_dotted(text, function.value), function.attr)
    raise _refused(text, "calls what is no name")


def _constants(text: str, call: ast.Call) -> tuple[list[Any], dict[str, Any]]:
    try:
        positional = [ast.literal_eval(value) for value in call.args]
        named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except ValueError:
        raise _refused(text, "has arguments that are no constants") from None
    return positional, named


def _imported(text: str, path: tuple[str, ...]) -> Callable[..., Any]:
    if len(path) < 2:
        raise _refused(text, "names no module")
    try:
        function = getattr(import_module(".".join(path[:-1])), path[-1])
    except (ImportError, AttributeError) as error:
        raise _refused(text, f"cannot be imported ({error})") from None
    if not callable(function):
        raise _refused(text, "is no function")
    return function


def _refused(text: str, why: str) -> CommandError:
    return CommandError(f"--optimizer={text!r} {why}; write it like {EXAMPLES}")
