"""Data sets on small files of the real formats: what is read, what is refused, what is cached."""

import functools
import gzip
import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError
from sklearn.model_selection import train_test_split

from refit.data import fashion_mnist, sets
from refit.data.arrays import Dataset
from refit.data.spec import DataSpec
from refit.errors import DataError, DeclarationError
from refit.run_directory.directory import PREDICTIONS
from refit.study import Study
from tests.test_order import finish

LEARNING, TEST = 50, 20
IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = fashion_mnist.PACKED
PARTS = ("train", "validation", "test")
# Without the time of day, so that every process that collects these tests gives them one name.
packed = functools.partial(gzip.compress, mtime=0)


def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        IMAGES: random.integers(0, 256, (LEARNING, 28, 28)),
        LABELS: np.arange(LEARNING) % 10,
        TEST_IMAGES: random.integers(0, 256, (TEST, 28, 28)),
        TEST_LABELS: np.arange(TEST) % 10,
    }


def idx(values: np.ndarray) -> bytes:
    header = np.array([0x800 + values.ndim, *values.shape], ">u4").tobytes()
    return header + values.astype(np.uint8).tobytes()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def pin(files: dict[str, bytes], monkeypatch) -> None:
    """Accept these unpacked files as the published ones are accepted."""
    for table, change in (("PACKED", packed), ("UNPACKED", bytes)):
        names = getattr(fashion_mnist, table)
        sums = (md5(change(content)) for content in files.values())
        monkeypatch.setattr(fashion_mnist, table, dict(zip(names, sums, strict=True)))


@pytest.fixture(autouse=True)
def no_outside(tmp_path, monkeypatch):
    """No test sees this machine's Keras cache or the network."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(fashion_mnist, "URL", "http://127.0.0.1:9/")


@pytest.fixture
def fashion(folder, monkeypatch) -> Path:
    """A data folder with small Fashion-MNIST files."""
    (folder / "fashion-mnist").mkdir()
    files = {name: idx(values) for name, values in arrays().items()}
    for name, content in files.items():
        (folder / "fashion-mnist" / name).write_bytes(packed(content))
    pin(files, monkeypatch)
    return folder


def course_lines(rows: int, labelled: bool) -> list[str]:
    """The lines of one of the course's tables; a pixel's value is its row plus its column."""
    names = ["id", "Label"] if labelled else ["id"]
    lines = [",".join([*names, *(f"pixel{number}" for number in range(1, 785))])]
    for row in range(rows):
        keys = [1000 + row, (row + 4) % 5] if labelled else [1000 + row]
        lines.append(",".join(map(str, [*keys, *((row + column) % 256 for column in range(784))])))
    return lines


@pytest.fixture
def course(folder) -> Path:
    """A data folder with small tables of the course."""
    (folder / "train.csv").write_text("\n".join(course_lines(25, labelled=True)) + "\n")
    (folder / "testX.csv").write_text("\n".join(course_lines(8, labelled=False)) + "\n")
    return folder


def load(folder: Path | None, **declared) -> Dataset:
    """Load with a cache that lies beside the data folder."""
    cache = (folder or Path(os.environ["KERAS_HOME"])).parent / "cache"
    return sets.load(DataSpec(**declared), folder, cache)


def test_idx_files_arrive_unchanged_in_the_order_of_train_test_split(fashion):
    dataset, originals = load(fashion, name="fashion_mnist"), arrays()
    positions = train_test_split(np.arange(LEARNING), test_size=0.2, random_state=42)
    for part, expected in zip((dataset.train, dataset.validation), positions, strict=True):
        np.testing.assert_array_equal(part.ids, expected)
        np.testing.assert_array_equal(part.images[..., 0], originals[IMAGES][expected])
        np.testing.assert_array_equal(part.labels, originals[LABELS][expected])
    np.testing.assert_array_equal(dataset.test.images[..., 0], originals[TEST_IMAGES])
    assert [len(getattr(dataset, part)) for part in PARTS] == [40, 10, TEST]
    assert dataset.train.images.dtype == np.uint8
    assert dataset.train.labels.dtype == np.int32
    assert dataset.train.ids.dtype == np.int64
    assert not dataset.train.images.flags.writeable
    assert (len(dataset.class_names), dataset.stand_in, dataset.embedded) == (10, "", False)


@pytest.mark.parametrize("wrong", ["", "row", "pixel"])
def test_kaggles_tables_are_put_into_the_published_order(folder, monkeypatch, tmp_path, wrong):
    pin({name: idx(values) for name, values in arrays().items()}, monkeypatch)
    orders, names, originals = {}, ("train", "test"), list(arrays().values())
    for part, images, labels in zip(names, originals[::2], originals[1::2], strict=True):
        rows = np.column_stack([labels, images.reshape(len(labels), -1)]).astype(np.uint8)
        orders[part] = np.array(sorted(range(len(rows)), key=lambda row: rows[row].tobytes()))
        if wrong == "pixel":
            rows[3, 9] ^= 1
        lines = [",".join(["label", *(f"pixel{number}" for number in range(1, 785))])]
        lines += [",".join(map(str, row)) for row in rows[:: 2 if wrong == "row" else -1]]
        (folder / f"fashion-mnist_{part}.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(fashion_mnist, "ORDER", tmp_path / "order.npz")
    np.savez(tmp_path / "order.npz", **orders)
    if wrong:
        with pytest.raises(DataError, match=r"mnist_train\.csv: does not hold the 50 published"):
            load(folder, name="fashion_mnist")
        return
    dataset = load(folder, name="fashion_mnist", validation="test")
    np.testing.assert_array_equal(dataset.train.images[..., 0], arrays()[IMAGES])
    np.testing.assert_array_equal(dataset.test.labels, arrays()[TEST_LABELS])
    assert "Kaggle's two tables from the user's data folder" in dataset.source
    assert sets.is_here(DataSpec(name="fashion_mnist"), folder)


def test_pairs_are_five_equal_classes_and_call_themselves_a_stand_in(fashion):
    dataset = load(fashion, name="fashion_mnist_pairs")
    labels = np.concatenate([dataset.train.labels, dataset.validation.labels])
    assert np.bincount(labels).tolist() == [LEARNING // 5] * 5
    assert dataset.class_names[:2] == ("T-shirt/top or Trouser", "Pullover or Dress")
    assert "not public" in dataset.stand_in


@pytest.mark.parametrize("resampling", ["bicubic", "nearest"])
def test_resize_is_pillows_on_whole_values(fashion, resampling):
    dataset = load(fashion, name="fashion_mnist", image_size=48, resampling=resampling)
    original = Image.fromarray(arrays()[TEST_IMAGES][3].astype(np.uint8))
    expected = original.resize((48, 48), Image.Resampling[resampling.upper()])
    assert dataset.train.images.shape == (40, 48, 48, 1)
    np.testing.assert_array_equal(dataset.test.images[3, :, :, 0], np.asarray(expected))


def test_course_tables_are_read_and_preferred_to_the_stand_in(course):
    spec = sets.resolve(DataSpec(name="fashion_mnist_five"), course)
    dataset = load(course, name="fashion_mnist_five")
    assert spec.name == "fashion_mnist_course"
    assert [len(getattr(dataset, part)) for part in PARTS] == [20, 5, 8]
    row = int(dataset.train.ids[0]) - 1000
    assert dataset.train.labels[0] == (row + 4) % 5
    assert dataset.train.images[0].ravel()[:3].tolist() == [row, row + 1, row + 2]
    assert dataset.test.ids.tolist() == list(range(1000, 1008))
    assert dataset.test.labels is None
    assert len(dataset.class_names) == 5
    assert dataset.stand_in == ""


def test_without_course_tables_the_stand_in_is_taken(fashion):
    for place in (fashion, None):
        spec = sets.resolve(DataSpec(name="fashion_mnist_five"), place)
        assert spec.name == "fashion_mnist_pairs"
        assert spec.fingerprint


def test_changed_tables_change_the_fingerprint_and_never_pass_for_the_declared_ones(course):
    before = sets.resolve(DataSpec(name="fashion_mnist_course"), course)
    edit(course / "train.csv", 3, 5, "77")
    after = sets.resolve(before, course)
    assert after.fingerprint != before.fingerprint
    with pytest.raises(DataError, match="changed after the declaration"):
        sets.load(before, course, course.parent / "cache")


def test_digits_are_embedded_and_split_in_a_fixed_way(tmp_path):
    ten = sets.load(DataSpec(name="digits"), None, tmp_path)
    five = sets.load(DataSpec(name="digits_pairs", image_size=48), None, tmp_path)
    assert [len(getattr(ten, part)) for part in PARTS] == [1200, 300, 297]
    assert ten.train.images.shape == (1200, 28, 28, 1)
    assert (ten.train.images.min(), ten.train.images.max()) == (0, 255)
    assert ten.test.ids.tolist() == list(range(1500, 1797))
    assert ten.class_names == tuple("0123456789")
    assert five.train.images.shape == (1200, 48, 48, 1)
    assert five.class_names[-1] == "8 or 9"
    np.testing.assert_array_equal(five.train.labels, ten.train.labels // 2)
    assert ten.embedded
    assert "cannot be compared" in ten.stand_in


def test_limits_take_the_first_images_from_the_same_cache(tmp_path):
    whole = sets.load(DataSpec(name="digits"), None, tmp_path)
    limits = {"train_images": 7, "validation_images": 5, "test_images": 297}
    cut = sets.load(DataSpec(name="digits", **limits), None, tmp_path)
    assert [len(getattr(cut, part)) for part in PARTS] == [7, 5, 297]
    np.testing.assert_array_equal(cut.train.images, whole.train.images[:7])
    np.testing.assert_array_equal(cut.validation.ids, whole.validation.ids[:5])
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(DataError, match=r"data\.test_images: 298 .* the test part .* has 297"):
        sets.load(DataSpec(name="digits", test_images=298), None, tmp_path)


def test_a_seed_draws_which_images_are_left(tmp_path):
    whole = digits(tmp_path).train
    drawn = [digits(tmp_path, train_images=9, draw_seed=seed) for seed in (1, 1, 2)]
    once, again, other = [set(each.train.ids.tolist()) for each in drawn]
    assert once == again != other != set(whole.ids[:9].tolist())
    assert all(len(each.train) == 9 and len(each.validation) == 300 for each in drawn)
    own = np.flatnonzero(np.isin(whole.ids, drawn[2].train.ids))
    for field in ("images", "labels", "ids"):
        np.testing.assert_array_equal(getattr(drawn[2].train, field), getattr(whole, field)[own])
    some = digits(tmp_path, only_classes=(3, 8), train_images=9, draw_seed=1).train
    assert set(some.labels.tolist()) == {0, 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_the_test_images_can_be_the_validation_images(fashion):
    dataset, originals = load(fashion, name="fashion_mnist", validation="test"), arrays()
    np.testing.assert_array_equal(dataset.train.images[..., 0], originals[IMAGES])
    np.testing.assert_array_equal(dataset.train.labels, originals[LABELS])
    for field in ("images", "labels", "ids"):
        np.testing.assert_array_equal(
            getattr(dataset.validation, field), getattr(dataset.test, field)
        )
    assert len(load(fashion, name="fashion_mnist").train) == 40
    with pytest.raises(DataError, match=r"data\.validation_images: 21 .* the validation part"):
        load(fashion, name="fashion_mnist", validation="test", validation_images=21)


def test_a_cached_data_set_needs_its_source_no_more(fashion):
    first = load(fashion, name="fashion_mnist")
    for file in (fashion / "fashion-mnist").iterdir():
        file.unlink()
    second = load(fashion, name="fashion_mnist")
    np.testing.assert_array_equal(first.train.images, second.train.images)
    assert first.source == second.source


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize("damage", [truncate, Path.unlink], ids=["truncated", "missing"])
@pytest.mark.parametrize("file", ["train_images.npy", "test_labels.npy", "index.json"])
def test_a_damaged_cache_is_made_again(fashion, file, damage):
    first = load(fashion, name="fashion_mnist")
    labels = np.array(first.test.labels)
    (cached,) = (fashion.parent / "cache").iterdir()
    damage(cached / file)
    again = load(fashion, name="fashion_mnist")
    np.testing.assert_array_equal(again.test.labels, labels)
    assert [entry.name for entry in cached.parent.iterdir()] == [cached.name]
    (fashion / "fashion-mnist" / IMAGES).unlink()
    assert len(load(fashion, name="fashion_mnist").train) == 40


def test_writers_that_meet_all_succeed(fashion):
    with ThreadPoolExecutor(8) as pool:
        datasets = list(pool.map(lambda _: load(fashion, name="fashion_mnist"), range(8)))
    for dataset in datasets:
        np.testing.assert_array_equal(dataset.train.images, datasets[0].train.images)
    assert len(list((fashion.parent / "cache").iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_a_data_error(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"cache.* cannot be written"):
        sets.load(DataSpec(name="digits"), None, tmp_path / "cache")


def test_missing_files_come_from_the_keras_cache(fashion, tmp_path):
    (tmp_path / "keras" / "datasets").mkdir(parents=True)
    (fashion / "fashion-mnist").rename(tmp_path / "keras" / "datasets" / "fashion-mnist")
    assert "Keras cache" in load(fashion, name="fashion_mnist").source


def test_missing_files_are_downloaded_into_the_keras_cache(fashion, tmp_path, monkeypatch):
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(fashion / "fashion-mnist")
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        monkeypatch.setattr(fashion_mnist, "URL", f"http://127.0.0.1:{server.server_port}/")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        dataset = sets.load(DataSpec(name="fashion_mnist"), None, tmp_path / "cache")
        server.shutdown()
    assert len(dataset.train) == 40
    downloaded = tmp_path / "keras" / "datasets" / "fashion-mnist"
    assert {file.name for file in downloaded.iterdir()} == set(arrays())


def test_without_files_and_network_the_error_says_what_to_do(folder):
    for place in (folder, None):
        with pytest.raises(DataError, match=r"could not be downloaded .* set DATA_DIR to a folder"):
            load(place, name="fashion_mnist")


def test_idx_files_may_be_unpacked_and_a_part_of_the_cache_is_none(fashion, tmp_path):
    spec = DataSpec(name="fashion_mnist")
    for file in (fashion / "fashion-mnist").iterdir():
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    dataset = load(fashion, name="fashion_mnist")
    np.testing.assert_array_equal(dataset.test.labels, arrays()[TEST_LABELS])
    assert sets.is_here(spec, fashion)
    # Keras keeps its files packed, and only these are looked for in its cache.
    (tmp_path / "keras" / "datasets").mkdir(parents=True)
    (fashion / "fashion-mnist").rename(tmp_path / "keras" / "datasets" / "fashion-mnist")
    assert not sets.is_here(spec, fashion)


def test_a_link_to_what_is_gone_is_no_reason_to_download(fashion):
    shutil.rmtree(fashion / "fashion-mnist")
    (fashion / "fashion-mnist").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"data/fashion-mnist: cannot be read \(No such file"):
        load(fashion, name="fashion_mnist")


# A data folder that is itself a data set, another one that is asked for, and what this then is.
ITSELF = {
    "clips of gestures": (["train.csv", "val.csv"], "fashion_mnist_five", "fashion_mnist_pairs"),
    "photographs": (["train/cat/0.png", "train/dog/0.png", "test/cat/1.png"], "cifar10", "cifar10"),
}


@pytest.mark.parametrize("kind", ITSELF)
def test_a_data_folder_that_is_itself_one_data_set_is_not_taken_for_another(folder, kind):
    files, asked, found = ITSELF[kind]
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    resolved = sets.resolve(DataSpec(name=asked), folder)
    assert (resolved.name, resolved.fingerprint) == (found, sets.SOURCES[found].fingerprint(None))


@pytest.mark.parametrize("name", [IMAGES, TEST_LABELS.removesuffix(".gz")])
def test_idx_file_that_is_not_the_published_one_is_named(fashion, name):
    (fashion / "fashion-mnist" / f"{name.removesuffix('.gz')}.gz").unlink()
    (fashion / "fashion-mnist" / name).write_bytes(b"another")
    with pytest.raises(DataError, match=rf"{name}: its MD5 checksum is .* and should be"):
        load(fashion, name="fashion_mnist")


def test_an_incomplete_set_of_idx_files_is_named(fashion):
    (fashion / "fashion-mnist" / LABELS).unlink()
    with pytest.raises(DataError, match=f"only a part of Fashion-MNIST; {LABELS} missing"):
        load(fashion, name="fashion_mnist")


def edit(path: Path, line: int, column: int, cell: str) -> None:
    """Replace one cell, counting lines from 1 and columns from 0."""
    lines = path.read_text().splitlines()
    cells = lines[line - 1].split(",")
    cells[column] = cell
    lines[line - 1] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("file", "line", "column", "cell", "message"),
    [
        ("train.csv", 1, 1, "label", r"begins with id, label.*; expected the columns id, Label"),
        ("testX.csv", 1, 0, "Id", r"begins with Id, pixel1.*; expected the columns id and 784 "),
        ("train.csv", 4, 1, "5", r"the Label 5 at row 2, where .* a Label of 0 to 4"),
        ("train.csv", 4, 1, "coat", r"string 'coat' to int64 at row 2, column 2"),
        ("train.csv", 26, 785, "256", r"string '256' to uint8 at row 24, column 786"),
        ("train.csv", 2, 2, "1.5", r"at row 0, column 3"),
        ("testX.csv", 9, 0, "1001", r"the id 1001 stands more than once"),
        ("train.csv", 5, 785, "1,2", r"787 were found at row 4"),
    ],
)
def test_wrong_cells_are_named(course, file, line, column, cell, message):
    edit(course / file, line, column, cell)
    with pytest.raises(DataError, match=f"{file}.*{message}"):
        load(course, name="fashion_mnist_course")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "expected the columns id, Label and 784 pixels"),
        (course_lines(0, labelled=True), "contained no data"),
        (course_lines(1, labelled=True), "fashion_mnist_course: 1 images cannot be split"),
        (
            course_lines(5, labelled=False),
            "begins with id, pixel1.*; expected the columns id, Label",
        ),
        ([line + ",1" for line in course_lines(5, labelled=True)], "787 were found"),
        ([*course_lines(5, labelled=True), "7,1"], "2 were found at row 6"),
        (["\udcff\udcfe"], r"train\.csv: cannot be read as a table"),
    ],
)
def test_wrong_tables_are_named(course, lines, message):
    content = "\n".join(lines).encode(errors="surrogateescape")
    (course / "train.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(course, name="fashion_mnist_course")


@pytest.mark.parametrize("name", ["fashion_mnist_five", "fashion_mnist_course"])
@pytest.mark.parametrize("lost", ["testX", "train"])
def test_a_single_table_of_the_course_is_refused(course, name, lost):
    (course / f"{lost}.csv").unlink()
    with pytest.raises(DataError, match=rf"only a part of .* tables; {lost}\.csv missing"):
        sets.resolve(DataSpec(name=name), course)


def test_the_course_tables_that_are_not_there_are_asked_for(folder):
    for place in (folder, None):
        with pytest.raises(
            DataError, match=r"train\.csv and testX\.csv were not found .* DATA_DIR"
        ):
            sets.resolve(DataSpec(name="fashion_mnist_course"), place)


def test_a_data_folder_that_does_not_exist_is_an_error(tmp_path):
    for name in ("fashion_mnist", "fashion_mnist_five"):
        with pytest.raises(DataError, match="absent should be a folder that exists"):
            load(tmp_path / "absent", name=name)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(DeclarationError, match=r"'mnist' .* digits, .* fashion_mnist_five"):
        sets.resolve(DataSpec(name="mnist"), None)


def test_declarations_are_loaded_without_the_heavy_libraries():
    heavy = {"pandas", "sklearn", "pooch", "keras", "tensorflow"}
    check = f"import sys, refit.data.spec; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# --- some of the classes ---------------------------------------------------------------------


def digits(tmp_path: Path, **declared) -> Dataset:
    return sets.load(DataSpec(name="digits", **declared), None, tmp_path)


def test_only_some_classes_are_kept_and_numbered_anew(tmp_path):
    whole, some = digits(tmp_path), digits(tmp_path, only_classes=(7, 0, 3))
    assert some.class_names == ("7", "0", "3")
    for name in PARTS:
        everything, kept = getattr(whole, name), getattr(some, name)
        chosen = np.isin(everything.labels, (7, 0, 3))
        np.testing.assert_array_equal(kept.ids, everything.ids[chosen])
        np.testing.assert_array_equal(kept.images, everything.images[chosen])
        np.testing.assert_array_equal(np.array([7, 0, 3])[kept.labels], everything.labels[chosen])
        assert (kept.labels.dtype, kept.images.dtype) == (np.int32, np.uint8)
    assert some.source == whole.source


def test_classes_are_chosen_before_the_limits_and_from_the_same_cache(tmp_path):
    some = digits(tmp_path, only_classes=(8, 9))
    few = digits(tmp_path, only_classes=(8, 9), train_images=7).train
    for field in ("images", "labels", "ids"):
        np.testing.assert_array_equal(getattr(few, field), getattr(some.train, field)[:7])
    assert len(list(tmp_path.iterdir())) == 1
    number = len(some.test)
    with pytest.raises(
        DataError, match=rf"test_images: {number + 1} .* test part of digits has {number} of only_"
    ):
        digits(tmp_path, only_classes=(8, 9), test_images=number + 1)


@pytest.mark.parametrize(
    "wrong",
    [[], [3], [3, 3], [-1, 2], [0, True], [0, 1.0], [0, "1"], "01", {0: 1}, 2, [[0], [1]]],
    ids=str,
)
def test_wrong_classes_are_refused(wrong):
    with pytest.raises(ValidationError, match="only_classes"):
        DataSpec(name="digits", only_classes=wrong)


def test_classes_that_cannot_be_chosen_are_refused(course, tmp_path):
    with pytest.raises(DataError, match=r"only_classes: 10 is asked for.* digits are 0 to 9"):
        digits(tmp_path, only_classes=(2, 10))
    few = {"validation_fraction": 0.001}
    present = set(digits(tmp_path, **few).validation.labels.tolist())
    absent = tuple(set(range(10)) - present)
    with pytest.raises(DataError, match="the validation part of digits has 0 of only_classes"):
        digits(tmp_path, only_classes=absent, **few)
    with pytest.raises(DataError, match=r"only_classes: the test images of .* have no labels"):
        load(course, name="fashion_mnist_course", only_classes=(0, 1))


def test_images_without_labels_are_predicted_and_judge_nothing(course, tmp_path, make_tiny):
    study = Study.open("fmnist_zoo")
    spec = sets.resolve(DataSpec(name="fashion_mnist_course"), course)
    trial = make_tiny(data=spec, seed=study.declaration.seed)
    folders = {"runs": tmp_path / "runs", "pages": tmp_path / "pages", "data_dir": course}
    study = replace(study, trials=[trial], **folders)
    finish(trial, study.runs, epochs=1)
    np.save(study.runs / trial.directory / PREDICTIONS, np.arange(8, dtype=np.uint8) % 5)
    assert study.selection_check(trial.sweep).empty
    study.predictions(trial)
    told = pd.read_csv(study.pages / "predictions.csv")
    assert told.columns.tolist() == ["image", "prediction"]
    assert told["prediction"].tolist()[:2] == ["label 0", "label 1"]


@pytest.mark.skipif(not os.environ.get("DATA_DIR"), reason="DATA_DIR names no real data")
def test_real_fashion_mnist(tmp_path):
    dataset = sets.load(
        DataSpec(name="fashion_mnist_pairs"), Path(os.environ["DATA_DIR"]), tmp_path
    )
    assert [len(getattr(dataset, part)) for part in PARTS] == [48_000, 12_000, 10_000]
    assert np.bincount(dataset.test.labels).tolist() == [2_000] * 5
    assert round(float(dataset.train.images.mean()), 1) == 72.9
