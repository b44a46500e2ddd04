"""How the axes of a parameter are ordered for a rule.

A weight of Linear is [out, in] in ``torch.nn`` and [in, out] in Haiku; one of a convolution is
[out, in, *kernel] there and [*kernel, in, out] here, and one of a transposed convolution
[in, out, *kernel] and [*kernel, out, in]: all the same exchange.
"""

from torch import Tensor

LAYOUTS = ("haiku", "torch")


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """A view of a tensor of ``torch.nn`` in the layout: what is written to it is the tensor's."""
    if layout == "torch" or tensor.ndim < 2:
        return tensor
    return tensor.permute(*range(2, tensor.ndim), 1, 0)
