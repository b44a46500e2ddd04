"""Newton–Schulz orthogonalisation, as Muon has it (https://kellerjordan.github.io/posts/muon)."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
EPSILON = 1e-8


def orthogonalized(matrix: jax.Array, steps: int) -> jax.Array:
    """X ← aX + (bA + cA²)X with A = XXᵀ, ``steps`` times, from X/(‖X‖_F + 10⁻⁸).

    Singular values go to about 1. The last two axes are the matrix, the others a batch; one with
    more rows than columns is transposed in between. Where the sharding is part of the type, the
    matrix is gathered first and split again.
    """
    sharding = jax.typeof(matrix).sharding
    if any(axis is not None for axis in sharding.spec):
        whole = jax.sharding.reshard(matrix, sharding.update(spec=PartitionSpec()))
        return jax.sharding.reshard(orthogonalized(whole, steps), sharding)
    a, b, c = COEFFICIENTS
    rows, columns = matrix.shape[-2:]
    x = jnp.swapaxes(matrix, -2, -1) if rows > columns else matrix
    x = x / (jnp.sqrt(jnp.sum(jnp.square(x), axis=(-2, -1), keepdims=True)) + EPSILON)
    for _ in range(steps):
        gram = x @ jnp.swapaxes(x, -2, -1)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return jnp.swapaxes(x, -2, -1) if rows > columns else x
