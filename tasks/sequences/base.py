"""What problems of sequences share."""

from tasks.architectures import ModelName
from tasks.base import TaskMetadata
from tasks.text.architectures import SequenceModel, hidden_widths

BATCH_SIZE = 32
HORIZON = 200


def sequence_metadata(
    model: ModelName, made: SequenceModel, length: int, initial_loss: float
) -> TaskMetadata:
    """Of a problem on sequences of ``length`` places."""
    return TaskMetadata(
        domain="synthetic sequences",
        architecture=model.architecture,
        activation=made.activation,
        data=f"synthetic, {length} places",
        widths=hidden_widths(model),
        batch_size=BATCH_SIZE,
        horizon=HORIZON,
        initial_loss=initial_loss,
    )
