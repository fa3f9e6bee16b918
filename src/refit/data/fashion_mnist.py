"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017), and the five classes that a course made of it.

The four original IDX files are looked for in the user's data folder, packed or not, then in the
Keras cache, and are downloaded into that cache otherwise. Their checksums are pinned, because a
silently different file would make every comparison with a published figure worthless.

The course competition ece657a-w20-asg3-part2 has two tables, for users who have them. They were
made by hand or by script more than once on their way to a user, so every cell is checked.
"""

import gzip
import hashlib
import warnings
from pathlib import Path

import numpy as np

from refit.data.arrays import Decoded, Description, Part, merge_pairs
from refit.data.folders import candidates, content, download, keras_cache
from refit.errors import DataError

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
# MD5 of the files as Zalando Research publishes them, packed by gzip, and of what they hold:
# training images and labels, then test.
CHECKSUMS = {
    "train-images-idx3-ubyte": (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    ),
    "train-labels-idx1-ubyte": (
        "25c81989df183df01b3e8a0aad5dffbe", "9018921c3c673c538a1fc5bad174d6f9",
    ),
    "t10k-images-idx3-ubyte": (
        "bef4ecab320f06d8554ea6380940ec79", "8181f5470baa50b63fa0f6fddb340f0a",
    ),
    "t10k-labels-idx1-ubyte": (
        "bb300cfdad3c16e7a12a480ee83cd310", "15d484375f8d13e6eb1aabb0c3f46965",
    ),
}  # fmt: skip
IMAGES_HEADER, LABELS_HEADER = 16, 8  # bytes before the values in an IDX file
SIDE = 28
PIXELS = SIDE * SIDE
CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
STAND_IN = (
    "Fashion-MNIST with label // 2 as five classes of equal size stands in for the course's data, "
    "because the course's own five labels are not public."
)
COURSE_FILES = ("train.csv", "testX.csv")
COURSE_FOLDERS = ("ece657a-w20-asg3-part2", "fashion-mnist-course")
COURSE_CLASSES = 5


def fingerprint(data_dir: Path | None) -> str:
    """The same for everybody: only files with the pinned checksums are accepted."""
    packed = "".join(checksum for checksum, _ in CHECKSUMS.values())
    return hashlib.sha256(packed.encode()).hexdigest()[:12]


def read(data_dir: Path | None) -> Decoded:
    """Read 60,000 training and 10,000 test images, 28x28 grey, ten classes.

    Raises DataError naming the file that is missing, damaged or not the published one.
    """
    paths, place = _find(data_dir)
    return Decoded(
        learning=_read_part(*paths[:2]),
        test=_read_part(*paths[2:]),
        description=Description(
            class_names=CLASS_NAMES,
            source=f"Fashion-MNIST (Zalando Research): the four IDX files from {place}, "
            f"MD5 verified (training images {next(iter(CHECKSUMS.values()))[0]}).",
        ),
    )


def read_pairs(data_dir: Path | None) -> Decoded:
    """Read Fashion-MNIST with neighbouring labels merged into five classes of equal size."""
    return merge_pairs(read(data_dir), STAND_IN)


def is_here(data_dir: Path | None) -> bool:
    """Whether the four files are in the data folder or in Keras's cache."""
    places = candidates(data_dir, "fashion-mnist", "fashion_mnist")
    places.append(keras_cache() / "fashion-mnist")
    return any(
        all(any((place / f"{name}{end}").is_file() for end in ("", ".gz")) for name in CHECKSUMS)
        for place in places
    )


def _find(data_dir: Path | None) -> tuple[list[Path], str]:
    """The four files and, for people, where they lie; downloads as a last resort."""
    for folder in candidates(data_dir, "fashion-mnist", "fashion_mnist"):
        found = {
            name: path
            for name in CHECKSUMS
            for path in (folder / name, folder / f"{name}.gz")
            if path.is_file()
        }
        missing = [f"{name}.gz" for name in CHECKSUMS if name not in found]
        if found and missing:
            raise DataError(
                f"{folder}: holds only a part of Fashion-MNIST, {', '.join(missing)} missing."
            )
        if found:
            return list(found.values()), "the user's data folder"
    cache = keras_cache() / "fashion-mnist"
    paths = [cache / f"{name}.gz" for name in CHECKSUMS]
    for path, (checksum, _) in zip(paths, CHECKSUMS.values(), strict=True):
        if not path.is_file():
            download(URL, path.name, f"md5:{checksum}", cache, "Fashion-MNIST")
    return paths, "the Keras cache"


def _read_part(images: Path, labels: Path) -> Part:
    pixels = np.frombuffer(_published(images), np.uint8, offset=IMAGES_HEADER)
    classes = np.frombuffer(_published(labels), np.uint8, offset=LABELS_HEADER)
    ids = np.arange(len(classes))
    return Part(pixels.reshape(-1, SIDE, SIDE, 1), classes.astype(np.int32), ids)


def _published(path: Path) -> bytes:
    """The unpacked content of a file. Raises DataError where it is not the published one."""
    found = content(path)
    is_packed = path.suffix == ".gz"
    packed, unpacked = CHECKSUMS[path.name.removesuffix(".gz")]
    expected = packed if is_packed else unpacked
    checksum = hashlib.md5(found, usedforsecurity=False).hexdigest()
    if checksum != expected:
        raise DataError(
            f"{path}: its MD5 checksum is {checksum} and should be {expected}; delete the file or "
            "replace it by the published one."
        )
    return gzip.decompress(found) if is_packed else found


def find_course(data_dir: Path | None) -> Path | None:
    """The first folder that holds both of the course's tables, None where there is none at all.

    Raises DataError where only one of the two is there, or where data_dir is not a folder.
    """
    for folder in candidates(data_dir, *COURSE_FOLDERS):
        found = [name for name in COURSE_FILES if (folder / name).is_file()]
        if len(found) == 1:
            (missing,) = set(COURSE_FILES).difference(found)
            raise DataError(f"{folder}: has {found[0]} but not {missing}; both files are needed.")
        if found:
            return folder
    return None


def course_fingerprint(data_dir: Path | None) -> str:
    """A hash of the content of both tables, so that other tables mean other trials."""
    digests = "".join(map(_sha256, _course_paths(data_dir)))
    return hashlib.sha256(digests.encode()).hexdigest()[:12]


def read_course(data_dir: Path | None) -> Decoded:
    """Read train.csv (id, Label, 784 pixels) and testX.csv (id, 784 pixels, no labels).

    Raises DataError naming the file and the first cell or row that is wrong.
    """
    train, test = _course_paths(data_dir)
    return Decoded(
        learning=_read_table(train, ["id", "Label"]),
        test=_read_table(test, ["id"]),
        description=Description(
            class_names=tuple(f"label {label}" for label in range(COURSE_CLASSES)),
            source="The course competition's tables from the user's data folder: "
            f"train.csv (SHA-256 {_sha256(train)[:12]}) and testX.csv, which has no labels "
            f"(SHA-256 {_sha256(test)[:12]}).",
        ),
    )


def _course_paths(data_dir: Path | None) -> list[Path]:
    folder = find_course(data_dir)
    if folder is None:
        raise DataError(
            f"The course's {' and '.join(COURSE_FILES)} were not found in "
            f"{data_dir or 'DATA_DIR, which is not set'}: put both into the folder that DATA_DIR "
            f"names or into its folder {' or '.join(COURSE_FOLDERS)}, or use fashion_mnist_pairs."
        )
    return [folder / name for name in COURSE_FILES]


def _read_table(path: Path, names: list[str]) -> Part:
    """Read one table: the columns of these names, then 784 pixels from 0 to 255."""
    expected = f"expected the columns {', '.join(names)} and {PIXELS} pixels of 0 to 255"
    columns = [(name, np.int64) for name in names] + [("pixels", np.uint8, (PIXELS,))]
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = [cell.strip(' "\n') for cell in file.readline().split(",")]
        if header[: len(names)] != names:
            raise DataError(f"{path}: begins with {', '.join(header[:2])[:40]}; {expected}.")
        with warnings.catch_warnings(action="error"):  # NumPy's, of empty tables and broken numbers
            table = np.loadtxt(
                path, columns, delimiter=",", quotechar='"', comments=None, skiprows=1,
                encoding="utf-8-sig", ndmin=1,
            )  # fmt: skip
    except (OSError, ValueError, Warning) as error:
        raise DataError(
            f"{path}: cannot be read as a table ({str(error).split('; ')[0].rstrip('.')}, where "
            f"rows count from 0 below the header); {expected}."
        ) from error
    ids, counts = np.unique(table["id"], return_counts=True)
    if counts.max() > 1:
        raise DataError(f"{path}: has the id {ids[counts.argmax()]} more than once.")
    labels = table["Label"] if "Label" in names else None
    if labels is not None:
        _check_labels(path, labels)
        labels = labels.astype(np.int32)
    return Part(table["pixels"].reshape(-1, SIDE, SIDE, 1), labels, table["id"])


def _check_labels(path: Path, labels: np.ndarray) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= COURSE_CLASSES))
    if len(wrong):
        raise DataError(
            f"{path}: row {wrong[0]} below the header has the Label {labels[wrong[0]]}, which "
            f"should be 0 to {COURSE_CLASSES - 1}."
        )


def _sha256(path: Path) -> str:
    return hashlib.sha256(content(path)).hexdigest()
