"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017) from its four original IDX files.

The files are looked for in the user's data folder, then in the Keras cache, and are downloaded into
that cache otherwise. Their checksums are pinned, because a silently different file would make every
comparison with a published figure worthless.
"""

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np

from refit.data.arrays import Decoded, Description, Part, merge_pairs
from refit.data.folders import candidates, download, keras_cache
from refit.errors import DataError

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"

# MD5 of the files as Zalando Research publishes them: training images and labels, then test.
CHECKSUMS = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
SIDE = 28
CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
STAND_IN = (
    "Fashion-MNIST with label // 2 as five classes of equal size stands in for the course's data, "
    "because the course's own five labels are not public."
)


def fingerprint(data_dir: Path | None) -> str:
    """The same for everybody: only files with the pinned checksums are accepted."""
    return hashlib.sha256("".join(CHECKSUMS.values()).encode()).hexdigest()[:12]


def read(data_dir: Path | None) -> Decoded:
    """Read 60,000 training and 10,000 test images, 28x28 grey, ten classes.

    Raises DataError naming the file that is missing, damaged or not the published one.
    """
    folder, place = _find(data_dir)
    train_images, train_labels, test_images, test_labels = (folder / name for name in CHECKSUMS)
    return Decoded(
        learning=_read_part(train_images, train_labels),
        test=_read_part(test_images, test_labels),
        description=Description(
            class_names=CLASS_NAMES,
            source=f"Fashion-MNIST (Zalando Research): the four IDX files from {place}, "
            f"MD5 verified (training images {CHECKSUMS[train_images.name]}).",
        ),
    )


def read_pairs(data_dir: Path | None) -> Decoded:
    """Read Fashion-MNIST with neighbouring labels merged into five classes of equal size."""
    return merge_pairs(read(data_dir), STAND_IN)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read one gzipped IDX file of unsigned bytes with the given number of dimensions.

    Raises DataError naming the file where its checksum, compression, magic number or size is wrong.
    """
    try:
        compressed = path.read_bytes()
        checksum = hashlib.md5(compressed, usedforsecurity=False).hexdigest()
        if checksum != CHECKSUMS[path.name]:
            raise DataError(
                f"{path}: its MD5 checksum is {checksum} and should be {CHECKSUMS[path.name]}; "
                "delete the file or replace it by the published one."
            )
        content = gzip.decompress(compressed)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be read as a gzip file ({error}); it may be truncated, replace it."
        ) from error
    header = content[: 4 * (1 + dimensions)]
    # IDX: two zero bytes, type 8 for unsigned bytes, the number of dimensions, then each length.
    magic = bytes((0, 0, 8, dimensions))
    if len(header) < 4 * (1 + dimensions) or header[:4] != magic:
        raise DataError(
            f"{path}: starts with the magic number {header[:4].hex()!r} and should start with "
            f"{magic.hex()!r}, an IDX file with {dimensions} dimension(s)."
        )
    shape = tuple(int(length) for length in np.frombuffer(header, ">u4", offset=4))
    values = len(content) - len(header)
    if values != int(np.prod(shape, dtype=object)):
        raise DataError(
            f"{path}: its header announces {' x '.join(map(str, shape))} values, "
            f"but {values} follow."
        )
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)


def _read_part(images_path: Path, labels_path: Path) -> Part:
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if images.shape[1:] != (SIDE, SIDE):
        raise DataError(
            f"{images_path}: images are {images.shape[1]}x{images.shape[2]} and should be "
            f"{SIDE}x{SIDE}."
        )
    if len(images) != len(labels) or not len(images):
        raise DataError(
            f"{labels_path}: {len(labels)} labels for the {len(images)} images of "
            f"{images_path.name}; there should be one label for each of at least one image."
        )
    if labels.max() >= len(CLASS_NAMES):
        position = int(np.argmax(labels >= len(CLASS_NAMES)))
        raise DataError(
            f"{labels_path}: label {labels[position]} at position {position} should be "
            f"0 to {len(CLASS_NAMES) - 1}."
        )
    return Part(images[..., np.newaxis], labels.astype(np.int32), np.arange(len(labels)))


def _find(data_dir: Path | None) -> tuple[Path, str]:
    """The folder of the four files and, for people, which one it is; downloads as a last resort."""
    for folder in candidates(data_dir, "fashion-mnist", "fashion_mnist"):
        missing = [name for name in CHECKSUMS if not (folder / name).is_file()]
        if not missing:
            return folder, "the user's data folder"
        if len(missing) < len(CHECKSUMS):
            raise DataError(
                f"{folder}: holds only a part of Fashion-MNIST, {', '.join(missing)} missing."
            )
    cache = keras_cache() / "fashion-mnist"
    for name, checksum in CHECKSUMS.items():
        if not (cache / name).is_file():
            download(URL, name, f"md5:{checksum}", cache, "Fashion-MNIST")
    return cache, "the Keras cache"
