"""Families by name.

The fixed tasks and the parametric families of `tasks.catalogue` go by their names, a member of
such a family by ``FAMILY.INDEX``; other names are made of parts, by the grammars there:

    DATASET_RxR_MODEL  a TFDS image set, a resolution, a model of `tasks.images.architectures`
        softmax                      softmax regression
        mlp32, mlp32x32_tanh         hidden widths, activation (relu where none is named)
        mlp32_varied                 activation and initial scale drawn for every task
        conv16x32                    channels of 3×3 convolutions of stride 2
        autoencoder32x8x32           hidden widths
    DATASET_bytesL_MODEL, DATASET_wordsL_MODEL
                       a TFDS set of texts, the length of a sequence, a model of
                       `tasks.text.architectures`
        rnn64, gru32, lstm32x32      widths of cells, one above the other
        transformer32x2              width, and the number of blocks
        conv32x32                    channels of causal convolutions
    quadraticD         quadratics of dimension D

Augmentations follow a name, each after a plus sign: see `tasks.augmentations`.
"""

import difflib
import re

from tasks.augmentations import augment, split_name
from tasks.base import TaskFamily
from tasks.catalogue import grammars, parametric_families, rows
from tasks.data.stream import StreamError

_MEMBER = re.compile(r"(?P<family>\w+)\.(?P<index>\d+)")


class UnknownTaskError(ValueError):
    """No family has this name."""

    def __init__(self, name: str):
        near = difflib.get_close_matches(name, [*rows(), *parametric_families()], n=3, cutoff=0.5)
        nearest = f"; near it are {', '.join(near)}" if near else ""
        super().__init__(
            f"unknown task {name!r}{nearest}; `python -m tasks list` has all of them; "
            + "; ".join(grammar.form() for grammar in grammars())
            + "; any may be followed by augmentations"
        )


def offline_tasks() -> tuple[str, ...]:
    """The fixed tasks that need no network and no prepared data set."""
    return tuple(name for name, row in rows().items() if row.offline)


def get_family(name: str, *, download: bool = False, batch_size: int | None = None) -> TaskFamily:
    """The family of this name; a TFDS set is read, or it is said why it cannot be.

    Args:
      name: see the top of this file.
      download: prepare a TFDS set that is not there.
      batch_size: examples of a minibatch, in place of the family's own.

    Raises:
      UnknownTaskError: there is no such task.
      AugmentationError: an augmentation is unknown or cannot be made.
      ValueError: the family has no minibatches of examples, or the size is below 1.
      DataUnavailableError: its TFDS set cannot be read here.
    """
    name, augmentations = split_name(name)
    family = _plain_family(name, download, batch_size)
    for augmentation in augmentations:
        family = augment(family, augmentation)
    return family


def get_streamed_family(name: str, *, rows: int, seed: int, download: bool = False) -> TaskFamily:
    """The family of this name whose train split is a pool of ``rows`` images at a time.

    ``TaskFamily.pool`` has the others, in an order by ``seed``: see `tasks.data.stream`.

    Raises:
      StreamError: its data are no TFDS image set, an augmentation changes them as they are read,
        or there are fewer rows to train on.
      AugmentationError: as of `get_family`.
      DataUnavailableError: its TFDS set cannot be read here.
    """
    from tasks.images.names import streamed_image_family  # here, for it needs the models

    check_streamed(name)
    base, augmentations = split_name(name)
    plain = streamed_image_family(base, rows=rows, seed=seed, download=download)
    assert plain is not None
    family = plain
    for augmentation in augmentations:
        family = augment(family, augmentation)
        if family.load is not plain.load:
            raise StreamError(
                f"the augmentation {augmentation!r} of {name!r} changes data as they are read, and "
                "a streamed set is never read whole; leave it out"
            )
    return family


def check_streamed(name: str) -> None:
    """Raise StreamError for a task that has no TFDS image set to stream; nothing is read."""
    from tasks.images.names import set_and_resolution

    if set_and_resolution(split_name(name)[0]) is None:
        raise StreamError(
            f"the task {name!r} has no TFDS image set to stream; only tasks named "
            "DATASET_RxR_MODEL have"
        )


def _plain_family(name: str, download: bool, batch_size: int | None) -> TaskFamily:
    """The family of a name without augmentations."""
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"`batch_size`={batch_size}: must be at least 1")
    made = grammars()
    for grammar in made:
        if (batch_size is None or grammar.sized) and (
            family := grammar.family(name, download, batch_size)
        ):
            return family
    family = _listed_family(name) or next(
        (found for grammar in made if (found := grammar.family(name, False, None))), None
    )
    if family is None:
        raise UnknownTaskError(name)
    if batch_size is not None:
        raise ValueError(
            f"`batch_size`={batch_size}: only tasks named by their data set take another "
            f"minibatch, not {name!r}; leave it out, or ask for less by the augmentation "
            "`+batch:N`"
        )
    return family


def _listed_family(name: str) -> TaskFamily | None:
    if row := rows().get(name):
        return row.make()
    match = _MEMBER.fullmatch(name)
    family_name, index = (match["family"], int(match["index"])) if match else (name, 0)
    parametric = parametric_families().get(family_name)
    if parametric is None or index >= len(parametric.shapes):
        return None
    return parametric.member(index)._replace(name=name)
