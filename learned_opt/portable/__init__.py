"""The portable format: a learned optimizer as data.

A directory with

* ``theta.safetensors``: θ and nothing else, tensors named by their path in the pytree;
* ``manifest.json``: the update rule, every constant of it, the inputs of its network, the names,
  shapes and SHA-256 of θ's tensors, how the optimizer was meta-trained, and a SHA-256 of the
  manifest itself;

or one file NAME.safetensors, with the manifest among its metadata. Reading either executes nothing.
Whatever does not fit is refused with a sentence.
"""

from learned_opt.portable.errors import OptimizerFormatError
from learned_opt.portable.reading import PortableOptimizer, describe, list_pretrained, load, read
from learned_opt.portable.writing import save

__all__ = [
    "OptimizerFormatError",
    "PortableOptimizer",
    "describe",
    "list_pretrained",
    "load",
    "read",
    "save",
]
