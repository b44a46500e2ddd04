"""The outer optimizer, which updates θ."""

import optax

from meta_train.config import MetaTrainConfig


def outer_optimizer(config: MetaTrainConfig) -> optax.GradientTransformation:
    """Adam on the clipped meta-gradient; linear warm-up, then cosine decay."""
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=config.warmup,
        decay_steps=config.updates,
        end_value=config.learning_rate * config.learning_rate_end,
    )
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), optax.adam(schedule))
