"""Data files that are wrong in ways nobody thought of: read as documented, or refused by name.

Hypothesis damages small files of every kind; reading them also may write nothing but the cache.
"""

import contextlib
import functools
import io
import struct
import tracemalloc
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from refit.data import cifar10, fashion_mnist, sets
from refit.data.spec import DataSpec
from refit.errors import RefitError

SIDE = 16


def many(examples: int) -> settings:
    """Always the same examples; where one fails, it is short enough to be left as it is."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(autouse=True, scope="module")
def _no_outside(tmp_path_factory) -> Iterator[None]:
    """No network, no cache of Keras, and no large images: a damaged header may claim one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        patch.setattr(fashion_mnist, "URL", "http://127.0.0.1:9/")
        patch.setattr(cifar10, "URL", "http://127.0.0.1:9/")
        patch.setattr("os.fsync", lambda _: None)  # waiting for the disk is most of the time
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 250_000)
        yield


@contextlib.contextmanager
def sandbox() -> Iterator[Path]:
    """An empty data folder, beside which lies a file that nobody may touch."""
    with TemporaryDirectory(prefix="refit ä ") as name:
        (Path(name) / "elsewhere.png").write_bytes(picture())
        (Path(name) / "data").mkdir()
        yield Path(name) / "data"


def tree(folder: Path) -> dict[Path, tuple[int, int]]:
    """All that lies below a folder, the cache left out."""
    found = (path for path in folder.rglob("*") if "cache" not in path.relative_to(folder).parts)
    return {path: (path.lstat().st_size, path.lstat().st_mtime_ns) for path in found}


def disturbs(character: str) -> bool:
    """Whether a character acts on a terminal or page, or cannot be encoded, rather than be read."""
    turns = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in turns


def check(folder: Path, name: str, channels: int, labelled: bool = True, **declared) -> bool:
    """Load a data set, all as documented or refused in a sentence; returns whether it was read."""
    before = tree(folder.parent)
    clip = (declared["frames"],) if "frames" in declared else ()
    spec = {"name": name, "image_size": SIDE, "resampling": "bilinear"} | declared
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            dataset = sets.load(DataSpec(**spec), folder, folder.parent / "cache")
    except RefitError as error:
        dataset = None
        message = str(error)
        assert str(folder) in message or message.startswith((f"{name}:", "data.")), message
        assert not any(map(disturbs, message)), message
    assert tree(folder.parent) == before
    if dataset is None:
        return False
    for part in (dataset.train, dataset.validation, dataset.test):
        assert part.images.shape == (len(part), *clip, SIDE, SIDE, channels)
        assert (part.images.dtype, part.ids.dtype) == (np.uint8, np.int64)
        assert len(part) == len(part.ids) > 0
        if part is not dataset.test or labelled:
            assert part.labels.dtype == np.int32
            assert part.labels.shape == (len(part),)
            assert 0 <= part.labels.min() <= part.labels.max() < len(dataset.class_names)
    for text in (dataset.source, *dataset.class_names):
        assert not any(map(disturbs, text)), text
    return True


def picture(size=(20, 20), form="PNG", mode="RGB", **options) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def damaged(content: bytes, damage: list[tuple[int, int, bytes]]) -> bytes:
    """Some bytes with pieces of them replaced: (where, how many, by what)."""
    for place, length, piece in damage:
        start = place % (len(content) + 1)
        content = content[:start] + piece + content[start + length :]
    return content


DAMAGE = st.lists(
    st.tuples(st.integers(0, 2**20), st.integers(0, 30), st.binary(max_size=8)),
    min_size=1,
    max_size=3,
)


# --- image files -----------------------------------------------------------------------------


def png(width: int, height: int) -> bytes:
    """A PNG file that claims a size, with hardly any pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 32 32
(written-by-postscript) (w) file closefile showpage
"""
IMAGES = {
    "grey": picture(mode="L"),
    "colour": picture(),
    "transparent": picture(mode="RGBA"),
    "grey and transparent": picture(mode="LA"),
    "black and white": picture(mode="1"),
    "16 bits": picture(mode="I;16"),
    "palette": picture(mode="P"),
    "transparent palette": picture(mode="P", transparency=3),
    "transparent palette of bytes": picture(mode="P", transparency=bytes(range(256))),
    "JPEG": picture(form="JPEG"),
    "CMYK": picture(form="JPEG", mode="CMYK"),
    "progressive": picture(form="JPEG", progressive=True),
    "GIF": picture(form="GIF", mode="P"),
    "BMP": picture(form="BMP"),
    "WEBP": picture(form="WEBP"),
    "animated": picture(form="GIF", save_all=True, append_images=[Image.new("L", (20, 20))]),
    "one pixel": picture((1, 1)),
    "a line": picture((400, 1)),
    "bomb": png(30_000, 30_000),
    "larger bomb": png(2**31 - 1, 2**31 - 1),
    "no pixels": png(0, 0),
    "text": b"a picture of a cat",
    "nothing": b"",
    "PostScript": POSTSCRIPT,
    "TIFF": picture(form="TIFF"),
    "archive": b"PK\x03\x04" + b"\0" * 40,
    "page": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "truncated": picture()[:-60],
    "truncated JPEG": picture(form="JPEG")[:-40],
}
KINDS = st.sampled_from(list(IMAGES))
SUFFIX = st.sampled_from([".png", ".jpg", ".JPEG", ".gif", ".bmp", ".webp"])


def photographs(folder: Path, files: dict[str, bytes]) -> Path:
    """Files beside the photographs of two classes that are as they should be."""
    whole = {f"{kind}/{number}.png": picture() for kind in ("cat", "dog") for number in range(2)}
    for name, content in (whole | files).items():
        path = folder / "photographs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


@pytest.mark.parametrize("kind", IMAGES)
def test_image_of_any_kind_is_read_or_refused(kind):
    refused = {
        "bomb", "larger bomb", "no pixels", "text", "nothing", "PostScript",
        "TIFF", "archive", "page", "truncated", "truncated JPEG",
    }  # fmt: skip
    with sandbox() as folder:
        photographs(folder, {"cat/odd.png": IMAGES[kind]})
        assert check(folder, "photographs", 3) == (kind not in refused)


@many(200)
@given(KINDS, SUFFIX, DAMAGE)
def test_damaged_image_is_read_or_refused(kind, suffix, damage):
    with sandbox() as folder:
        photographs(folder, {f"cat/odd{suffix}": damaged(IMAGES[kind], damage)})
        check(folder, "photographs", 3)


def test_no_image_is_handed_to_another_program(monkeypatch):
    """Pillow lets Ghostscript run PostScript, whatever the name of the file."""
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("was run"))
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("was run"))
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", "gs")
    with sandbox() as folder:
        photographs(folder, {"cat/odd.png": POSTSCRIPT})
        assert not check(folder, "photographs", 3)


# --- archives --------------------------------------------------------------------------------

NAME = st.one_of(
    st.sampled_from(
        ["../elsewhere.png", "/elsewhere.png", "cat/../../elsewhere.png", "..\\elsewhere.png",
         "C:\\elsewhere.png", "C:/elsewhere.png", "cat/../dog/x.png", "cat//x.png", "./cat/x.png",
         "cat/x.png", "cat/", "cat/x.png/", "cat/sub/x.png", "", "/", "\0.png", "cat/\0x.png",
         "cat\n/x.png", "\x1b[31mcat/x.png", "\u202ecat/x.png", "CON/x.png", "cat/.x.png",
         f"{'x' * 300}/y.png", "ä/ö.png", "<script>alert(1)</script>/x.png", "train/cat/x.png"],
    ),
    st.text(max_size=12).map(lambda text: f"{text}/x.png"),
)  # fmt: skip
METHOD = st.sampled_from(
    [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
LINK = 0o120777 << 16
# What is changed of a member: where in its central record (and its local one), and what is put in.
FIELDS = {
    "encrypted": (8, 6, b"\x01\x08"),
    "names in UTF-8": (8, 6, b"\x00\x08"),
    "version": (6, 4, b"\xff\x00"),
    "method": (10, 8, b"\x63\x00"),
    "checksum": (16, 14, b"\x00\x00\x00\x01"),
    "packed size": (20, 18, b"\xf0\xff\xff\x7f"),
    "size": (24, 22, b"\xf0\xff\xff\x7f"),
    "small size": (24, 22, b"\x01\x00\x00\x00"),
    "length of the name": (28, 26, b"\xff\xff"),
    "place": (42, None, b"\xf0\xff\xff\x7f"),
}


def archive(files: list[tuple[str, bytes]], method: int = 0, link: bool = False) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that comes twice, as it may here
        with zipfile.ZipFile(buffer, "w", method) as packed:
            for name, content in files:
                info = zipfile.ZipInfo(name or "x")
                info.filename = name
                info.compress_type = method
                info.external_attr = LINK if link else 0
                packed.writestr(info, content)
    return buffer.getvalue()


def forged(content: bytes, field: str, local: bool) -> bytes:
    """An archive whose last member says something else of itself."""
    central, own, value = FIELDS[field]
    patched = bytearray(content)
    start = content.rfind(b"PK\x01\x02") + central
    patched[start : start + len(value)] = value
    if local and own is not None:
        start = content.rfind(b"PK\x03\x04") + own
        patched[start : start + len(value)] = value
    return bytes(patched)


SOUND = [(f"{kind}/{number}.png", picture()) for kind in ("cat", "dog") for number in range(2)]
FORGERY = st.one_of(st.none(), st.tuples(st.sampled_from(list(FIELDS)), st.booleans()))


@many(200)
@given(NAME, KINDS, METHOD, st.booleans(), FORGERY, st.one_of(st.just([]), DAMAGE))
def test_archive_of_photographs_is_read_or_refused(name, kind, method, link, forgery, damage):
    content = archive([*SOUND, (name, IMAGES[kind])], method, link)
    content = forged(content, *forgery) if forgery else content
    with sandbox() as folder:
        (folder / "photographs.zip").write_bytes(damaged(content, damage))
        check(folder, "photographs", 3)


def test_member_that_unpacks_to_more_than_it_says_does_not_fill_the_memory():
    content = archive([*SOUND, ("cat/bomb.png", b"\0" * 100 * 2**20)], zipfile.ZIP_DEFLATED)
    with sandbox() as folder:
        (folder / "photographs.zip").write_bytes(forged(content, "small size", local=True))
        tracemalloc.start()
        assert not check(folder, "photographs", 3)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 30 * 2**20


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archive_whose_members_unpack_without_bounds_is_refused(method):
    with sandbox() as folder:
        (folder / "photographs.zip").write_bytes(archive(SOUND, method))
        assert not check(folder, "photographs", 3)


def test_image_that_stands_twice_in_an_archive_counts_for_neither():
    """It would be learned from and tested on."""
    with sandbox() as folder:
        (folder / "photographs.zip").write_bytes(archive([*SOUND, SOUND[0]]))
        assert not check(folder, "photographs", 3)


@pytest.mark.parametrize(
    "name", ["cat\n/x.png", "cat/\x1b[31m.png", "cat/\udcff.png", "\udcff/x.png", "\u202etac/x.png"]
)
def test_file_whose_name_cannot_be_shown_is_refused(name):
    with sandbox() as folder:
        photographs(folder, {name: picture(), f"{Path(name).parent}/y.png": picture()})
        assert not check(folder, "photographs", 3)


@pytest.mark.parametrize("name", ["Ärger", "猫", "kedi köpek", "a'b\"c", "$x_1$", "<b>", "x" * 255])
def test_class_may_have_any_other_name(name):
    with sandbox() as folder:
        photographs(folder, {f"{name}/x 1.png": picture(), f"{name}/é.png": picture()})
        assert check(folder, "photographs", 3)


# --- clips -----------------------------------------------------------------------------------

ROWS = "one;Left_new;0\ntwo;Stop_new;1\nthree;Left_new;0\nfour;Stop_new;1\n"
CELL = st.sampled_from(
    ["", " ", "0", "1", "2", "-1", "99999", "1.0", "NaN", "٣", "one", "two", "no such", "..", ".",
     "../data", "/", "a\\b", "C:", "\0", "\x1b[31m", "\u202ex", "new", "_", "x" * 300, "<b>x</b>",
     "Left", "Stop", "$x_1$", "ä", '"', "'one'", "=1+1", "\ufeff"],
)  # fmt: skip
CHANGED_ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), CELL), max_size=3)
SEPARATOR = st.sampled_from([";", ";", ";", ",", "\t"])


def clips(folder: Path, tables: dict[str, bytes]) -> Path:
    """The course's layout: four clips of three frames to learn from, and to test on."""
    place = folder / "gesture"
    for part, table in tables.items():
        for name in ("one", "two", "three", "four"):
            (place / part / name).mkdir(parents=True)
            for number in range(3):
                (place / part / name / f"{number}.png").write_bytes(picture())
        (place / f"{part}.csv").write_bytes(table)
    return place


def table(changes: list[tuple[int, int, str]], separator: str) -> bytes:
    rows = [line.split(";") for line in ROWS.splitlines()]
    for row, column, cell in changes:
        rows[row][column] = cell
    return "".join(separator.join(row) + "\n" for row in rows).encode("utf-8", "surrogatepass")


@many(120)
@given(st.sampled_from(["train", "val"]), CHANGED_ROWS, SEPARATOR, st.one_of(st.just([]), DAMAGE))
def test_table_of_clips_is_read_or_refused(part, changes, separator, damage):
    with sandbox() as folder:
        tables = {"train": ROWS.encode(), "val": ROWS.encode()}
        clips(folder, tables | {part: damaged(table(changes, separator), damage)})
        check(folder, "gesture", 3, frames=2, validation="test")


FOLDERS = {
    "frame that is a folder": lambda path: (path / "9.png").mkdir(),
    "frame that is a link to nothing": lambda path: (path / "9.png").symlink_to(path / "none"),
    "name that is not UTF-8": lambda path: (path / "\udcff.png").write_bytes(b"x"),
    "huge number in a name": lambda path: (path / f"{'9' * 200}.png").write_bytes(picture()),
    "superscript in a name": lambda path: (path / "².png").write_bytes(picture()),
    "no frames": lambda path: [file.unlink() for file in path.iterdir()],
}


@pytest.mark.parametrize("name", ["\x1b[31mred", "\u202ered", "re\0d", "x" * 81, "_new_", ""])
def test_name_of_a_gesture_that_cannot_be_shown_is_refused(name):
    with sandbox() as folder:
        clips(folder, {"train": ROWS.replace("Left", name).encode(), "val": ROWS.encode()})
        assert not check(folder, "gesture", 3, frames=2, validation="test")


@pytest.mark.parametrize("kind", FOLDERS)
def test_odd_folder_of_frames_is_read_or_refused(kind):
    with sandbox() as folder:
        place = clips(folder, {"train": ROWS.encode(), "val": ROWS.encode()})
        FOLDERS[kind](place / "train" / "two")
        check(folder, "gesture", 3, frames=2, validation="test")


# --- the tables of the course ----------------------------------------------------------------

COUNT = 6


@functools.cache
def course() -> dict[str, list[list[str]]]:
    """The cells of both tables, the headings first."""
    pixels = [f"pixel{number}" for number in range(1, 785)]
    rows = [[str(number), str(number % 5), *["7"] * 784] for number in range(COUNT)]
    train = [["id", "Label", *pixels], *rows]
    return {"train.csv": train, "testX.csv": [[row[0], *row[2:]] for row in train]}


ENTRY = st.sampled_from(
    ["", " ", "-1", "5", "256", "1.5", "1e2", "1e400", "nan", "inf", "True", "x", "9" * 30, "0x10",
     "9" * 5000, "1_0", "٣", '"', '"1"', "1,2", "\0", "\n", "id", "Label", "pixel1", "\x1b[31m",
     "18446744073709551615", "9223372036854775808", "2020-01-01", "=1+1", "1 ", "+1", "1j"],
)  # fmt: skip


@many(90)
@given(
    st.sampled_from(["train.csv", "testX.csv"]),
    st.lists(st.tuples(st.integers(0, COUNT), st.integers(0, 785), ENTRY), max_size=3),
    st.sampled_from(["", "", "", "short row", "long row", "no rows", "no header", "twice"]),
    st.sampled_from(["", "", "", "utf-16", "utf-8-sig"]),
    st.one_of(st.just([]), DAMAGE),
)
def test_table_of_the_course_is_read_or_refused(name, cells, shape, coding, damage):
    rows = [list(row) for row in course()[name]]
    for row, column, cell in cells:
        rows[row][column % len(rows[row])] = cell
    if shape == "short row":
        rows[2] = rows[2][:-1]
    if shape == "long row":
        rows[2].append("0")
    kept = {"no rows": rows[:1], "no header": rows[1:], "twice": rows + rows}.get(shape, rows)
    text = "\n".join(map(",".join, kept)) + "\n"
    with sandbox() as folder:
        for each, sound_rows in course().items():
            (folder / each).write_text("\n".join(map(",".join, sound_rows)) + "\n")
        (folder / name).write_bytes(damaged(text.encode(coding or "utf-8"), damage))
        check(folder, "fashion_mnist_course", 1, labelled=False)
