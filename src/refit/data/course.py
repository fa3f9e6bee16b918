"""The five-class data of the course competition ece657a-w20-asg3-part2, for users who have them.

Both tables were made by hand or by script more than once on their way to a user, so every cell is
checked; an error names the file, the line and the column.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from refit.data.arrays import Decoded, Description, Part
from refit.data.folders import candidates
from refit.errors import DataError

if TYPE_CHECKING:
    import pandas

FILES = ("train.csv", "testX.csv")
FOLDERS = ("ece657a-w20-asg3-part2", "fashion-mnist-course")
CLASSES = 5
SIDE = 28
PIXELS = SIDE * SIDE
# The largest id survives the floating-point numbers that pandas makes of mixed columns.
HIGHEST = {"id": 2**53, "Label": CLASSES - 1}
ROWS_AT_A_TIME = 10_000
HEADER_LINES = 1


def find(data_dir: Path | None) -> Path | None:
    """The first folder that holds both tables, None where there is no table at all.

    Raises DataError where only one of the two is there, or where data_dir is not a folder.
    """
    found = {
        folder: [name for name in FILES if (folder / name).is_file()]
        for folder in candidates(data_dir, *FOLDERS)
    }
    for folder, names in found.items():
        if len(names) == len(FILES):
            return folder
    for folder, names in found.items():
        if names:
            missing = next(name for name in FILES if name not in names)
            raise DataError(f"{folder}: has {names[0]} but not {missing}; both files are needed.")
    return None


def fingerprint(data_dir: Path | None) -> str:
    """A hash of the content of both tables, so that other tables mean other trials."""
    digests = "".join(_sha256(path) for path in _paths(data_dir))
    return hashlib.sha256(digests.encode()).hexdigest()[:12]


def read(data_dir: Path | None) -> Decoded:
    """Read train.csv (id, Label, 784 pixels) and testX.csv (id, 784 pixels, no labels).

    Raises DataError naming the file, the line and the column of the first cell that is wrong.
    """
    train, test = _paths(data_dir)
    return Decoded(
        learning=read_table(train, labelled=True),
        test=read_table(test, labelled=False),
        description=Description(
            class_names=tuple(f"label {label}" for label in range(CLASSES)),
            source="The course competition's tables from the user's data folder: "
            f"train.csv (SHA-256 {_sha256(train)[:12]}) and testX.csv, which has no labels "
            f"(SHA-256 {_sha256(test)[:12]}).",
        ),
    )


def read_table(path: Path, labelled: bool) -> Part:
    """Read one table: the column id, Label when labelled, then 784 pixels from 0 to 255."""
    import pandas  # half a second to import, needed by few

    names = ["id", "Label"] if labelled else ["id"]
    expected = f"expected the columns {', '.join(names)} and {PIXELS} pixels"
    highest = np.array([HIGHEST[name] for name in names] + [255] * PIXELS)
    keys, pixels = [], []
    try:
        columns = [str(name) for name in pandas.read_csv(path, nrows=0).columns]
        _check_columns(path, columns, names, expected)
        for table in _row_blocks(path):
            if table.shape[1] != len(columns):
                raise DataError(
                    f"{path}: its header has {len(columns)} cells and line {HEADER_LINES + 1} has "
                    f"{table.shape[1]}; {expected}."
                )
            values = _whole_numbers(path, table.set_axis(columns, axis="columns"), highest)
            keys.append(values[:, : len(names)])
            pixels.append(values[:, len(names) :].astype(np.uint8))
    except pandas.errors.EmptyDataError as error:
        raise DataError(f"{path}: has no rows; {expected}.") from error
    except (OSError, ValueError) as error:  # ValueError: pandas's own and the text decoder's
        reason = str(error).strip().rstrip(".")
        raise DataError(f"{path}: cannot be read as a table ({reason}); {expected}.") from error
    ids, *labels = np.concatenate(keys).T
    _check_unique(path, ids)
    return Part(
        images=np.concatenate(pixels).reshape(-1, SIDE, SIDE, 1),
        labels=labels[0].astype(np.int32) if labelled else None,
        ids=ids,
    )


def _check_columns(path: Path, columns: list[str], names: list[str], expected: str) -> None:
    if columns[: len(names)] != names:
        raise DataError(f"{path}: begins with {', '.join(columns[: len(names)])[:40]}; {expected}.")
    if len(columns) != len(names) + PIXELS:
        raise DataError(f"{path}: has {len(columns) - len(names)} pixel columns; {expected}.")


def _row_blocks(path: Path) -> Iterator["pandas.DataFrame"]:
    """The rows below the header, which is read apart: beside a header that is one cell shorter
    than the rows, pandas would silently take the ids for an index and shift every column."""
    import pandas

    with pandas.read_csv(
        path,
        header=None,
        skiprows=HEADER_LINES,
        chunksize=ROWS_AT_A_TIME,
        low_memory=False,
        skip_blank_lines=False,  # a blank line is an error, and so a row's number gives its line
    ) as reader:
        yield from reader


def _whole_numbers(path: Path, table: "pandas.DataFrame", highest: np.ndarray) -> np.ndarray:
    """The cells as int64; raises DataError at the first that is no whole number in its range."""
    import pandas

    numbers = table.copy()
    for name in table.columns[[dtype.kind != "i" for dtype in table.dtypes]]:
        # Through text, so that True does not pass for 1.
        numbers[name] = pandas.to_numeric(table[name].astype(str), errors="coerce")
    numbers = numbers.to_numpy()
    right = (numbers >= 0) & (numbers <= highest) & (numbers == np.floor(numbers))
    if not right.all():
        row, column = np.argwhere(~right)[0]
        cell = table.iat[row, column]
        raise DataError(
            f"{path}, line {table.index[row] + HEADER_LINES + 1}, column "
            f"{table.columns[column]}: {'nothing' if pandas.isna(cell) else cell} should be "
            f"a whole number from 0 to {highest[column]}."
        )
    return numbers.astype(np.int64)


def _check_unique(path: Path, ids: np.ndarray) -> None:
    _, first, position = np.unique(ids, return_index=True, return_inverse=True)
    repeated = np.flatnonzero(first[position] != np.arange(len(ids)))
    if len(repeated):
        row = repeated[0]
        raise DataError(
            f"{path}, line {row + HEADER_LINES + 1}, column id: {ids[row]} is also the id of "
            f"line {first[position[row]] + HEADER_LINES + 1}; each id should appear once."
        )


def _paths(data_dir: Path | None) -> list[Path]:
    folder = find(data_dir)
    if folder is None:
        raise DataError(
            f"The course's {' and '.join(FILES)} were not found in "
            f"{data_dir or 'DATA_DIR, which is not set'}: put both into the folder that DATA_DIR "
            f"names or into its folder {' or '.join(FOLDERS)}, or use fashion_mnist_pairs."
        )
    return [folder / name for name in FILES]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
