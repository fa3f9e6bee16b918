"""The two shapes in which data travel: as decoded from a source, and as handed to a training.

Sources differ only in how they fill `Decoded`; splitting, resizing and caching are common to all.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Clips:
    """Clips that a source leaves in their files, because together they are too large for memory.

    entries: what the source needs to find each of them; decode: a function of entries, frames per
    clip, side and resampling that yields uint8 (frames, side, side, 3), one clip at a time.
    """

    entries: Sequence[Any]
    decode: Callable[[Sequence[Any], int, int, str], Iterator[np.ndarray]]


@dataclass(frozen=True)
class Part:
    """Images with their labels, in the order in which they are used.

    images: uint8 (n, height, width, channels), 0 to 255, or of clips (n, frames, height, width, 3),
    which are `Clips` until they have been decoded; labels: int32 (n,), None when unlabelled; ids:
    int64 (n,), the id column of a table or else the position in the source file.
    """

    images: np.ndarray | Clips
    labels: np.ndarray | None
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, selection: slice | np.ndarray) -> "Part":
        """Select images: a view for a slice, a copy for an array of positions."""
        labels = None if self.labels is None else self.labels[selection]
        return Part(self.images[selection], labels, self.ids[selection])


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a page says about its data.

    source: one sentence naming the files and their checksum; stand_in: empty, or one sentence
    saying what it stands in for and why; embedded: true when it comes with an installed package.
    """

    class_names: tuple[str, ...]
    source: str
    stand_in: str = ""
    embedded: bool = False


@dataclass(frozen=True, kw_only=True)
class Decoded(Description):
    """A data set as its source delivers it: not split, in its original size."""

    learning: Part
    test: Part


@dataclass(frozen=True, kw_only=True)
class Dataset(Description):
    """A data set ready for training.

    The arrays are read-only memory maps shared by all trials, or copies where only some of the
    classes were chosen. content: the SHA-256 of all that was decoded; empty in an older cache.
    """

    train: Part
    validation: Part
    test: Part
    content: str = ""

    def tell(self, predicted: np.ndarray) -> dict[str, np.ndarray]:
        """Columns with a row per test image: image, label, if it has one, and prediction, the class
        of number `predicted`, in words."""
        names, labels = np.array(self.class_names), self.test.labels
        label = {} if labels is None else {"label": names[labels]}
        return {"image": self.test.ids} | label | {"prediction": names[predicted]}


def merge_pairs(decoded: Decoded, stand_in: str) -> Decoded:
    """Halve the number of classes by label // 2; balanced classes stay balanced."""
    names = decoded.class_names
    return replace(
        decoded,
        learning=replace(decoded.learning, labels=decoded.learning.labels // 2),
        test=replace(decoded.test, labels=decoded.test.labels // 2),
        class_names=tuple(map(" or ".join, zip(names[::2], names[1::2], strict=True))),
        stand_in=stand_in,
    )


def resize(images: np.ndarray, side: int, resampling: str) -> np.ndarray:
    """Resize uint8 images (n, height, width, 1 or 3) to (n, side, side, channels).

    Works on 0 to 255 like Keras's array_to_img(scale=False), which the reports resize with:
    resizing after a division by 255 would round every pixel to 0 or 1.
    """
    if images.shape[1:3] == (side, side):
        return images
    method = Image.Resampling[resampling.upper()]
    resized = np.empty((len(images), side, side, images.shape[3]), np.uint8)
    for image, target in zip(images, resized, strict=True):
        # Pillow knows a grey image only without its channel axis.
        picture = Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image)
        target[...] = np.asarray(picture.resize((side, side), method)).reshape(target.shape)
    return resized
