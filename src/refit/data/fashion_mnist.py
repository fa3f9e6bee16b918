"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017), and the five classes that a course made of it.

The four original IDX files are looked for in the user's data folder, packed or not, or the two
tables into which Kaggle made them, then the files in the Keras cache, into which they are
downloaded otherwise. Their checksums are pinned, because a silently different file would make every
comparison with a published figure worthless; the tables are put into the published order for it.

The course competition ece657a-w20-asg3-part2 has two tables, for users who have them. They were
made by hand or by script more than once on their way to a user, so every cell is checked.
"""

import gzip
import hashlib
import warnings
from pathlib import Path

import numpy as np

from refit.data import gesture
from refit.data.arrays import Decoded, Part, merge_pairs
from refit.data.folders import candidates, content, download, is_there, keras_cache, whole
from refit.errors import DataError

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
# MD5 of the files as Zalando Research publishes them, packed by gzip: training images and labels,
# then test; and of what they hold.
PACKED = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
UNPACKED = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
KAGGLE = ("fashion-mnist_train.csv", "fashion-mnist_test.csv")
# Kaggle's tables have another order. Of each, sorted by label and pixels, the published positions.
ORDER = Path(__file__).with_name("fashion_mnist_order.npz")
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
    return hashlib.sha256("".join(PACKED.values()).encode()).hexdigest()[:12]


def read(data_dir: Path | None) -> Decoded:
    """Read 60,000 training and 10,000 test images, 28x28 grey, ten classes.

    Raises DataError naming the file that is missing, damaged or not the published one.
    """
    cache = keras_cache() / "fashion-mnist"
    paths = _local(data_dir) or [
        download(URL, name, f"md5:{checksum}", cache, "Fashion-MNIST")
        for name, checksum in PACKED.items()
    ]
    place = "the Keras cache" if paths[0].parent == cache else "the user's data folder"
    if paths[0].name in KAGGLE:
        kind, parts = "Kaggle's two tables", [_read_kaggle(path) for path in paths]
    else:
        kind, parts = "the four IDX files", [_read_part(*paths[:2]), _read_part(*paths[2:])]
    return Decoded(
        learning=parts[0],
        test=parts[1],
        class_names=CLASS_NAMES,
        source=f"Fashion-MNIST (Zalando Research): {kind} from {place}, "
        f"MD5 verified (training images {next(iter(PACKED.values()))}).",
    )


def read_pairs(data_dir: Path | None) -> Decoded:
    """Read Fashion-MNIST with neighbouring labels merged into five classes of equal size."""
    return merge_pairs(read(data_dir), STAND_IN)


def is_here(data_dir: Path | None) -> bool:
    """Whether the data are in the data folder or in Keras's cache."""
    return bool(_local(data_dir))


def _local(data_dir: Path | None) -> list[Path]:
    """The four files, packed or not, or Kaggle's two; none where a download is needed."""
    for folder in candidates(data_dir, "fashion-mnist", "fashion_mnist"):
        names = [name if is_there(folder / name) else f"{name}.gz" for name in UNPACKED]
        found = whole(folder, names, "Fashion-MNIST")
        if found := found or whole(folder, KAGGLE, "Kaggle's Fashion-MNIST"):
            return found
    # Of what an interrupted download left in the cache, the rest is downloaded.
    cached = [keras_cache() / "fashion-mnist" / name for name in PACKED]
    return cached if all(map(is_there, cached)) else []


def _read_part(images: Path, labels: Path) -> Part:
    pixels = np.frombuffer(_published(images), np.uint8, offset=IMAGES_HEADER)
    classes = np.frombuffer(_published(labels), np.uint8, offset=LABELS_HEADER)
    ids = np.arange(len(classes))
    return Part(pixels.reshape(-1, SIDE, SIDE, 1), classes.astype(np.int32), ids)


def _published(path: Path) -> bytes:
    """The unpacked content of a file. Raises DataError where it is not the published one."""
    found, expected = content(path), (PACKED | UNPACKED)[path.name]
    checksum = _md5(found)
    if checksum != expected:
        raise DataError(
            f"{path}: its MD5 checksum is {checksum} and should be {expected}; delete the file or "
            "replace it by the published one."
        )
    return gzip.decompress(found) if path.name in PACKED else found


def _read_kaggle(path: Path) -> Part:
    """A table of Kaggle's, label and pixels, in the order of the published files."""
    test = KAGGLE.index(path.name)
    with np.load(ORDER, allow_pickle=False) as orders:
        order = orders["test" if test else "train"]
    table = _read_table(path, ["label"], len(CLASS_NAMES))
    rows = np.column_stack([table.labels.astype(np.uint8), table.images.reshape(-1, PIXELS)])
    published = np.zeros((len(order), 1 + PIXELS), np.uint8)
    if len(rows) == len(order):
        published[order] = rows[sorted(range(len(rows)), key=lambda row: rows[row].tobytes())]
    images, labels = published[:, 1:].reshape(-1, SIDE, SIDE), published[:, 0]
    sums = [
        _md5(np.array([0x800 + part.ndim, *part.shape], ">u4").tobytes() + part.tobytes())
        for part in (images, labels)
    ]
    if sums != list(UNPACKED.values())[2 * test :][:2]:
        raise DataError(
            f"{path}: does not hold the {len(order):,} published images; replace it by Kaggle's."
        )
    return Part(images[..., None], labels.astype(np.int32), np.arange(len(order)))


def find_course(data_dir: Path | None) -> list[Path]:
    """The course's tables in the first folder that holds them, none where there is none at all.

    Raises DataError where only one of the two is there, or where data_dir is not a folder.
    """
    own = gesture.find(data_dir)  # has a train.csv of another kind
    folders = (folder for folder in candidates(data_dir, *COURSE_FOLDERS) if folder != own)
    found = (whole(folder, COURSE_FILES, "the course's tables") for folder in folders)
    return next(filter(None, found), [])


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
        learning=_read_table(train, ["id", "Label"], COURSE_CLASSES),
        test=_read_table(test, ["id"], COURSE_CLASSES),
        class_names=tuple(f"label {label}" for label in range(COURSE_CLASSES)),
        source="The course competition's tables from the user's data folder: "
        f"train.csv (SHA-256 {_sha256(train)[:12]}) and testX.csv, which has no labels "
        f"(SHA-256 {_sha256(test)[:12]}).",
    )


def _course_paths(data_dir: Path | None) -> list[Path]:
    if found := find_course(data_dir):
        return found
    raise DataError(
        f"The course's {' and '.join(COURSE_FILES)} were not found in "
        f"{data_dir or 'DATA_DIR, which is not set'}: put both into the folder that DATA_DIR "
        f"names or into its folder {' or '.join(COURSE_FOLDERS)}, or use fashion_mnist_pairs."
    )


def _read_table(path: Path, names: list[str], classes: int) -> Part:
    """Read one table: the columns of these names, then 784 pixels from 0 to 255."""
    columns = [(name, np.int64) for name in names] + [("pixels", np.uint8, (PIXELS,))]
    expected, label = f"{', '.join(names)} and {PIXELS} pixels of 0 to 255", names[-1]
    expected += ", each id once" * ("id" in names)
    expected += f", and a {label} of 0 to {classes - 1}" * (label != "id")
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = [cell.strip(' "\n') for cell in file.readline().split(",")]
        if header[: len(names)] != names:
            raise ValueError(f"it begins with {', '.join(header[:2])[:40]}")
        with warnings.catch_warnings(action="error"):  # NumPy's, of empty tables and broken numbers
            table = np.loadtxt(
                path, columns, delimiter=",", quotechar='"', comments=None, skiprows=1,
                encoding="utf-8-sig", ndmin=1,
            )  # fmt: skip
        ids = table["id"] if "id" in names else np.arange(len(table))
        distinct, counts = np.unique(ids, return_counts=True)
        if counts.max() > 1:
            raise ValueError(f"the id {distinct[counts.argmax()]} stands more than once")
        labels = table[label] if label != "id" else None
        if labels is not None:
            wrong = np.flatnonzero((labels < 0) | (labels >= classes))
            if len(wrong):
                raise ValueError(f"the {label} {labels[wrong[0]]} at row {wrong[0]}")
            labels = labels.astype(np.int32)
    except (OSError, ValueError, Warning) as error:
        raise DataError(
            f"{path}: cannot be read as a table ({str(error).split('; ')[0].rstrip('.')}, where "
            f"rows count from 0 below the header); expected the columns {expected}."
        ) from error
    return Part(table["pixels"].reshape(-1, SIDE, SIDE, 1), labels, ids)


def _md5(found: bytes) -> str:
    return hashlib.md5(found, usedforsecurity=False).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(content(path)).hexdigest()
