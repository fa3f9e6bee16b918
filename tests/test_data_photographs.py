"""Photographs in folders of classes, however they are packed, and what is refused of them."""

import io
import os
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageOps

from refit import paths
from refit.cli import main
from refit.data import arrays, cache, cifar10, images, photographs, sets
from refit.data.spec import DataSpec
from refit.errors import DataError
from refit.study import Study
from tests.data_tools import read_in_plain_locale
from tests.test_order import finish

SIDE = photographs.SIDE
# Flat colours, one for each image, so that an image is known again in every size and format.
COLOURS = {"train/cats": (20, 90, 160), "train/dogs": (40, 110), "validation/cats": (60, 130),
           "validation/dogs": (80,)}  # fmt: skip


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def flat(grey: int, size: tuple[int, int] = (20, 18), form: str = "PNG") -> bytes:
    return encoded(Image.new("RGB", size, (grey, grey, grey)), form)


FILES = {
    f"{folder}/{number}.{'jpg' if number else 'png'}": flat(
        grey, form="JPEG" if number else "PNG", size=(20 + 2 * number, 18 + 30 * number)
    )
    for folder, greys in COLOURS.items()
    for number, grey in enumerate(greys)
}
# Class folders alone: eleven cats and four dogs.
CLASSES = {f"cats/{number}.png": flat(number) for number in range(11)} | {
    f"dogs/{number}.png": flat(100 + number) for number in range(4)
}


def unpack(place: Path, files: dict[str, bytes]) -> None:
    """Write files; a name that ends in a slash is an empty folder."""
    for name, content in files.items():
        path = place / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(content)


def pack(place: Path, files: dict[str, bytes]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(place, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def deeper(files: dict[str, bytes], top: str = "pictures") -> dict[str, bytes]:
    return {f"{top}/{name}": content for name, content in files.items()}


# How the files may be packed below a name, each with one more folder around them or without.
PACKINGS = {
    "a folder": unpack,
    "a folder, deeper": lambda place, files: unpack(place, deeper(files)),
    "an archive": lambda place, files: pack(place.with_name(f"{place.name}.zip"), files),
    "an archive, deeper": lambda place, files: pack(
        place.with_name(f"{place.name}.zip"), deeper(files)
    ),
    "an archive of all that is here": lambda place, files: pack(
        place.with_name(f"{place.name}.zip"), deeper(files, ".")
    ),
    "an archive in a folder": lambda place, files: pack(place / "downloaded.zip", files),
}
packings = pytest.mark.parametrize("packing", PACKINGS)
both = pytest.mark.parametrize("packing", ["a folder", "an archive"])


def load(folder: Path | None, **declared) -> arrays.Dataset:
    settings = {"name": "photographs", "image_size": SIDE, "validation": "test"} | declared
    place = folder.parent if folder else Path(os.environ["REFIT_RUNS"])
    return sets.load(DataSpec(**settings), folder, place / "cache")


def fingerprint(folder: Path | None) -> str:
    return sets.resolve(DataSpec(name="photographs"), folder).fingerprint


def refused(folder: Path | None, message: str) -> None:
    """Both before a run, when the data set is resolved, and when it is loaded."""
    for ask in (fingerprint, load):
        with pytest.raises(DataError, match=message):
            ask(folder)


def greys(part: arrays.Part) -> list[int]:
    """The colours of flat images; JPEG may shift them by one."""
    return [round(float(image.mean())) for image in part.images]


# --- where they are --------------------------------------------------------------------------


def check_both_parts(dataset: arrays.Dataset) -> None:
    assert dataset.class_names == ("cats", "dogs")
    for found, part in ((dataset.train, "train"), (dataset.test, "validation")):
        assert sorted(greys(found)) == sorted(COLOURS[f"{part}/cats"] + COLOURS[f"{part}/dogs"])
        for grey, label in zip(greys(found), found.labels, strict=True):
            assert grey in COLOURS[f"{part}/{dataset.class_names[label]}"]
        assert found.images.shape == (len(found), SIDE, SIDE, 3)
        assert (found.images.dtype, found.labels.dtype) == (np.uint8, np.int32)
        assert sorted(found.ids) == list(range(len(found)))


@packings
@pytest.mark.parametrize("name", ["cats-and-dogs", "photographs"])
def test_photographs_arrive_with_their_labels_however_they_are_packed(folder, packing, name):
    PACKINGS[packing](folder / name, FILES)
    dataset = load(folder)
    check_both_parts(dataset)
    np.testing.assert_array_equal(dataset.validation.images, dataset.test.images)
    assert "classes (cats, dogs): 5 and 3 image files" in dataset.source
    assert "does not name its data" in dataset.stand_in
    assert not dataset.embedded


@pytest.mark.parametrize("name", photographs.VALIDATION)
def test_data_folder_itself_may_hold_both_parts(folder, name):
    unpack(folder, {key.replace("validation", name): FILES[key] for key in FILES})
    check_both_parts(load(folder))


@packings
def test_class_folders_alone_are_split_by_class(folder, packing):
    PACKINGS[packing](folder / "photographs", CLASSES)
    dataset = load(folder)
    assert dataset.class_names == ("cats", "dogs")
    assert np.bincount(dataset.train.labels).tolist() == [9, 3]
    assert np.bincount(dataset.test.labels).tolist() == [2, 1]
    everything = greys(dataset.train) + greys(dataset.test)
    assert sorted(everything) == [*range(11), *range(100, 104)]
    for part in (dataset.train, dataset.test):
        np.testing.assert_array_equal(np.array(greys(part)) >= 100, part.labels == 1)
    assert "20% of each class for testing" in dataset.source


def test_order_is_fixed_and_mixes_the_classes(folder, tmp_path):
    many = {f"train/{name}": content for name, content in CLASSES.items()}
    many |= {f"val/{name}": content for name, content in CLASSES.items()}
    unpack(folder / "photographs", many)
    pack(tmp_path / "other" / "photographs.zip", dict(reversed(many.items())))
    (first, second) = (load(place) for place in (folder, tmp_path / "other"))
    np.testing.assert_array_equal(first.train.images, second.train.images)
    np.testing.assert_array_equal(first.train.ids, second.train.ids)
    assert greys(first.train) != sorted(greys(first.train))
    assert set(load(folder, train_images=6).train.labels.tolist()) == {0, 1}


def test_validation_comes_before_test(folder):
    tests = {key.replace("validation", "test"): flat(7) for key in FILES if "validation" in key}
    unpack(folder / "photographs", FILES | tests)
    check_both_parts(load(folder))


# What else a data folder may hold: each alone must not pass for photographs.
OTHERS = {
    "nothing": {},
    "folders of pictures": CLASSES,
    "CIFAR-10": {
        f"{part}/{name}/0.png": flat(1)
        for part in ("train", "test")
        for name in cifar10.CLASS_NAMES
    },
    "clips of gestures": {f"{part}.csv": b"one;Stop;0\n" for part in ("train", "val")}
    | {f"{part}/one/{number}.png": flat(1) for part in ("train", "val") for number in range(3)},
    "a training part alone": {name: FILES[name] for name in FILES if name.startswith("train")},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_data_folder_with_other_things_is_no_set_of_photographs(folder, kind):
    unpack(folder, OTHERS[kind])
    layouts = r"a folder with cats-and-dogs, .* or photographs in it.* train and validation"
    refused(folder, rf"No photographs were found in .*data: set DATA_DIR to {layouts}")
    unpack(folder / "cats-and-dogs", FILES)
    check_both_parts(load(folder))


def test_without_a_data_folder_the_error_says_what_to_set(folder):
    refused(None, r"No photographs were found in DATA_DIR, which is not set: set DATA_DIR to")
    refused(folder / "absent", r"absent should be a folder that exists")


# --- what is refused -------------------------------------------------------------------------


def without(part: str) -> dict[str, bytes]:
    return {name: FILES[name] for name in FILES if part not in name}


# The files, and what the error says.
WRONG = {
    "no images": ({"cats/a.txt": b"", "dogs/": b""}, r"photographs.*: holds no images"),
    "no validation": (without("validation"), r"has train, but beside it none of validation, valid"),
    "an empty class": (
        FILES | {"train/birds/": b""}, r"the class folder (train/)?birds holds no images",
    ),
    "a class of other files": (
        CLASSES | {"birds/list.txt": b""}, r"class folder birds holds no images",
    ),
    "classes of one part": (
        FILES | {"validation/ants/a.png": flat(1), "train/bees/a.png": flat(1)},
        r"ants, bees has images in only one of its two parts",
    ),
    "one class": (without("dogs"), r"cats has .* is the only class; needed are at least 2"),
    "a class of one image": (
        CLASSES | {"birds/a.png": flat(1)}, r"birds has images in only one .* of at least 2 images",
    ),
    "two sets of classes": (
        deeper(CLASSES, "one") | deeper(CLASSES, "two"), r"holds class folders in several",
    ),
}  # fmt: skip


@both
@pytest.mark.parametrize("kind", WRONG)
def test_folders_that_cannot_be_used_are_named(folder, kind, packing):
    files, message = WRONG[kind]
    PACKINGS[packing](folder / "photographs", files)
    refused(folder, message)


@both
@pytest.mark.parametrize(
    "parts",
    [("train", "test1"), ("train", "validation"), ("Training_set", "Test-Set"), ("test",),
     ("train", "test", "holidays")],
)  # fmt: skip
def test_folders_named_after_parts_are_no_classes(folder, packing, parts):
    """As Kaggle hands out cats and dogs: all in one folder, the class in the name of the file."""
    names = [f"{part}/{kind}.{n}.png" for part in parts for kind in ("cat", "dog") for n in (0, 1)]
    PACKINGS[packing](folder / "photographs", dict.fromkeys(names, flat(1)))
    refused(folder, r"stand in [Tt](rain|est).*, which are names of parts and no classes; put the")


def test_damaged_archive_is_named(folder):
    pack(folder / "photographs.zip", FILES)
    whole = (folder / "photographs.zip").read_bytes()
    for content in (b"no zip", whole[:50], whole[:-30]):
        (folder / "photographs.zip").write_bytes(content)
        refused(folder, r"photographs\.zip: cannot be read as a zip archive")


def test_nothing_is_written_outside_of_an_archive(folder):
    pack(folder / "photographs.zip", FILES | {"../x.png": flat(1), "train/../../x.png": flat(1)})
    found = load(folder)
    assert len(found.train) + len(found.test) == len(FILES)
    assert [path for path in folder.rglob("*") if path.is_file()] == [folder / "photographs.zip"]


def test_more_images_than_fit_into_memory_are_refused(folder, monkeypatch):
    unpack(folder, FILES)
    size = SIDE * SIDE * 3
    monkeypatch.setattr(photographs, "MOST_MEMORY", 8 * size)
    assert len(load(folder).train) == 5
    monkeypatch.setattr(photographs, "MOST_MEMORY", 8 * size - 1)
    refused(folder, r"data: its 8 images would take 0\.0 GiB of memory; use fewer, at most 7\.")
    assert photographs.MOST_MEMORY < 2**33


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
# The content of one file, and what the error says of it.
BROKEN = {
    "text": (b"a picture of a cat", r"is not an image that can be read \(unknown format\)"),
    "cut off": (encoded(NOISE)[:-900], "is not an image that can be read"),
    "a JPEG that is cut off": (encoded(NOISE, "JPEG")[:-300], "is not an image that can be read"),
}


@both
@pytest.mark.parametrize("kind", BROKEN)
def test_image_that_cannot_be_used_is_named(folder, kind, packing):
    content, message = BROKEN[kind]
    PACKINGS[packing](folder / "photographs", FILES | {"validation/dogs/0.png": content})
    with pytest.raises(DataError, match=rf"photographs.*dogs/0\.png: {message}"):
        load(folder)


@both
def test_file_that_unpacks_to_too_much_is_named(folder, packing, monkeypatch):
    PACKINGS[packing](
        folder / "photographs", FILES | {"train/cats/long.png": flat(1) + bytes(5000)}
    )
    monkeypatch.setattr(images, "LARGEST_FILE", 4999)
    with pytest.raises(DataError, match=r"cats/long\.png: unpacks to 0 MiB; image files of more"):
        load(folder)


def test_link_to_nothing_is_named(folder):
    unpack(folder / "photographs", CLASSES)
    (folder / "photographs" / "dogs" / "9.png").symlink_to("nowhere.png")
    refused(folder, r"9\.png: cannot be read \(No such file")


@pytest.mark.parametrize("gone", ["photographs/birds", "cats-and-dogs", "cats-and-dogs.zip"])
def test_links_to_what_is_gone_are_neither_left_out_nor_replaced_by_other_photographs(folder, gone):
    unpack(folder / "photographs", CLASSES)
    (folder / gone).symlink_to("nowhere")
    refused(folder, rf"{gone}: cannot be read \(No such file")


@pytest.fixture
def other_user() -> Iterator[Path]:
    """A data folder for a test that runs as a user whom the administrator's rights do not help."""
    user = os.geteuid()
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        try:
            yield Path(name)
        finally:
            os.seteuid(user)


@pytest.mark.parametrize("closed", ["cats-and-dogs", "photographs/cats", "photographs/cats/0.png"])
def test_what_may_not_be_read_is_neither_left_out_nor_replaced_by_other_photographs(
    other_user, closed
):
    unpack(other_user / "photographs", CLASSES)
    if closed not in ("photographs/cats", "photographs/cats/0.png"):
        unpack(other_user / closed, CLASSES)
    (other_user / closed).chmod(0)
    if os.geteuid() == 0:
        os.seteuid(65534)
    with pytest.raises(DataError, match=r"(cats-and-dogs|cats|0\.png): cannot be read \(Perm"):
        load(other_user)


# --- which files are images ------------------------------------------------------------------

STRANGERS = [
    "cats/.a.png", "cats/._0.png", "cats/notes.txt", "cats/Thumbs.db", ".DS_Store", "a.png",
    ".trash/a.png", "__MACOSX/cats/._0.png", "__MACOSX/birds/a.png", "cats/more/a.png",
    "lost+found/a.png", "@eaDir/cats/a.png", "cats/@eaDir/a.png", "System Volume Information/a.png",
]  # fmt: skip


@packings
def test_files_and_folders_that_are_not_the_users_are_left_out(folder, packing):
    PACKINGS[packing](folder / "photographs", CLASSES | dict.fromkeys(STRANGERS, b"no image"))
    dataset = load(folder)
    assert dataset.class_names == ("cats", "dogs")
    assert len(dataset.train) + len(dataset.test) == len(CLASSES)


def test_names_are_utf8_whatever_the_locale(folder, tmp_path):
    named = {key.replace("cats", "Käfer 猫"): content for key, content in CLASSES.items()}
    unpack(folder / "photographs", named)
    pack(tmp_path / "packed" / "photographs.zip", named)
    spec = DataSpec(name="photographs", image_size=16, validation="test").model_dump_json()
    found = read_in_plain_locale(spec, folder, tmp_path / "packed")
    assert found == [f"{('Käfer 猫', 'dogs')!a} 12"] * 4


def test_archive_of_a_tool_that_does_not_mark_its_names_as_utf8(folder):
    pack(folder / "photographs.zip", {f"x{key}": flat(1) for key in CLASSES})
    whole = (folder / "photographs.zip").read_bytes().replace(b"xcats", "äts".encode() + b"s")
    (folder / "photographs.zip").write_bytes(whole)
    assert load(folder).class_names == ("xdogs", "ätss")


CHANGES = {
    "one more": FILES | {"train/cats/new.png": flat(1)},
    "another size": FILES | {"train/cats/0.png": flat(1) + b" "},
    "one moved to the other part": {
        name.replace("train/cats/2", "validation/cats/2"): content
        for name, content in FILES.items()
    },
}


@both
@pytest.mark.parametrize("change", CHANGES)
def test_fingerprint_follows_the_files(tmp_path, packing, change):
    prints = []
    for number, files in enumerate((FILES, dict(reversed(FILES.items())), CHANGES[change])):
        PACKINGS[packing](tmp_path / str(number) / "photographs", files)
        prints.append(fingerprint(tmp_path / str(number)))
    assert prints[0] == prints[1] != prints[2]


def test_archive_knows_a_change_that_leaves_the_size(folder):
    prints = set()
    for grey in (1, 2):
        pack(folder / "photographs.zip", CLASSES | {"cats/0.png": bytes([grey])})
        prints.add(fingerprint(folder))
    assert len(prints) == 2


def exchanged(place: Path) -> None:
    """The folders of both classes have each other's names."""
    for old, new in (("cats", "other"), ("dogs", "cats"), ("other", "dogs")):
        (place / old).rename(place / new)


def overwritten(place: Path) -> None:
    """Every file has the content of the one of that name in the other class."""
    swapped = {"cats": "dogs", "dogs": "cats"}
    content = {path: path.read_bytes() for path in place.glob("*/*")}
    for path in content:
        path.write_bytes(content[place / swapped[path.parent.name] / path.name])


@pytest.mark.parametrize("change", [exchanged, overwritten])
def test_other_photographs_of_the_same_names_and_sizes_are_decoded_anew(folder, change):
    shades = {"cats": 10, "dogs": 200}
    place = folder / "photographs"
    unpack(
        place, {f"{k}/{n}.bmp": flat(shades[k] + n, form="BMP") for k in shades for n in range(5)}
    )
    before, named = load(folder), fingerprint(folder)
    change(place)
    after = load(folder)
    assert fingerprint(folder) == named, "it is part of the identity of trainings"
    for dataset, cats in ((before, 10), (after, 200)):
        assert {grey // 100 for grey in greys(dataset.train)} == {0, 2}
        assert all(
            g // 100 == cats // 100 for g in greys(dataset.train.take(dataset.train.labels == 0))
        )
    assert before.content != after.content == load(folder).content
    for path in place.glob("*/*"):
        path.touch()  # as a copy to another disk does
    assert load(folder).content == after.content


def test_status_says_which_results_were_made_from_others(folder, tmp_path, monkeypatch):
    unpack(folder / "photographs", FILES)
    monkeypatch.setenv("REFIT_RUNS", str(tmp_path / "runs"))
    study = Study.open("transfer", "small", data_dir=folder)
    trial = next(each for each in study.trials if each.data.name == "photographs")
    with suppress(DataError):  # too few for this trial, which others are not
        sets.load(trial.data, folder, paths.cache())
    finish(trial, study.runs, epochs=1, content="that of other files")
    command = ["status", "transfer", "--profile", "small", "--data-dir", str(folder)]
    told = CliRunner().invoke(main, command, catch_exceptions=False).output
    assert "photographs: 1 finished trials were made from files of the same names" in told


def test_photographs_are_in_memory_once(folder, monkeypatch):
    monkeypatch.setattr(cache, "BLOCK", 2**18)
    unpack(folder / "photographs", {f"{k}/{n}.png": flat(n) for k in "ab" for n in range(40)})
    load(folder, validation="split")  # brings what is imported and kept
    tracemalloc.start()
    load(folder, validation="split", split_seed=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.2 * 80 * SIDE * SIDE * 3


def test_author_may_say_that_photographs_are_the_reports(folder):
    unpack(folder / "photographs", FILES)
    assert load(folder).stand_in
    assert load(folder, of_the_report=True).stand_in == ""


# --- how they are decoded --------------------------------------------------------------------


def decoded(folder: Path, content: bytes) -> np.ndarray:
    """One image after it has been read as a photograph."""
    unpack(folder / "photographs", {f"{kind}/{n}.png": content for kind in "ab" for n in (0, 1)})
    return np.array(load(folder).test.images[0])


COLOUR = (10, 200, 30)
MODES = {
    "RGB": (encoded(Image.new("RGB", (20, 20), COLOUR)), COLOUR),
    "RGBA": (encoded(Image.new("RGBA", (20, 20), (*COLOUR, 40))), COLOUR),
    "palette with transparency": (
        encoded(Image.new("RGB", (20, 20), COLOUR).quantize(4), transparency=b"\x00\x80"), COLOUR,
    ),
    "grey": (encoded(Image.new("L", (20, 20), 77)), (77, 77, 77)),
    "16-bit grey": (
        encoded(Image.fromarray(np.full((20, 20), 77 * 256 + 200, np.uint16))), (77, 77, 77),
    ),
    "CMYK": (encoded(Image.new("CMYK", (20, 20), (255, 0, 0, 0)), "JPEG"), (0, 255, 255)),
    "animation": (
        encoded(
            Image.new("L", (20, 20), 77), "GIF", save_all=True,
            append_images=[Image.new("L", (20, 20), 200)],
        ),
        (77, 77, 77),
    ),
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_every_kind_of_image_becomes_colour(folder, mode):
    content, colour = MODES[mode]
    pixels = decoded(folder, content)
    assert pixels.shape == (SIDE, SIDE, 3)
    assert np.abs(pixels.astype(int) - colour).max() <= 1


@pytest.mark.parametrize("size", [(60, 40), (300, 500), (17, 400)])
def test_images_are_squashed_bilinearly(folder, size):
    image = NOISE.resize(size, Image.Resampling.NEAREST)
    expected = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(decoded(folder, encoded(image)), np.asarray(expected))


@pytest.mark.parametrize("orientation", range(1, 10))
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_photographs_are_turned_upright(folder, form, orientation):
    image = Image.new("RGB", (48, 32))
    image.paste((250, 0, 0), (0, 0, 24, 16))
    image.paste((0, 250, 0), (24, 0, 48, 16))
    image.paste((0, 0, 250), (0, 16, 24, 32))
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(image, form, exif=exif)
    with Image.open(io.BytesIO(content)) as lying:
        upright = ImageOps.exif_transpose(lying).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(decoded(folder, content), np.asarray(upright))


def test_damaged_notes_do_not_spoil_a_photograph(folder):
    content = encoded(Image.new("RGB", (20, 20), COLOUR), exif=b"Exif\x00\x00MM\x00*\xff\xff")
    assert np.abs(decoded(folder, content).astype(int) - COLOUR).max() <= 1


def test_large_photographs_keep_their_look(folder):
    """JPEG files are decoded to fewer pixels where they have many; that must not be seen."""
    rough = NOISE.resize((1800, 1200), Image.Resampling.BICUBIC)
    content = encoded(rough, "JPEG", quality=95)
    with Image.open(io.BytesIO(content)) as whole:
        expected = whole.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    difference = np.abs(decoded(folder, content).astype(int) - np.asarray(expected))
    assert difference.mean() < 1
    assert difference.max() <= 10


@pytest.mark.skipif(not os.environ.get("DATA_DIR"), reason="DATA_DIR names no real data")
def test_real_cats_and_dogs(tmp_path):
    folder = Path(os.environ["DATA_DIR"])
    if not any((folder / "cats-and-dogs").glob("*")):
        pytest.skip("DATA_DIR holds no cats-and-dogs")
    spec = DataSpec(name="photographs", image_size=SIDE, validation="test", test_images=100)
    dataset = sets.load(spec, folder, tmp_path)
    assert dataset.class_names == ("cats", "dogs")
    assert np.bincount(dataset.train.labels).tolist() == [1000, 1000]
    assert np.bincount(dataset.validation.labels).tolist() == [500, 500]
    assert 40 < dataset.test.labels.sum() < 60
    assert 100 < dataset.train.images[:200].mean() < 130
