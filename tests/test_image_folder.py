"""Images in a folder per class: the same from a folder and from an archive, and never half read."""

import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refit.data import images
from refit.errors import DataError

SHAPE = (4, 6, 3)
PIXELS = np.random.default_rng(0).integers(0, 256, (4, *SHAPE), np.uint8)


def picture(pixels: np.ndarray, form: str = "PNG", mode: str | None = None) -> bytes:
    buffer = BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, form)
    return buffer.getvalue()


# In an order that is not that of the class and the name.
FILES = {
    "train/dog/a.png": picture(PIXELS[2]),
    "train/cat/b.png": picture(PIXELS[1]),
    "train/dog/c.BMP": picture(PIXELS[3], "BMP"),
    "train/cat/a.png": picture(PIXELS[0]),
}


def store(place: Path, files: dict[str, bytes], prefix: str = "", **options) -> Path:
    """The files in a zip archive, or below a folder where the name does not end in `.zip`."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.suffix != ".zip":
        for name, content in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
        return place
    with zipfile.ZipFile(place, "w", **options) as archive:
        for name, content in files.items():
            archive.writestr(prefix + name, content)
    return place


def packed(place: Path, how: str, files: dict[str, bytes]) -> Path:
    """The files as a folder, as an archive, or as an archive with one more folder around them."""
    name = "images" if how == "folder" else "images.zip"
    return store(place / name, files, "images/" if how == "deeper" else "")


def read(root: Path, shape=SHAPE) -> tuple[np.ndarray, np.ndarray]:
    return images.read_images(images.list_images(root, "train"), shape)


both = pytest.mark.parametrize("how", ["folder", "zip"])


@pytest.mark.parametrize("how", ["folder", "zip", "deeper"])
def test_images_come_by_class_and_name(tmp_path, how):
    root = packed(tmp_path, how, FILES)
    listing = images.list_images(root, "train")
    pixels, labels = images.read_images(listing, SHAPE)
    assert listing.class_names == ("cat", "dog")
    np.testing.assert_array_equal(pixels, PIXELS)
    assert (pixels.dtype, labels.dtype, labels.tolist()) == (np.uint8, np.int32, [0, 0, 1, 1])


@both
def test_classes_may_lie_at_the_top(tmp_path, how):
    root = packed(tmp_path, how, {name.removeprefix("train/"): FILES[name] for name in FILES})
    assert images.list_images(root).class_names == ("cat", "dog")


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_every_kind_of_image_becomes_the_wanted_one(tmp_path, mode):
    grey = np.where(PIXELS[0, :, :, 0] > 127, 255, 0).astype(np.uint8)
    root = store(tmp_path, {"train/cat/a.png": picture(grey, mode=mode)})
    for channels in (3, 1):
        images, _ = read(root, (4, 6, channels))
        np.testing.assert_array_equal(images[0], np.stack([grey] * channels, axis=-1))


STRANGERS = [
    "train/cat/.a.png", "train/cat/._a.png", "train/cat/notes.txt", "train/cat/Thumbs.db",
    "train/.DS_Store", "train/a.png", "a.png", "train/cat/more/a.png", "test/bird/a.png",
    "__MACOSX/train/cat/._a.png", "__MACOSX/._train",
]  # fmt: skip


@pytest.mark.parametrize("how", ["folder", "zip", "deeper"])
def test_other_files_are_left_out(tmp_path, how):
    root = packed(tmp_path, how, FILES | dict.fromkeys(STRANGERS, b"no image"))
    listing = images.list_images(root, "train")
    assert [entry.path.split("/")[-1] for entry in listing.entries] == [
        "a.png", "b.png", "a.png", "c.BMP",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "how",
    [
        "folder",
        "zip",
    ],
)
def test_hidden_folder_is_no_class(tmp_path, how):
    root = packed(tmp_path, how, FILES | {"train/.checkpoints/a.png": FILES["train/cat/a.png"]})
    assert images.list_images(root, "train").class_names == ("cat", "dog")


@both
def test_folder_without_images_is_no_class(tmp_path, how):
    root = packed(tmp_path, how, FILES | {"train/bird/notes.txt": b"none found"})
    assert images.list_images(root, "train").class_names == ("cat", "dog")


# Another content of one image, and what the error says of it.
DAMAGES = {
    "text": (b"a picture of a cat", "is not an image that can be read"),
    "nothing": (b"", "is not an image that can be read"),
    "truncated": (FILES["train/cat/b.png"][:-40], "is not an image that can be read"),
    "only a header": (FILES["train/cat/b.png"][:33], "is not an image that can be read"),
    "larger": (picture(np.zeros((4, 7, 3), np.uint8)), "is 7x4 pixels and should be 6x4"),
    "upright": (picture(np.zeros((6, 4, 3), np.uint8)), "is 4x6 pixels and should be 6x4"),
}


@both
@pytest.mark.parametrize("damage", DAMAGES)
def test_image_that_cannot_be_used_is_named(tmp_path, how, damage):
    content, message = DAMAGES[damage]
    root = packed(tmp_path, how, FILES | {"train/cat/b.png": content})
    with pytest.raises(DataError, match=rf"images.*cat/b\.png: {message}"):
        read(root)


@pytest.mark.parametrize(
    "name",
    ["../x.png", "train/../../x.png", "train/cat/../../../x.png", "/x.png", "/train/cat/x.png",
     "..\\x.png", "train\\cat\\x.png"],
)  # fmt: skip
def test_archive_that_leads_outside_is_refused_and_nothing_is_written(tmp_path, name):
    root = store(tmp_path / "deep" / "er" / "images.zip", FILES | {name: FILES["train/cat/a.png"]})
    with pytest.raises(DataError, match=r"images\.zip: holds .*x\.png', which leads outside"):
        images.list_images(root, "train")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [root]


def test_reading_an_archive_writes_nothing(tmp_path):
    read(packed(tmp_path, "zip", FILES))
    assert [path.name for path in tmp_path.iterdir()] == ["images.zip"]


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[:-30], lambda whole: whole[:50], lambda _: b"no zip"]
)
def test_damaged_archive_is_named(tmp_path, damage):
    root = packed(tmp_path, "zip", FILES)
    root.write_bytes(damage(root.read_bytes()))
    with pytest.raises(DataError, match=r"images\.zip: cannot be read as a zip archive"):
        read(root)


@pytest.mark.parametrize(
    "method",
    [
        zipfile.ZIP_STORED,
        zipfile.ZIP_BZIP2,
        zipfile.ZIP_DEFLATED,
        zipfile.ZIP_LZMA,
    ],
)
def test_damaged_image_in_a_whole_archive_is_named(tmp_path, method):
    content = picture(np.random.default_rng(0).integers(0, 9, (40, 60, 3), np.uint8), "BMP")
    root = store(tmp_path / "images.zip", {"train/cat/a.bmp": content}, compression=method)
    whole = bytearray(root.read_bytes())
    whole[100:140] = b"\xff" * 40
    root.write_bytes(whole)
    with pytest.raises(DataError, match=r"images\.zip: cannot be read as a zip archive"):
        read(root, (40, 60, 3))


@both
@pytest.mark.parametrize("files", [{}, {"train/notes.txt": b""}, {"test/cat/a.png": b""}])
def test_where_there_are_no_images_the_error_says_what_is_expected(tmp_path, how, files):
    root = packed(tmp_path, how, files)
    with pytest.raises(DataError, match=r"images.*: holds no images below train; .* folder per"):
        images.list_images(root, "train")


CHANGES = {
    "one more": {"train/dog/d.png": FILES["train/dog/a.png"]},
    "another class": {"train/bird/a.png": FILES["train/dog/a.png"]},
    "another size": {"train/dog/a.png": FILES["train/dog/a.png"] + b" "},
}


@both
@pytest.mark.parametrize("change", CHANGES)
def test_fingerprint_follows_the_files(tmp_path, how, change):
    files = [FILES, dict(reversed(FILES.items())), FILES | CHANGES[change]]
    same, again, changed = (
        images.list_images(packed(tmp_path / str(number), how, one), "train").fingerprint()
        for number, one in enumerate(files)
    )
    assert same == again != changed


def test_archive_knows_a_change_that_leaves_the_size(tmp_path):
    prints = set()
    for number, content in enumerate((b"one", b"two")):
        root = packed(tmp_path / str(number), "zip", {"train/cat/a.png": content})
        prints.add(images.list_images(root, "train").fingerprint())
    assert len(prints) == 2
