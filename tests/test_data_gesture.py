"""Clips in the course's layout: what is read and what is refused, and the embedded ones."""

import hashlib
import io
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from refit.data import arrays, cache, digit_clips, gesture, sets
from refit.data.spec import DataSpec
from refit.errors import DataError, DeclarationError
from tests.data_tools import read_in_plain_locale

SIDE = 16
# Both tables: folder, gesture, label. The spellings of the first gesture are the course's own.
TABLES = {
    "train": [
        ("one", "Left Swipe_new_Left Swipe_new", 0),
        ("two", "Stop Gesture_new", 1),
        ("three", "Left_Swipe_new", 0),
        ("four", "Stop_new", 1),
        ("five", "Stop_new", 1),
    ],
    "val": [("one", "stop_new", 1), ("six", "Left_Swipe_new", 0)],
}
# The grey of a clip's first frame; each of the following frames is one lighter.
GREYS = {
    "train": {"one": 10, "two": 30, "three": 50, "four": 70, "five": 90},
    "val": {"one": 110, "six": 130},
}
FRAMES = 5


def picture(grey: int, size: tuple[int, int] = (20, 20), form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(buffer, form)
    return buffer.getvalue()


def write_clip(folder: Path, grey: int, size: tuple[int, int] = (20, 20)) -> None:
    folder.mkdir(parents=True)
    for number in range(FRAMES):
        # Without leading zeros and from 8 on: the alphabet would begin with frame 10.
        (folder / f"{folder.name}_{number + 8}.png").write_bytes(picture(grey + number, size))


def write_table(place: Path, part: str, rows: list[tuple], ending: str = "\n") -> None:
    lines = [";".join(map(str, row)) + ending for row in rows]
    (place / f"{part}.csv").write_bytes("".join(lines).encode())


def write(place: Path) -> Path:
    for part, greys in GREYS.items():
        for name, grey in greys.items():
            write_clip(place / part / name, grey)
        write_table(place, part, TABLES[part])
    return place


@pytest.fixture
def course(tmp_path) -> Path:
    """The course's folder inside the data folder."""
    return write(tmp_path / "data" / "gesture")


def load(course: Path, **declared) -> arrays.Dataset:
    settings = {"name": "gesture", "image_size": SIDE, "frames": 3, "validation": "test"}
    folder = course.parent
    return sets.load(DataSpec(**settings | declared), folder, folder.parent / "cache")


def greys(images: np.ndarray) -> list[int]:
    """The greys of a clip's flat frames."""
    return [round(float(frame.mean())) for frame in images]


def refused(course: Path, message: str, **declared) -> None:
    with pytest.raises(DataError, match=message):
        load(course, **declared)
    cached = course.parent.parent / "cache"
    assert not list(cached.glob("*")), "nothing half made is left"


# --- what arrives ----------------------------------------------------------------------------


def test_clips_arrive_with_their_labels(course):
    dataset = load(course)
    for part, name in ((dataset.train, "train"), (dataset.test, "val")):
        rows = TABLES[name]
        assert part.images.shape == (len(rows), 3, SIDE, SIDE, 3)
        assert (part.images.dtype, part.labels.dtype) == (np.uint8, np.int32)
        assert isinstance(part.images, np.memmap)
        assert not part.images.flags.writeable
        assert sorted(part.ids) == list(range(len(rows)))
        for clip, label, position in zip(part.images, part.labels, part.ids, strict=True):
            folder, _, expected = rows[position]
            first = GREYS[name][folder]
            assert greys(clip) == [first, first + 2, first + 4]
            assert label == expected
    np.testing.assert_array_equal(dataset.validation.images, dataset.test.images)
    assert dataset.train.ids.tolist() != list(range(5)), "not class by class"
    assert dataset.class_names == ("Left Swipe", "Stop")
    assert "5 and 2 folders of frames in gesture" in dataset.source
    assert "which were 663 and 100" in dataset.stand_in
    assert not dataset.embedded


def test_as_many_clips_as_the_report_had_are_no_stand_in(course, monkeypatch):
    monkeypatch.setattr(gesture, "PUBLISHED", {"train": 5, "val": 2})
    assert load(course).stand_in == ""


def test_clips_can_be_split_and_cut_like_images(course):
    dataset = load(course, validation="split", validation_fraction=0.4, train_images=2)
    whole = load(course, validation="split", validation_fraction=0.4)
    assert [len(getattr(dataset, part)) for part in cache.PARTS] == [2, 2, 2]
    assert sorted([*whole.train.ids, *whole.validation.ids]) == list(range(5))
    np.testing.assert_array_equal(dataset.train.images, whole.train.images[:2])
    for clip, position in zip(whole.validation.images, whole.validation.ids, strict=True):
        assert greys(clip)[0] == GREYS["train"][TABLES["train"][position][0]]


def test_without_clips_the_error_says_what_to_do(course, tmp_path):
    (course / "val.csv").unlink()
    for folder in (course.parent, tmp_path, None):
        with pytest.raises(
            DataError, match=r"No gesture clips in .* set DATA_DIR .* train\.csv, val"
        ):
            sets.resolve(DataSpec(name="gesture", frames=3), folder)


# --- the tables ------------------------------------------------------------------------------


def lines(part: str, separator: str = ";") -> list[str]:
    return [separator.join(map(str, row)) for row in TABLES[part]]


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(lines("train")).encode(),
        "\r\n".join(lines("train")).encode() + b"\r\n",
        b"\xef\xbb\xbf" + "\n".join(lines("train")).encode(),
        ";\n".join(lines("train")).encode() + b"; ;\n",
        "  \t\n\n".join(lines("train")).encode() + b"\n \n;\n",
        "\n".join(lines("train", " ; ")).encode(),
        "\n".join(lines("train") + lines("train")[:2]).encode(),
    ],
    ids=["plain", "crlf", "bom", "semicolons", "spaces", "wide", "twice"],
)
def test_forms_of_one_table_mean_the_same(course, content):
    expected = load(course)
    (course / "train.csv").write_bytes(content)
    found = load(course)
    for field in ("images", "labels", "ids"):
        np.testing.assert_array_equal(getattr(found.train, field), getattr(expected.train, field))
    assert found.class_names == expected.class_names


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("folder;gesture;label", r"line 6: should be folder;gesture;label.* and no header"),
        ("five;Stop_new;1.0", r"line 6: should be .* a whole number from 0 on"),
        ("five;Stop_new;1;1", r"line 6: should be"),
        ("five;_new;1", r"line 6: should be"),
        ("five;Stop_new;0", r"line 6: says Stop, 0 of five, and Stop, 1 before"),
        ("six;Stop_new;0", r"line 6: Stop has the label 0; it has 1 in .*train\.csv, line 4"),
        ("six;Thumbs_Up_new;3", r"the labels are \[0, 1, 3\]; expected .* without gaps"),
        ("six;Thumbs_Up_new;2", r"line 6: .*train/six cannot be read \(No such file"),
        ("../val/one;Stop_new;1", r"line 6: should be .* the name of a folder"),
        ("..;Stop_new;1", r"line 6: should be .* the name of a folder"),
        ("five\0;Stop_new;1", r"line 6: should be .* the name of a folder"),
        (";Stop_new;1", r"line 6: should be .* the name of a folder"),
        ("\udcff;Stop_new;1", r"is not UTF-8 text"),
    ],
)
def test_wrong_lines_are_named(course, line, message):
    content = "\n".join([*lines("train"), line]).encode(errors="surrogateescape")
    (course / "train.csv").write_bytes(content)
    refused(course, rf"train\.csv.*{message}")


def test_other_wrong_tables_are_named(course):
    write_table(course, "val", [("one", "Stop", 1), ("six", "Thumbs Down", 2)])
    refused(course, r"val\.csv, line 2: Thumbs Down has the label 2; .* of train\.csv are \[0, 1\]")
    write_table(course, "val", [("one", "Stop", 1), ("six", "Stop", 0)])
    refused(course, r"val\.csv, line 2: Stop has the label 0; it has 1 in .*train\.csv, line 4")
    (course / "val.csv").write_bytes(b"\n")
    refused(course, r"val\.csv: has no rows; expected a row folder;gesture;label")
    write_table(course, "val", TABLES["val"])
    write_table(course, "train", TABLES["train"][:1])
    refused(course, r"train\.csv, line 1: .* the labels are \[0\]; expected are at least two")


def test_names_are_utf8_whatever_the_locale(course):
    (course / "train" / "one").rename(course / "train" / "größe")
    (course / "train" / "größe" / "größe_8.png").write_bytes(picture(1))
    rows = [("größe", "Wischgeste für Übung", 0), *TABLES["train"][1:]]
    write_table(course, "train", [row for row in rows if row[0] != "three"])
    write_table(course, "val", [("one", "Stop", 1), ("six", "Wischgeste für Übung", 0)])
    spec = DataSpec(name="gesture", image_size=16, frames=3, validation="test")
    found = read_in_plain_locale(spec.model_dump_json(), course.parent)
    assert found == [f"{('Wischgeste für Übung', 'Stop')!a} 4"] * 2


# --- the frames ------------------------------------------------------------------------------


def test_clips_may_have_different_numbers_of_frames(course):
    clip = course / "val" / "six"
    for number in (13, 14, 15):
        (clip / f"six_{number}.png").write_bytes(picture(130 + number - 8))
    test = load(course).test
    assert greys(test.images[test.ids.tolist().index(1)]) == [130, 134, 137]


def test_clip_with_too_few_frames_is_named(course):
    refused(course, r"train/.*: has 5 frames, and 6 are asked for", frames=6)
    for file in (course / "val" / "six").iterdir():
        file.unlink()
    refused(course, r"val/six: has 0 frames, and 3 are asked for")


def test_other_files_and_folders_are_ignored(course):
    write_clip(course / "train" / "stranger", 200)
    for name in (".one_1.png", "._one_9.png", "notes.txt", "one_1.gif", "Thumbs.db"):
        (course / "train" / "one" / name).write_bytes(b"no image")
    (course / "train" / "one" / "one_1.png").mkdir()
    train = load(course).train
    assert len(train) == 5
    assert greys(train.images[train.ids.tolist().index(0)]) == [10, 12, 14]


def test_jpeg_files_are_frames_too(course):
    clip = course / "train" / "one"
    for number, form in ((14, "JPG"), (15, "jpeg")):
        (clip / f"one_{number}.{form}").write_bytes(picture(100 + number, form="JPEG"))
    train = load(course).train
    assert greys(train.images[train.ids.tolist().index(0)])[2] == 115


@pytest.mark.parametrize("size", [(40, 30), (30, 40)], ids=["wide", "upright"])
@pytest.mark.parametrize("resampling", ["bilinear", "nearest"])
def test_frames_are_cropped_to_the_central_square_and_resized(course, size, resampling):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    for file in (course / "train" / "two").iterdir():
        Image.fromarray(noise).save(file)
    train = load(course, resampling=resampling).train
    left, top = (size[0] - 30) // 2, (size[1] - 30) // 2
    centre = Image.fromarray(noise[top : top + 30, left : left + 30])
    expected = centre.resize((SIDE, SIDE), Image.Resampling[resampling.upper()])
    for frame in train.images[train.ids.tolist().index(1)]:
        np.testing.assert_array_equal(frame, np.asarray(expected))


def test_clips_may_differ_in_size_but_not_the_frames_used_of_one(course):
    for number in range(FRAMES):
        (course / "train" / "two" / f"two_{number + 8}.png").write_bytes(picture(30, (36, 24)))
    # The second of five frames is not sampled when three are asked for.
    (course / "val" / "one" / "one_9.png").write_bytes(picture(110, (24, 24)))
    assert len(load(course).train) == 5
    (course / "train" / "two" / "two_12.png").write_bytes(picture(30, (24, 36)))
    with pytest.raises(
        DataError, match=r"two_12\.png: is 24x36 pixels, while two_8\.png of the same clip is 36x24"
    ):
        load(course)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (picture(30)[:-30], "is not an image that can be read"),
    ],
)
def test_frame_that_cannot_be_used_is_named(course, content, message):
    for number in (8, 10, 12):
        (course / "train" / "two" / f"two_{number}.png").write_bytes(content)
    refused(course, rf"train/two/two_8\.png: {message}")


def test_one_clip_at_a_time_is_in_memory(course):
    side, frames = 256, 4
    load(course)  # brings what is imported and kept
    tracemalloc.start()
    load(course, image_size=side, frames=frames)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * frames * side * side * 3


def test_other_frames_of_the_same_names_and_sizes_are_decoded_anew(course):
    before, named = load(course), fingerprint(course)
    frames = sorted((course / "val" / "one").glob("*.png"))
    content = [frame.read_bytes() for frame in frames]
    for frame in frames:
        frame.write_bytes(picture(77).ljust(len(frame.read_bytes()), b"\0"))
    assert [len(each) for each in content] == [frame.stat().st_size for frame in frames]
    after = load(course)
    assert fingerprint(course) == named
    assert before.content != after.content
    assert 77 in {grey for clip in after.test.images for grey in greys(clip)}


def test_table_that_is_a_link_to_what_is_gone_is_not_taken_for_none(course):
    (course / "val.csv").unlink()
    (course / "val.csv").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"val\.csv: cannot be read \(No such file"):
        sets.resolve(DataSpec(name="gesture_or_digits", frames=3), course.parent)


# --- identity --------------------------------------------------------------------------------


def fingerprint(course: Path) -> str:
    return sets.resolve(DataSpec(name="gesture", frames=3), course.parent).fingerprint


def test_fingerprint_follows_tables_and_frames(course):
    seen = [fingerprint(course)]
    write_clip(course / "train" / "stranger", 200)
    (course / "train" / "one" / "notes.txt").write_text("not a frame")
    assert fingerprint(course) == seen[0]
    write_table(course, "train", TABLES["train"][:-1])
    seen.append(fingerprint(course))
    (course / "val" / "one" / "one_13.png").write_bytes(picture(1))
    seen.append(fingerprint(course))
    (course / "val" / "one" / "one_13.png").write_bytes(picture(1) + b" ")
    seen.append(fingerprint(course))
    (course / "val" / "one" / "one_13.png").rename(course / "val" / "one" / "one_1.png")
    seen.append(fingerprint(course))
    assert len(set(seen)) == 5


def test_classes_of_clips_cannot_be_chosen():
    with pytest.raises(ValidationError, match="only_classes: would copy the clips"):
        DataSpec(name="gesture", frames=3, only_classes=(0, 1))


def test_frames_belong_to_clips_and_only_to_them(course):
    for spec, message in (
        (DataSpec(name="gesture"), r"data\.frames: gesture is made of clips; say how many"),
        (
            DataSpec(name="digits", frames=3),
            r"data\.frames: digits is made of single images, not frames",
        ),
    ):
        for fingerprint in ("", "known"):
            declared = spec.model_copy(update={"fingerprint": fingerprint})
            with pytest.raises(DeclarationError, match=message):
                sets.load(declared, course.parent, course.parent / "cache")


@pytest.mark.skipif(not os.environ.get("DATA_DIR"), reason="DATA_DIR names no real data")
def test_real_gestures(tmp_path):
    folder = Path(os.environ["DATA_DIR"])
    spec = DataSpec(name="gesture", image_size=32, frames=6, validation="test")
    try:
        sets.resolve(spec, folder)
    except DataError as error:
        if "No gesture clips" not in str(error):
            raise
        pytest.skip("DATA_DIR holds no gestures")
    dataset = sets.load(spec, folder, tmp_path)
    assert [len(dataset.train), len(dataset.test)] == [663, 100]
    assert len(dataset.class_names) == 5
    assert dataset.stand_in == ""


# --- the embedded clips ----------------------------------------------------------------------

MOVING = DataSpec(
    name="digit_clips", image_size=60, frames=6, resampling="nearest", validation="test"
)


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    """Some of the embedded clips, and the folder of runs below which they were written."""
    with pytest.MonkeyPatch.context() as patch:
        runs = tmp_path_factory.mktemp("runs")
        patch.setenv("REFIT_RUNS", str(runs))
        patch.setattr(digit_clips, "COUNTS", {"train": 105, "val": 45})
        return sets.load(MOVING, None, runs / "cache"), runs


def test_embedded_clips_are_balanced_and_say_what_they_are(some):
    dataset, _ = some
    assert dataset.train.images.shape == (105, 6, 60, 60, 3)
    assert np.bincount(dataset.train.labels).tolist() == [21] * 5
    assert np.bincount(dataset.test.labels).tolist() == [9] * 5
    assert set(dataset.train.labels[:32]) == set(range(5)), "a few clips have all classes"
    assert dataset.class_names == ("Left", "Right", "Up", "Down", "Still")
    assert dataset.embedded
    assert "cannot be compared" in dataset.stand_in


def test_embedded_clips_never_change(some):
    dataset, _ = some
    content = dataset.train.images.tobytes() + dataset.test.labels.tobytes()
    assert hashlib.sha256(content).hexdigest()[:12] == "4e3762359641"


def test_the_users_clips_come_before_moving_digits(tmp_path):
    spec = DataSpec(name="gesture_or_digits", frames=4, image_size=SIDE)
    empty = tmp_path / "empty"
    empty.mkdir()
    # A table of this name belongs to another data set as well.
    (empty / "train.csv").write_text("label,pixel1\n")
    for nothing in (None, empty):
        assert sets.resolve(spec, nothing).name == "digit_clips"
    write(tmp_path / "Project_data")
    assert sets.resolve(spec, tmp_path).name == "gesture"
    (tmp_path / "Project_data" / "val.csv").write_text("nonsense")
    with pytest.raises(DataError, match=r"val\.csv"):
        sets.resolve(spec, tmp_path)
