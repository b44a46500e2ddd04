"""Finding, reading and building a saved optimizer."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.portable import manifest as manifests
from learned_opt.portable import theta as thetas
from learned_opt.portable.envelope import with_warnings
from learned_opt.portable.errors import OptimizerFormatError
from learned_opt.portable.files import MANIFEST_FILE, SUFFIX, THETA_FILE, read_bounded
from learned_opt.rules import RULES

PRETRAINED = Path(__file__).parents[1] / "pretrained"


class PortableOptimizer(NamedTuple):
    """A saved optimizer: its rule, its θ, and its manifest as plain JSON values."""

    optimizer: LearnedOptimizer
    theta: Theta
    manifest: Mapping[str, Any]

    def build(self, num_steps: Any = None) -> optax.GradientTransformationExtraArgs:
        """The optimizer as an optax transformation."""
        return self.optimizer.build(self.theta, num_steps=num_steps)


def load(
    name_or_path: str | os.PathLike[str], *, num_steps: Any = None, **overrides: Any
) -> optax.GradientTransformationExtraArgs:
    """A learned optimizer as an optax transformation.

    ``updates, state = tx.update(grads, state, params, value=loss)``, with any pytree of
    parameters; θ is in it as constants. An `OutsideEnvelopeWarning` says where the model, its
    dtype or ``num_steps`` is not like what the optimizer was meta-trained on.

    Args:
      name_or_path: a name of `list_pretrained`, the directory of a saved optimizer, or its
        ``.safetensors`` file. A bare name means the shipped one; write ``./name`` for a
        directory of that name.
      num_steps: updates that there will be in all; optimizers without a horizon ignore it.
      **overrides: constants of the rule to use in place of the saved ones:
        ``learning_rate=1e-3``, or a schedule, for a rule whose output is a direction;
        ``step_multiplier=0.0005``; ``state_dtype="bfloat16"``.

    Raises:
      FileNotFoundError: neither a shipped optimizer nor a saved one.
      OptimizerFormatError: a damaged or foreign file, or constants that do not fit.
      ValueError: the rule needs ``num_steps``, or a rate, and there is none.
    """
    found = read(name_or_path, **overrides)
    return with_warnings(
        found.build(num_steps), found.manifest["meta_training"], str(name_or_path), num_steps
    )


def describe(name_or_path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """The manifest of a saved optimizer: its rule, constants, inputs and meta-training.

    Raises the errors of `load`.
    """
    return read(name_or_path).manifest


def list_pretrained() -> list[str]:
    """Names of the optimizers that the package ships."""
    return sorted(path.parent.name for path in PRETRAINED.glob(f"*/{MANIFEST_FILE}"))


def read(name_or_path: str | os.PathLike[str], **overrides: Any) -> PortableOptimizer:
    """What `load` builds its transformation from; same arguments, same errors."""
    path = _locate(name_or_path)
    try:
        return (_read_file if path.is_file() else _read_directory)(path, overrides)
    except MemoryError:
        raise OptimizerFormatError(f"{str(path)!r} does not fit into memory") from None


def is_optimizer_file(path: Path) -> bool:
    """Whether it is one of ours, so that saving may replace it."""
    try:
        _manifest_of_file(path)
    except (OSError, OptimizerFormatError):
        return False
    return True


def _locate(name_or_path: str | os.PathLike[str]) -> Path:
    if isinstance(name_or_path, str) and name_or_path in list_pretrained():
        return PRETRAINED / name_or_path
    try:
        path = Path(name_or_path).expanduser()
        found = (path / MANIFEST_FILE).is_file() or (path.suffix == SUFFIX and path.is_file())
    except (OSError, RuntimeError, ValueError):  # too long a name, an unknown user, a null byte
        found = False
    if not found:
        raise FileNotFoundError(
            f"no learned optimizer at {str(name_or_path)[:200]!r}: there is no {MANIFEST_FILE}, "
            f"and it is no {SUFFIX} file; give the directory of a saved one (DIR/optimizer of a "
            f"run) or a shipped one: {', '.join(list_pretrained())}"
        )
    return path


def _read_directory(path: Path, overrides: Mapping[str, Any]) -> PortableOptimizer:
    text = read_bounded(path / MANIFEST_FILE, manifests.LARGEST)
    manifest = manifests.read_manifest(text, repr(str(path / MANIFEST_FILE)))
    optimizer = _make_rule(path, manifest, overrides)
    source = path / THETA_FILE
    largest = _bytes_of_theta(optimizer) + thetas.LARGEST_HEADER
    data = read_bounded(source, largest)
    theta = thetas.read_theta(data, manifest, optimizer, repr(str(source)))
    return PortableOptimizer(optimizer, theta, manifest)


def _read_file(path: Path, overrides: Mapping[str, Any]) -> PortableOptimizer:
    manifest = _manifest_of_file(path)
    optimizer = _make_rule(path, manifest, overrides)
    data = read_bounded(path, _bytes_of_theta(optimizer) + thetas.LARGEST_HEADER)
    theta = thetas.read_theta(data, manifest, optimizer, repr(str(path)))
    return PortableOptimizer(optimizer, theta, manifest)


def _manifest_of_file(path: Path) -> dict[str, Any]:
    source = repr(str(path))
    with open(path, "rb") as file:
        start = file.read(thetas.PREFIX)
        text = file.read(thetas.header_length(start, path.stat().st_size, source))
    header = manifests.parse_json(text, source, thetas.LARGEST_HEADER)
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    manifest = metadata.get(thetas.METADATA_KEY) if isinstance(metadata, dict) else None
    if not isinstance(manifest, str):
        raise OptimizerFormatError(
            f"{source} has no manifest of a learned optimizer among its metadata"
        )
    return manifests.read_manifest(manifest.encode(errors="surrogatepass"), source)


def _make_rule(
    path: Path, manifest: Mapping[str, Any], overrides: Mapping[str, Any]
) -> LearnedOptimizer:
    rule, constants = manifest["rule"], manifest["constants"]
    if rule not in RULES:
        raise OptimizerFormatError(
            f"{str(path)!r} uses the unknown rule {rule[:40]!r}; known ones: {sorted(RULES)}"
        )
    if unknown := sorted(set(overrides) - set(constants)):
        hint = ""
        if "learning_rate" in unknown and "step_multiplier" in constants:
            hint = "; this rule sets its own step, which `step_multiplier` scales"
        raise OptimizerFormatError(
            f"unknown constants {unknown} of the rule {rule!r}; known ones: "
            f"{sorted(constants)}{hint}"
        )
    try:
        saved = RULES[rule](**constants)
        optimizer = RULES[rule](**{**constants, **overrides}) if overrides else saved
    except (TypeError, ValueError) as error:
        raise OptimizerFormatError(
            f"the constants of {str(path)!r} do not fit the rule {rule!r}: {error}"
        ) from None
    if list(saved.inputs) != manifest["inputs"]:
        raise OptimizerFormatError(
            f"{str(path)!r} was made for other inputs of the rule {rule!r} than it has here"
        )
    return optimizer


def _bytes_of_theta(optimizer: LearnedOptimizer) -> int:
    leaves = jax.tree.leaves(thetas.theta_shapes(optimizer))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
