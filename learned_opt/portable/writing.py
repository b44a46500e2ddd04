"""Saving an optimizer."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.portable import theta as thetas
from learned_opt.portable.files import (
    MANIFEST_FILE,
    SUFFIX,
    THETA_FILE,
    replace_directory,
    replace_file,
)
from learned_opt.portable.manifest import LARGEST, make_manifest, to_text
from learned_opt.portable.reading import is_optimizer_file
from learned_opt.rules import RULES


def save(
    path: str | os.PathLike[str],
    optimizer: LearnedOptimizer,
    theta: Theta,
    *,
    meta_training: Mapping[str, Any],
    licence: str = "unspecified",
) -> None:
    """Write a portable optimizer; an older one is replaced once the new one is written whole.

    Args:
      path: a directory, or a file that ends in ``.safetensors``; its parents are made.
      optimizer: the rule.
      theta: its meta-parameters, as ``optimizer.init`` shapes them.
      meta_training: how θ was found, as JSON values: tasks, horizons, updates, seeds, cost.
      licence: an SPDX identifier.

    Raises:
      ValueError: θ is not shaped like the rule's, or has entries that are not finite; the rule
        is not one of `RULES`, or has a constant that is no JSON (a schedule, say).
      FileExistsError: ``path`` is something else, and stays.
      OSError: it cannot be written.
    """
    if optimizer.name not in RULES:
        raise ValueError(
            f"the rule {optimizer.name!r} is not in the registry, so that nothing could read it "
            f"again; legal ones: {sorted(RULES)}"
        )
    tensors = {name: np.asarray(leaf) for name, leaf in thetas.named_leaves(theta).items()}
    found, wanted = (
        thetas.kinds(x) for x in (tensors, thetas.named_leaves(thetas.theta_shapes(optimizer)))
    )
    if found != wanted:
        raise ValueError(
            f"`theta` is not one of the rule {optimizer.name!r}: it has {found}, not {wanted}"
        )
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise ValueError("`theta` has entries that are not finite; an optimizer cannot use it")
    manifest = make_manifest(optimizer, tensors, meta_training, licence)
    text = to_text(manifest).encode()
    if len(text) > LARGEST:
        raise ValueError(f"the manifest would have {len(text)} bytes; at most {LARGEST} are read")
    target = Path(path).expanduser()
    if target.suffix == SUFFIX:
        metadata = {thetas.METADATA_KEY: json.dumps(manifest, allow_nan=False)}
        replace_file(target, thetas.to_bytes(tensors, metadata), is_optimizer_file)
    else:
        replace_directory(target, {THETA_FILE: thetas.to_bytes(tensors), MANIFEST_FILE: text})
