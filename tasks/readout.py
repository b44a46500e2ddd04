"""The last layer of networks whose first answers are to be near zero."""

import haiku as hk
import jax

SCALE = 0.1  # of the initial weights, where others have 1


def readout(hidden: jax.Array, outputs: int) -> jax.Array:
    """A linear layer. Shapes: [..., d] → [..., outputs]."""
    init = hk.initializers.TruncatedNormal(SCALE * hidden.shape[-1] ** -0.5)
    return hk.Linear(outputs, w_init=init, name="answer")(hidden)
