"""What problems of sets and graphs share."""

from tasks.architectures import ModelName
from tasks.base import TaskMetadata

BATCH_SIZE = 32
HORIZON = 200


def unordered_metadata(model: ModelName, data: str, initial_loss: float) -> TaskMetadata:
    """Of a problem on ``data``."""
    return TaskMetadata(
        domain="sets and graphs",
        architecture=model.architecture,
        activation="relu",
        data=f"synthetic, {data}",
        widths=model.widths,
        batch_size=BATCH_SIZE,
        horizon=HORIZON,
        initial_loss=initial_loss,
    )
