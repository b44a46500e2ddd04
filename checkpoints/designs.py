"""From the weights of other projects to θ and constants of an update rule here."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from checkpoints.flax_msgpack import ForeignFileError
from learned_opt import RULES, LearnedOptimizer
from learned_opt.portable.theta import kinds, named_leaves, theta_shapes

Arrays = Mapping[str, np.ndarray]


class Design(NamedTuple):
    """``rule``: of `learned_opt.RULES`; ``layers``: of its network, (weights, biases) each, and
    ``rest``: other parts of θ, from the arrays of a file; ``constants``: that the design fixes;
    ``licence``, ``source``: of the weights that its project publishes.
    """

    rule: str
    layers: Callable[[Arrays], list[tuple[np.ndarray, np.ndarray]]]
    rest: Callable[[Arrays], Mapping[str, Any]]
    constants: Mapping[str, Any]
    licence: str
    source: str


class Converted(NamedTuple):
    """A rule, its θ, and of which of its constants the file's shapes decided."""

    optimizer: LearnedOptimizer
    theta: Mapping[str, Any]
    inferred: Mapping[str, Any]


def convert_arrays(design: Design, arrays: Arrays, given: Mapping[str, Any]) -> Converted:
    """θ of the design's rule, with the constants that are ``given`` or that the shapes say.

    Raises:
      ForeignFileError: the arrays are not those of the design, or a constant does not fit them.
    """
    layers = design.layers(arrays)
    inferred = {"hidden": [int(weights.shape[1]) for weights, _ in layers[:-1]]}
    if differing := [k for k, v in inferred.items() if k in given and list(given[k]) != v]:
        raise ForeignFileError(
            f"the constant {differing[0]!r} is {inferred[differing[0]]} by the shapes of the file, "
            f"not {given[differing[0]]}"
        )
    try:
        optimizer = RULES[design.rule](**{**design.constants, **inferred, **given})
    except (TypeError, ValueError) as error:
        raise ForeignFileError(
            f"the constants do not fit the rule {design.rule!r}: {error}"
        ) from None
    inputs = layers[0][0].shape[0]
    if inputs != len(optimizer.inputs):
        raise ForeignFileError(
            f"the network of the file reads {inputs} inputs, the rule {design.rule!r} with these "
            f"constants {len(optimizer.inputs)}; give the decays or timescales it was trained with"
        )
    theta = {
        f"mlp/~/linear_{i}": {"w": _float32(weights), "b": _float32(biases)}
        for i, (weights, biases) in enumerate(layers)
    }
    theta |= dict(design.rest(arrays))
    found, wanted = kinds(named_leaves(theta)), kinds(named_leaves(theta_shapes(optimizer)))
    if found != wanted:
        raise ForeignFileError(
            f"the file does not hold the θ of {design.rule!r}: it has {found}, not {wanted}"
        )
    return Converted(optimizer, theta, inferred)


def _haiku_layers(arrays: Arrays) -> list[tuple[np.ndarray, np.ndarray]]:
    """``mlp/~/linear_0/w`` and so on."""
    return _numbered(arrays, "mlp/~/linear_{}/w", "mlp/~/linear_{}/b")


def _adafactor_layers(arrays: Arrays) -> list[tuple[np.ndarray, np.ndarray]]:
    """``nn/~/w0`` and so on."""
    return _numbered(arrays, "nn/~/w{}", "nn/~/b{}")


def _grouped_layers(arrays: Arrays) -> list[tuple[np.ndarray, np.ndarray]]:
    """``ff_mod_stack/~/w0__0`` and so on: the first matrix in pieces, one a group of features."""
    prefix = "ff_mod_stack/~/"
    pieces: list[np.ndarray] = []
    while (name := f"{prefix}w0__{len(pieces)}") in arrays:
        pieces.append(_matrix(arrays, name))
    if not pieces or any(piece.shape[1] != pieces[0].shape[1] for piece in pieces):
        raise ForeignFileError(f"the file has no {prefix}w0__0, w0__1, … of one width")
    whole = {**arrays, f"{prefix}w0": np.concatenate(pieces)}
    return _numbered(whole, prefix + "w{}", prefix + "b{}")


def _numbered(arrays: Arrays, weights: str, biases: str) -> list[tuple[np.ndarray, np.ndarray]]:
    layers: list[tuple[np.ndarray, np.ndarray]] = []
    while weights.format(len(layers)) in arrays:
        i = len(layers)
        matrix, bias = _matrix(arrays, weights.format(i)), arrays.get(biases.format(i))
        if bias is None or bias.shape != (matrix.shape[1],):
            raise ForeignFileError(
                f"the file has no {biases.format(i)} of {matrix.shape[1]} entries"
            )
        if layers and layers[-1][0].shape[1] != matrix.shape[0]:
            raise ForeignFileError(f"{weights.format(i)} does not follow the layer before it")
        layers.append((matrix, bias))
    if len(layers) < 2:
        raise ForeignFileError(
            f"the file has no {weights.format(0)} and {weights.format(1)}: it is of another "
            f"design; it has {sorted(arrays)[:8]}"
        )
    return layers


def _matrix(arrays: Arrays, name: str) -> np.ndarray:
    if arrays[name].ndim != 2 or 0 in arrays[name].shape:
        raise ForeignFileError(f"{name} has shape {arrays[name].shape}; it must be a matrix")
    return arrays[name]


def _decay_offsets(arrays: Arrays) -> Mapping[str, Any]:
    """The offsets of the decays, which are in the same parametrisation here."""
    names = {
        "momentum": "momentum_decays",
        "second_moment": "rms_decays",
        "factored": "adafactor_decays",
    }
    if missing := sorted(name for name in names.values() if name not in arrays):
        raise ForeignFileError(f"the file has no {missing}")
    return {"decays": {ours: _float32(arrays[theirs]) for ours, theirs in names.items()}}


def _nothing(arrays: Arrays) -> Mapping[str, Any]:
    del arrays
    return {}


def _float32(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float32)


GOOGLE = "google/learned_optimization"
DESIGNS: Mapping[str, Design] = {
    "mlp_lopt": Design("mlp", _haiku_layers, _nothing, {}, "Apache-2.0", GOOGLE),
    "adafac_mlp_lopt": Design(
        "adafactor_mlp", _adafactor_layers, _decay_offsets, {}, "Apache-2.0", GOOGLE
    ),
    "celo2": Design(
        "normalized_mlp", _grouped_layers, _nothing, {"newton_schulz_steps": 5}, "MIT", "Celo2"
    ),
    "celo2_base": Design("normalized_mlp", _grouped_layers, _nothing, {}, "MIT", "Celo2"),
}
"""The designs whose files are read, by name."""
