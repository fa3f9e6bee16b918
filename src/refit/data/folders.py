"""Where in the user's data folder a data set may lie."""

from pathlib import Path

from refit.errors import DataError


def candidates(data_dir: Path | None, *names: str) -> list[Path]:
    """The data folder itself, then its folders of the given names; none where no folder is named.

    Raises DataError for a folder that does not exist: a typing error would otherwise be answered
    with a download or a stand-in.
    """
    if data_dir is None:
        return []
    if not data_dir.is_dir():
        raise DataError(f"DATA_DIR: {data_dir} should be a folder that exists.")
    return [data_dir, *(data_dir / name for name in names)]
