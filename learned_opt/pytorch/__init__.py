"""Learned optimizers for PyTorch, where ``torch.optim.Adam(model.parameters())`` stood:

    from learned_opt.pytorch import LearnedOptimizer
    optimizer = LearnedOptimizer(model.parameters(), "fashion_mlp")

The rules and their weights are those of `learned_opt.load`, of which every tensor is updated on its
own; a step is PyTorch throughout. It needs the extra ``[torch]``.

A weight is not laid out alike in the two worlds: [out, in, *kernel] in ``torch.nn``, [*kernel, in,
out] in JAX, where the optimizers were meta-trained. See `LearnedOptimizer` for what that means, and
its argument ``layout``.
"""

try:
    from learned_opt.pytorch.errors import LearnedOptimizerError
    from learned_opt.pytorch.optimizer import LearnedOptimizer
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ImportError(
        "`learned_opt.pytorch` needs PyTorch, which is not installed: install the extra `[torch]` "
        "of this package, learned-opt[torch]"
    ) from error

__all__ = ["LearnedOptimizer", "LearnedOptimizerError"]
