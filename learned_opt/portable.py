"""The portable format: a learned optimizer as data.

A directory with

* ``theta.safetensors``: θ and nothing else, tensors named by their path in the pytree;
* ``manifest.json``: the update rule, every constant of it, the names and shapes of θ's
  tensors, the SHA-256 of the file beside it, and how the optimizer was meta-trained.

Reading it executes nothing. Whatever does not fit is refused with a sentence.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import safetensors
import safetensors.numpy

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.rules import RULES

FORMAT = "learned-opt"
VERSION = 1
THETA_FILE = "theta.safetensors"
MANIFEST_FILE = "manifest.json"
PRETRAINED = Path(__file__).with_name("pretrained")
LARGEST_MANIFEST = 1 << 18  # bytes; also the room for the header of the tensors


class OptimizerFormatError(ValueError):
    """A file of a portable optimizer that cannot be used, and why."""


class PortableOptimizer(NamedTuple):
    """A saved optimizer: its rule, its θ, and its manifest as plain JSON values."""

    optimizer: LearnedOptimizer
    theta: Theta
    manifest: Mapping[str, Any]

    def build(self) -> optax.GradientTransformationExtraArgs:
        """The optimizer as an optax transformation."""
        return self.optimizer.build(self.theta)


def load(
    name_or_path: str | os.PathLike[str], **overrides: Any
) -> optax.GradientTransformationExtraArgs:
    """A learned optimizer as an optax transformation.

    ``updates, state = tx.update(grads, state, params, value=loss)``, with any pytree of
    parameters; θ is in it as constants.

    Args:
      name_or_path: a name of `list_pretrained`, or the directory of a saved optimizer.
        A bare name means the shipped one; write ``./name`` for a directory of that name.
      **overrides: constants of the rule to use in place of the saved ones,
        ``step_multiplier=0.0005`` say.

    Raises:
      FileNotFoundError: neither a shipped optimizer nor a directory of a saved one.
      OptimizerFormatError: a damaged or foreign file, or constants that do not fit.
    """
    return read(name_or_path, **overrides).build()


def describe(name_or_path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """The manifest of a saved optimizer: its rule, constants and meta-training.

    Raises the errors of `load`.
    """
    return read(name_or_path).manifest


def list_pretrained() -> list[str]:
    """Names of the optimizers that the package ships."""
    return sorted(path.parent.name for path in PRETRAINED.glob(f"*/{MANIFEST_FILE}"))


def read(name_or_path: str | os.PathLike[str], **overrides: Any) -> PortableOptimizer:
    """What `load` builds its transformation from; same arguments, same errors."""
    directory = _locate(name_or_path)
    manifest = _read_manifest(directory / MANIFEST_FILE)
    optimizer = _make_rule(directory, manifest, overrides)
    return PortableOptimizer(optimizer, _read_theta(directory, manifest, optimizer), manifest)


def save(
    directory: str | os.PathLike[str],
    optimizer: LearnedOptimizer,
    theta: Theta,
    *,
    meta_training: Mapping[str, Any],
    licence: str = "unspecified",
) -> None:
    """Write a portable optimizer; an older one is replaced once the new one is written whole.

    Args:
      directory: where to; its parents are made.
      optimizer: the rule.
      theta: its meta-parameters, as ``optimizer.init`` shapes them.
      meta_training: how θ was found, as JSON values: tasks, horizons, updates, seeds, cost.
      licence: an SPDX identifier.

    Raises:
      ValueError: θ is not shaped like the rule's, or has entries that are not finite.
      FileExistsError: ``directory`` is a file, a link, or holds something else.
      OSError: the directory cannot be written.
    """
    tensors = {name: np.asarray(leaf) for name, leaf in _named_leaves(theta).items()}
    expected = _named_leaves(_theta_shapes(optimizer))
    if _shapes(tensors) != _shapes(expected):
        raise ValueError(
            f"`theta` is not one of the rule {optimizer.name!r}: it has {_shapes(tensors)}, "
            f"not {_shapes(expected)}"
        )
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise ValueError("`theta` has entries that are not finite; an optimizer cannot use it")
    data = safetensors.numpy.save(tensors)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "rule": optimizer.name,
        "constants": dict(optimizer.constants),
        "theta": {
            "sha256": hashlib.sha256(data).hexdigest(),
            "tensors": {
                name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype)}
                for name, tensor in tensors.items()
            },
        },
        "meta_training": dict(meta_training),
        "licence": licence,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    text = json.dumps(manifest, indent=2, allow_nan=False) + "\n"
    _replace_directory(Path(directory), {THETA_FILE: data, MANIFEST_FILE: text.encode()})


def _locate(name_or_path: str | os.PathLike[str]) -> Path:
    if isinstance(name_or_path, str) and name_or_path in list_pretrained():
        return PRETRAINED / name_or_path
    try:
        path = Path(name_or_path).expanduser()
        found = (path / MANIFEST_FILE).is_file()
    except (OSError, RuntimeError):  # too long a name, the home of an unknown user
        found = False
    if not found:
        raise FileNotFoundError(
            f"no learned optimizer at {str(name_or_path)!r}: there is no {MANIFEST_FILE}; give the "
            "directory of a saved one (DIR/optimizer of a run) or a shipped one: "
            f"{', '.join(list_pretrained())}"
        )
    return path


def _read_manifest(path: Path) -> dict[str, Any]:
    if path.stat().st_size > LARGEST_MANIFEST:
        raise OptimizerFormatError(f"{str(path)!r} is larger than {LARGEST_MANIFEST} bytes")
    try:
        manifest = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise OptimizerFormatError(f"{str(path)!r} is not JSON: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise OptimizerFormatError(f"{str(path)!r} is not the manifest of a learned optimizer")
    if type(manifest.get("version")) is not int or manifest["version"] != VERSION:
        raise OptimizerFormatError(
            f"{str(path)!r} has format version {manifest.get('version')!r}; "
            f"this learned-opt reads version {VERSION}"
        )
    for key, kind in (("rule", str), ("constants", dict), ("theta", dict), ("meta_training", dict)):
        if not isinstance(manifest.get(key), kind):
            raise OptimizerFormatError(f"{str(path)!r} has no {key!r} of type {kind.__name__}")
    return manifest


def _make_rule(
    directory: Path, manifest: Mapping[str, Any], overrides: Mapping[str, Any]
) -> LearnedOptimizer:
    rule, constants = manifest["rule"], manifest["constants"]
    if rule not in RULES:
        raise OptimizerFormatError(
            f"{str(directory)!r} uses the unknown rule {rule!r}; known ones: {sorted(RULES)}"
        )
    if unknown := sorted(set(overrides) - set(constants)):
        raise OptimizerFormatError(
            f"unknown constants {unknown} of the rule {rule!r}; known ones: {sorted(constants)}"
        )
    try:
        return RULES[rule](**{**constants, **overrides})
    except (TypeError, ValueError) as error:
        raise OptimizerFormatError(
            f"the constants of {str(directory)!r} do not fit the rule {rule!r}: {error}"
        ) from None


def _read_theta(directory: Path, manifest: Mapping[str, Any], optimizer: LearnedOptimizer) -> Theta:
    path = directory / THETA_FILE
    shapes = _theta_shapes(optimizer)
    expected = _named_leaves(shapes)
    if not path.is_file():
        raise OptimizerFormatError(f"{str(directory)!r} has no {THETA_FILE}")
    bytes_of_theta = sum(leaf.size * leaf.dtype.itemsize for leaf in expected.values())
    if path.stat().st_size > bytes_of_theta + LARGEST_MANIFEST:
        raise OptimizerFormatError(f"{str(path)!r} is larger than the θ its manifest describes")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != manifest["theta"].get("sha256"):
        raise OptimizerFormatError(f"{str(path)!r} is damaged: its SHA-256 is not the manifest's")
    try:
        tensors = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise OptimizerFormatError(f"{str(path)!r} is not a safetensors file: {error}") from None
    found, wanted = _shapes(tensors), _shapes(expected)
    if found != wanted:
        raise OptimizerFormatError(
            f"{str(path)!r} does not hold the θ of its manifest's rule and constants: "
            f"it has {found}, not {wanted}"
        )
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise OptimizerFormatError(f"{str(path)!r} has entries that are not finite")
    return jax.tree.unflatten(jax.tree.structure(shapes), [tensors[name] for name in expected])


def _theta_shapes(optimizer: LearnedOptimizer) -> Any:
    return jax.eval_shape(optimizer.init, jax.random.key(0))


def _named_leaves(theta: Theta) -> dict[str, Any]:
    """Leaves by their path, ``mlp/~/linear_0/w`` say, in the order of the pytree."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(theta)
    }


def _shapes(tensors: Mapping[str, Any]) -> dict[str, str]:
    """``float32[19,32]`` and so on, by name."""
    return {name: f"{tensor.dtype}{list(tensor.shape)}" for name, tensor in sorted(tensors.items())}


def _replace_directory(target: Path, files: Mapping[str, bytes]) -> None:
    """A directory with these files, written whole before it takes its name.

    Raises FileExistsError where something else than such a directory has the name.
    """
    if target.is_symlink() or (target.exists() and not _holds_only(target, files)):
        raise FileExistsError(
            f"{str(target)!r} is not the directory of an optimizer (it is a file, a link, or "
            f"holds more than {' and '.join(files)}); choose another one"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.partial")
    older = target.with_name(f".{target.name}.older")
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
    try:
        temporary.mkdir()
        for name, data in files.items():
            with open(temporary / name, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        if target.exists():
            shutil.rmtree(older, ignore_errors=True)
            os.rename(target, older)
        os.rename(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if older.exists() and not target.exists():
            os.rename(older, target)
        raise
    shutil.rmtree(older, ignore_errors=True)


def _holds_only(directory: Path, names: Iterable[str]) -> bool:
    return directory.is_dir() and {path.name for path in directory.iterdir()} <= {*names}
