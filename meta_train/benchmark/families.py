"""Thirty families of different models and sizes, to measure runs on many tasks with."""

_MODELS = (
    "softmax", "mlp8", "mlp16", "mlp24", "mlp32", "mlp48", "mlp64", "mlp96", "mlp128",
    "mlp16x16", "mlp32x16", "mlp32x32", "mlp64x32", "mlp16x16x16", "mlp32x32x32",
    "mlp16_tanh", "mlp32_tanh", "mlp32x32_tanh", "mlp32x32x32_tanh", "mlp32_gelu", "mlp32_silu",
    "mlp16_varied", "mlp32_varied", "conv8x16", "conv16x32", "autoencoder16x8x16",
    "autoencoder32x8x32",
)  # fmt: skip
THIRTY = (
    *(f"fashion_mnist_8x8_{model}" for model in _MODELS),
    "quadratic8", "quadratic32", "quadratic64",
)  # fmt: skip
