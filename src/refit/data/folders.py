"""Where a data set may lie: in the user's data folder, in Keras's cache, or to be downloaded."""

import os
from collections.abc import Iterable
from pathlib import Path

from refit import paths
from refit.errors import DataError

# Folders that systems put beside the user's own, as they put hidden ones.
NOT_THE_USERS = {"lost+found", "@eaDir", "System Volume Information", "$RECYCLE.BIN", "__MACOSX"}


def candidates(data_dir: Path | None, *names: str) -> list[Path]:
    """The data folder itself, then its folders of the given names; none where no folder is named.

    Raises DataError for a folder that does not exist: a typing error would otherwise be answered
    with a download or a stand-in.
    """
    if data_dir is None:
        return []
    if not data_dir.is_dir():
        raise DataError(f"DATA_DIR: {data_dir} should be a folder that exists.")
    folders = [data_dir, *(data_dir / name for name in names)]
    for folder in folders:
        is_there(folder)
    return folders


def is_there(path: Path) -> bool:
    """Whether there is a file or folder. Raises DataError for a link to what is gone and for what
    this user may not read: another would be taken in its place."""
    if not os.path.lexists(path):
        return False
    try:
        with os.scandir(path) if path.is_dir() else path.open("rb"):
            return True
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error


def whole(folder: Path, names: Iterable[str], what: str) -> list[Path]:
    """The files of these names in a folder; none where it has none of them.

    Raises DataError where it has only some.
    """
    files = [folder / name for name in names]
    missing = [file.name for file in files if not (is_there(file) and file.is_file())]
    if not missing or len(missing) == len(files):
        return [] if missing else files
    raise DataError(f"{folder}: holds only a part of {what}; {', '.join(missing)} missing.")


def is_visible(name: str) -> bool:
    """Whether a file or folder is the user's: neither hidden nor one that a system keeps there."""
    return not name.startswith(".") and name not in NOT_THE_USERS


def as_text(name: str) -> str:
    """The name of a file as UTF-8, in which names are written, whatever the locale takes it for."""
    return os.fsencode(name).decode(errors="surrogateescape")


def on_disk(text: str) -> str:
    """The name under which this process finds the file whose name is `text` in UTF-8."""
    return os.fsdecode(text.encode(errors="surrogateescape"))


def keras_home() -> Path:
    named = os.environ.get("KERAS_HOME")
    return Path(named) if named else (paths.home() or paths.cache()) / ".keras"


def keras_cache() -> Path:
    return keras_home() / "datasets"


def download(
    url: str, name: str, known_hash: str | None, folder: Path, data_set: str, begin: bytes = b""
) -> Path:
    """Download a file into `folder`, once per machine, and check its hash (`md5:...`), if known.

    Where none is, at least it must `begin` as its format does: a page that a network answers
    everything with is not kept. Raises DataError, which says where the user can put the file
    instead.
    """
    import pooch  # brings the network libraries, needed once per machine

    def fetch(address: str, unfinished: str, _: object) -> None:
        pooch.HTTPDownloader()(address, unfinished, None)
        with Path(unfinished).open("rb") as file:
            if file.read(len(begin)) != begin:
                raise ValueError(f"{address} answers with something else")

    settings = {"known_hash": known_hash, "fname": name, "path": folder, "downloader": fetch}
    try:
        return Path(pooch.retrieve(url + name, **settings))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{data_set}'s {name} could not be downloaded into {folder} ({type(error).__name__}): "
            "set DATA_DIR to a folder that holds it."
        ) from error


def content(path: Path) -> bytes:
    """The bytes of a file. Raises DataError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
