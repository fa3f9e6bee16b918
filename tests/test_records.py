"""Records of event files are those that tensorboard's own reader finds, damaged files included."""

import pytest
from tensorboard.compat.tensorflow_stub import errors
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New
from tensorboard.summary.writer.record_writer import RecordWriter

from refit.run_directory import records

# Of no byte, fewer than the checksum has, usual ones, and long ones.
CONTENTS = [b"", b"abc", b"four", bytes(range(256)), b"x" * 4096, b"y" * 5000, b"last one"]


def reference(path):
    """What tensorboard's reader finds, one record after another."""
    reader = PyRecordReader_New(str(path))
    found = []
    while True:
        try:
            reader.GetNext()
        except (errors.OutOfRangeError, errors.DataLossError):
            return found
        found.append(reader.record())


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "events"
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for content in CONTENTS:
            writer.write(content)
    return path


def test_records_of_any_length_are_read(path):
    assert records.read(path) == CONTENTS


def test_many_records_are_read(tmp_path):
    contents = [f"record {number}".encode() for number in range(2000)]
    with (tmp_path / "events").open("wb") as file:
        writer = RecordWriter(file)
        for content in contents:
            writer.write(content)
    assert records.read(tmp_path / "events") == contents


def test_empty_file_has_no_records(tmp_path):
    (tmp_path / "events").touch()
    assert records.read(tmp_path / "events") == []


@pytest.mark.parametrize("kept", [1, 11, 15, 16, 17, 40, 300, 5000, -1, -9, -20])
def test_record_that_was_cut_off_ends_the_file(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    found = records.read(path)
    assert found == reference(path)
    assert len(found) < len(CONTENTS)


@pytest.mark.parametrize("place", [0, 7, 8, 13, 20, 30, 33, 100, 350, 2000, 6000, -1, -5, -15])
def test_damaged_record_ends_the_file(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    found = records.read(path)
    assert found == reference(path)
    assert len(found) < len(CONTENTS)


def test_file_that_ends_in_zeros_is_read_up_to_them(path):
    """As some file systems leave it after a crash."""
    path.write_bytes(path.read_bytes() + bytes(1000))
    assert records.read(path) == CONTENTS
