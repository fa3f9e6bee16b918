"""CIFAR-10 in every packing that a user may have, and the coloured digits that take its place."""

import functools
import hashlib
import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refit.data import cifar10, sets
from refit.data.arrays import Dataset
from refit.data.spec import DataSpec
from refit.errors import DataError

COUNTS = {"train": 4, "test": 2}  # images of each class
CLASSES = len(cifar10.CLASS_NAMES)
BATCHES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}


@pytest.fixture(autouse=True)
def no_outside(tmp_path, monkeypatch):
    """No test sees this machine's Keras cache or the network."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(cifar10, "URL", "http://127.0.0.1:9/")


@functools.cache
def arrays(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Random images, class by class, and their labels."""
    labels = np.repeat(np.arange(CLASSES), COUNTS[part])
    random = np.random.default_rng(COUNTS[part])
    return random.integers(0, 256, (len(labels), 32, 32, 3), np.uint8), labels


@functools.cache
def image_files() -> dict[str, bytes]:
    """Both parts as image files, one folder per class."""
    files = {}
    for part in COUNTS:
        for number, (image, label) in enumerate(zip(*arrays(part), strict=True)):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            name = f"{part}/{cifar10.CLASS_NAMES[label]}/{number:04d}.png"
            files[name] = buffer.getvalue()
    return files


def unpack(place: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)


def archive(place: Path, files: dict[str, bytes], prefix: str = "", parts=tuple(COUNTS)) -> None:
    """`train.zip` and `test.zip`."""
    place.mkdir(exist_ok=True)
    for part in parts:
        with zipfile.ZipFile(place / f"{part}.zip", "w") as packed:
            for name, content in files.items():
                if name.startswith(f"{part}/"):
                    packed.writestr(prefix + name, content)


def half_and_half(place: Path, files: dict[str, bytes]) -> None:
    archive(place, files, parts=("train",))
    unpack(place, {name: files[name] for name in files if name.startswith("test/")})


PACKINGS = {
    "folders": unpack,
    "archives": archive,
    "archives one folder deeper": functools.partial(archive, prefix="cifar10/"),
    "archive and folder": half_and_half,
}


def load(folder: Path | None, **declared) -> Dataset:
    cache = Path(os.environ["KERAS_HOME"]).parent / "cache"
    settings = {"name": "cifar10", "image_size": 32, "validation": "test"} | declared
    return sets.load(DataSpec(**settings), folder, cache)


def fingerprint(folder: Path | None) -> str:
    return sets.resolve(DataSpec(name="cifar10"), folder).fingerprint


# --- image files -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packing", "place"), list(zip(PACKINGS, (".", *cifar10.FOLDERS), strict=True))
)
def test_images_arrive_with_their_labels_however_they_are_packed(folder, packing, place):
    PACKINGS[packing](folder / place, image_files())
    dataset = load(folder)
    for part, found in (("train", dataset.train), ("test", dataset.test)):
        images, labels = arrays(part)
        assert sorted(found.ids) == list(range(len(labels)))
        np.testing.assert_array_equal(found.images, images[found.ids])
        np.testing.assert_array_equal(found.labels, labels[found.ids])
    assert (dataset.train.images.dtype, dataset.train.labels.dtype) == (np.uint8, np.int32)
    assert dataset.class_names == cifar10.CLASS_NAMES
    assert "40 and 20 image files" in dataset.source
    assert (dataset.stand_in, dataset.embedded) == ("", False)


def test_order_is_fixed_and_mixes_the_classes(folder, tmp_path):
    orders = set()
    for number, packing in enumerate(PACKINGS):
        place = tmp_path / str(number)
        PACKINGS[packing](place, dict(sorted(image_files().items(), reverse=number % 2 == 1)))
        orders.add(tuple(load(place).train.ids))
    assert len(orders) == 1
    unpack(folder, image_files())
    first = load(folder, train_images=10, test_images=10)
    assert all(len(set(part.labels.tolist())) >= 5 for part in (first.train, first.test))


@pytest.mark.parametrize("part", COUNTS)
def test_one_part_alone_is_refused(folder, part):
    archive(folder, image_files(), parts=(part,))
    for ask in (load, fingerprint):
        with pytest.raises(DataError, match=f"has only the {part} images of CIFAR-10; train and"):
            ask(folder)


def test_an_archive_of_other_images_is_not_taken_for_a_part(folder):
    picture = next(iter(image_files().values()))
    archive(folder, {"train/cat.0.jpg": picture, "train/dog.0.jpg": picture}, parts=("train",))
    assert fingerprint(folder) == fingerprint(None)


def renamed(old: str, new: str) -> dict[str, bytes]:
    """The files with a part of their names replaced."""
    return {name.replace(old, new): content for name, content in image_files().items()}


TRUCK = "test/truck/0018.png"
SMALL = io.BytesIO()
Image.new("RGB", (31, 32)).save(SMALL, "PNG")

# The files, and what the error says.
WRONG = {
    "a class of another name": (renamed("truck", "lorry"), r"horse, lorry, ship; CIFAR-10 has"),
    "a class less": (
        {name: content for name, content in image_files().items() if "/cat/" not in name},
        r"bird, deer, .*; CIFAR-10 has .*cat",
    ),
    "an image of another size": (
        image_files() | {TRUCK: SMALL.getvalue()}, r"truck/0018\.png: is 31x32 .* be 32x32",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_not_cifar10_is_refused(folder, kind):
    files, message = WRONG[kind]
    half_and_half(folder, files)
    with pytest.raises(DataError, match=message):
        load(folder)


# --- the official archive --------------------------------------------------------------------


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def batches() -> dict[str, dict]:
    """The members of the official archive, six images in each: planes of red, green, blue."""
    parts = arrays("train"), arrays("test")
    images, labels = (np.concatenate(both) for both in zip(*parts, strict=True))
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    names = [*BATCHES["train"], *BATCHES["test"]]
    rows = np.random.default_rng(0).permutation(len(images))[:36].reshape(6, 6)
    return {
        name: {b"data": planes[chosen], b"labels": labels[chosen].tolist()}
        for name, chosen in zip(names, rows, strict=True)
    }


def official(place: Path, members: dict) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(place, "w:gz") as packed:
        for name, content in members.items():
            pickled = pickle.dumps(content, protocol=2)
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(pickled)
            packed.addfile(info, io.BytesIO(pickled))
    return place


def pin(path: Path, monkeypatch) -> None:
    """Accept the archive as it is now, as the official one is accepted."""
    monkeypatch.setattr(cifar10, "CHECKSUM", hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize(
    "name",
    ["data/cifar-10-python.tar.gz", "data/cifar-10/cifar-10-python.tar.gz",
     "keras/datasets/cifar-10-batches-py.tar.gz",
     "keras/datasets/cifar-10-batches-py-target_archive"],
)  # fmt: skip
def test_official_archive_is_read_with_its_channels_in_order(folder, tmp_path, monkeypatch, name):
    members = batches()
    pin(official(tmp_path / name, members), monkeypatch)
    dataset = load(folder)
    for part, found in (("train", dataset.train), ("test", dataset.test)):
        chosen = [members[batch] for batch in BATCHES[part]]
        planes = np.concatenate([batch[b"data"] for batch in chosen]).reshape(-1, 3, 32, 32)
        for channel in range(3):
            np.testing.assert_array_equal(found.images[..., channel], planes[:, channel])
        labels = np.concatenate([batch[b"labels"] for batch in chosen])
        np.testing.assert_array_equal(found.labels, labels)
        assert found.ids.tolist() == list(range(len(planes)))
    assert (len(dataset.train), len(dataset.test)) == (30, 6)
    assert (dataset.train.images.dtype, dataset.train.labels.dtype) == (np.uint8, np.int32)
    assert "official archive" in dataset.source
    assert fingerprint(folder) == fingerprint(None) == cifar10.CHECKSUM[:12]


def test_archive_of_another_checksum_is_never_unpickled(folder, tmp_path):
    trap = Trap(tmp_path / "made by the pickle")
    path = official(folder / cifar10.ARCHIVE, dict.fromkeys(batches(), trap))
    with pytest.raises(DataError, match=rf"{path}: its SHA-256 checksum is .* should be 6d958be0"):
        load(folder)
    assert not trap.path.exists()
    pickle.loads(pickle.dumps(trap))  # noqa: S301 - shows that it would have been made
    assert trap.path.exists()


def test_image_files_are_preferred_to_the_archive(folder, monkeypatch):
    pin(official(folder / cifar10.ARCHIVE, batches()), monkeypatch)
    unpack(folder, image_files())
    assert "image files" in load(folder).source


# --- coloured digits -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coloured(tmp_path_factory) -> list[Dataset]:
    """The coloured digits, and the plain ones."""
    specs = [DataSpec(name=name, image_size=32) for name in ("digits_colour", "digits")]
    return [sets.load(spec, None, tmp_path_factory.mktemp("cache")) for spec in specs]


def test_coloured_digits_are_the_digits_in_the_shape_of_cifar10(coloured):
    colour, plain = coloured
    for part, count in (("train", 1200), ("validation", 300), ("test", 297)):
        found, digits = getattr(colour, part), getattr(plain, part)
        assert (found.images.shape, found.images.dtype) == ((count, 32, 32, 3), np.uint8)
        np.testing.assert_array_equal(found.labels, digits.labels)
        np.testing.assert_array_equal(found.ids, digits.ids)
    assert colour.class_names == plain.class_names
    assert colour.embedded
    assert colour.stand_in
    assert "photographs" in colour.source


def test_coloured_digits_never_change(coloured):
    """Each over a patch of a photograph, in a colour of its own."""
    content = hashlib.sha256(coloured[0].train.images.tobytes())
    assert content.hexdigest()[:12] == "2e56b7073ed3"
