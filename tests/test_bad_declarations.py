"""Declarations that are wrong in ways nobody thought of: refused with the file and the key, always.

The examples are the real experiment files, changed by hypothesis.
"""

import copy
import datetime
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from refit import paths
from refit.errors import DataError, DeclarationError
from refit.experiments import expand

# The shortest files, which between them have grids, lists, selections, anchors and merged keys.
NAMES = ("transfer",) * 6 + ("gesture", "fmnist_tuning")
CONTENTS = {
    name: yaml.safe_load((paths.EXPERIMENTS / f"{name}.yaml").read_text("utf-8")) for name in NAMES
}
# What YAML can write and Python's dumper cannot: put in where their names stand.
WRITTEN = {
    "@hexadecimal": "0x" + "f" * 6000,
    "@digits": "9" * 6000,
    "@object": "!!python/object/apply:os.system ['touch written-by-yaml']",
    "@own": "!secret x",
    "@recursive list": "&loop [*loop]",
    "@recursive mapping": "&loop {options: *loop, name: lenet}",
    "@unknown": "*nowhere",
    "@ordered": "!!omap [a: 1]",
    "@pairs": "!!pairs [a: 1]",
}
ODD = st.sampled_from(
    [
        None, True, False, 0, -1, 2, 1.5, 10**30, 1e300, float("nan"), float("inf"), "", " ", "x",
        "../x", "/x", "a\nb", "{", "{0}", "{0.__class__}", "\0", "\x1b[31m", "\u202e", "1e5",
        [], {}, [[]], [{}], {"name": "x"}, {1: 2}, {None: 1}, {True: 1}, {"": {}}, b"\xff\xfe",
        datetime.date(2020, 1, 1), {"a", "b"}, "x" * 5000, *WRITTEN,
    ]
)  # fmt: skip
# Always the same examples; where one fails, it is short enough to be left as it is.
MANY = settings(
    max_examples=80,
    derandomize=True,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """The paths of everything inside of plain data."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, child in items:
        found.append((*path, key))
        if isinstance(child, dict | list):
            found += places(child, (*path, key))
    return found


def parent(content: Any, path: tuple) -> Any:
    for key in path[:-1]:
        content = content[key]
    return content


def nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


# A change: what is done, where (numbers count through all places of the file), and odd values.
HOW = st.sampled_from(["odd", "odd", "odd", "delete", "rename", "twice", "other", "deep"])
PLACE = st.integers(0, 10_000)
CHANGES = st.lists(st.tuples(HOW, PLACE, PLACE, ODD), min_size=1, max_size=3)


def changed(name: str, changes: list[tuple]) -> bytes:
    """The file of an experiment after some changes."""
    content = copy.deepcopy(CONTENTS[name])
    for how, place, other, odd in changes:
        known = places(content)
        path, source = known[place % len(known)], known[other % len(known)]
        holder, key = parent(content, path), path[-1]
        if how == "delete":
            del holder[key]
        elif how == "rename" and isinstance(holder, dict):
            holder[[f"{key}s", 7, None, "", "<<"][other % 5]] = holder.pop(key)
        elif how == "twice" and isinstance(holder, list):
            holder.append(holder[key])
        elif how == "other":
            holder[key] = copy.deepcopy(parent(content, source)[source[-1]])
        elif how == "deep":
            holder[key] = nested(1 + other % 150)
        else:
            holder[key] = copy.deepcopy(odd)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    for marker, written in WRITTEN.items():
        text = text.replace(f"'{marker}'", written)
    return text.encode()


def check(name: str, content: bytes) -> None:
    """A file is an experiment whose trials can be named, or refused line by line with its name."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.yaml"
        path.write_bytes(content)
        try:
            declaration = expand.load(path)
        except DeclarationError as error:
            for line in str(error).splitlines():
                assert line.startswith(f"{path}: "), line
                assert len(line) < len(str(path)) + 1100, line
        else:
            with suppress(DataError):  # the user's own files are not there
                for profile in declaration.profiles:
                    for trial in expand.expand(declaration, profile):
                        assert trial.directory.parts[0] == trial.sweep
                        assert trial.hyper_parameters()
        assert [file.name for file in Path(folder).iterdir()] == [path.name]


@MANY
@given(st.sampled_from(NAMES), CHANGES)
def test_changed_file_is_an_experiment_or_refused_with_the_place(name, changes):
    check(name, changed(name, changes))


# Bytes put in at some place of a file, and how many of those that stand there they replace.
PIECE = st.one_of(
    st.binary(max_size=6),
    st.sampled_from([b"\t", b"\0", b"\xff", b"&a ", b"*a", b"<<: ", b"- ", b": ", b"{", b"\n\n  "]),
)
DAMAGE = st.lists(
    st.tuples(st.integers(0, 100_000), st.integers(0, 40), PIECE), min_size=1, max_size=2
)


@MANY
@given(st.sampled_from(NAMES), DAMAGE)
def test_damaged_file_is_an_experiment_or_refused_with_the_place(name, damage):
    content = (paths.EXPERIMENTS / f"{name}.yaml").read_bytes()
    for place, length, piece in damage:
        start = place % len(content)
        content = content[:start] + piece + content[start + length :]
    check(name, content)


PATTERNS = ["{optimizer[name][0][x]}", "{epochs[0]}", "{epochs:>1000000000}", "{epochs:{epochs}}"]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("where", ["trials", "file"])
def test_pattern_that_does_not_fit_is_refused_unfilled(tmp_path, pattern, where):
    content = copy.deepcopy(CONTENTS["gesture"])
    if where == "trials":
        content["sweeps"]["conv3d"]["name"] = pattern
    else:
        content["sweeps"]["conv3d"]["grid"]["callbacks"] = [
            [{"name": "keep_best", "file": pattern.replace("epochs", "epoch") + ".h5"}]
        ]
    path = tmp_path / "gesture.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(DeclarationError, match=r"gesture\.yaml: sweeps.conv3d.* does not fit"):
        expand.load(path)
