"""A YAML file read as plain data, and what is wrong with it in words that name the place."""

import contextlib
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import pydantic
import yaml

from refit.errors import DeclarationError

# Far more than any declaration has, anchors written out; a few lines can unfold to millions.
MOST_VALUES = 100_000
DEEPEST = 50
LONGEST_NUMBER = 100
# What declarations are made of; dates, bytes and sets are neither compared nor stored as such.
PLAIN = {
    f"tag:yaml.org,2002:{kind}"
    for kind in ("map", "seq", "str", "int", "float", "bool", "null", "merge")
}
# Characters of a message's line, of which a wrong value may be most.
LONGEST_LINE = 1000


def read(path: Path) -> dict[str, Any]:
    """Read a mapping. Raises DeclarationError naming the file, also for a key given twice, for what
    is no plain value, and for what unfolds to more than any declaration is."""
    try:
        loader = _UniqueKeyLoader(path.read_text("utf-8"))
        node = loader.get_single_node()
        content = node and loader.construct_document(_checked(node))
    except RecursionError as error:
        raise DeclarationError(
            f"{path}: cannot be read as YAML: it is nested more than {DEEPEST} levels deep"
        ) from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise DeclarationError(f"{path}: cannot be read as YAML: {reason}") from error
    if not isinstance(content, dict):
        raise DeclarationError(f"{path}: is not a mapping of keys to values")
    return content


@contextlib.contextmanager
def named(place: Path | str) -> Iterator[None]:
    """Put a place before every line of a DeclarationError that comes from inside."""
    try:
        yield
    except DeclarationError as error:
        lines = [f"{place}: {line}" for line in str(error).splitlines()]
        cut = [line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…" for line in lines]
        raise DeclarationError("\n".join(cut)) from error


def explain(error: pydantic.ValidationError) -> str:
    """One line per wrong key, with the path to it."""
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"]) or "the file"
        message = {
            "extra_forbidden": "unknown key; check the spelling",
            "missing": "missing key",
        }.get(item["type"], item["msg"].removeprefix("Value error, "))
        lines.append(f"{key}: {message}")
    return "\n".join(lines)


def _checked(node: yaml.Node) -> yaml.Node:
    """The same node. Raises a YAMLError where it is no plain value, or too much of them."""
    _extent(node, {})
    return node


def _extent(node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """How many values a node unfolds to, and how deep; `known` has those of the nodes before.

    Anchors are counted as often as they are used, without being unfolded. Raises a YAMLError.
    """
    if id(node) in known:
        extent = known[id(node)]
        if extent is None:
            raise _wrong(node, "stands inside of itself")
        return extent
    known[id(node)] = None
    if node.tag not in PLAIN:
        raise _wrong(node, f"{node.tag.rpartition(':')[2]} is no plain value; put it in quotes")
    inside = []
    if isinstance(node, yaml.MappingNode):
        inside = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        inside = node.value
    elif not node.tag.endswith(":str") and len(node.value) > LONGEST_NUMBER:
        raise _wrong(node, f"is a number of {len(node.value):,} digits")
    extents = [_extent(part, known) for part in inside]
    values = 1 + sum(count for count, _ in extents)
    depth = 1 + max((below for _, below in extents), default=0)
    if values > MOST_VALUES or depth > DEEPEST:
        raise _wrong(node, f"unfolds to more than {MOST_VALUES:,} values or {DEEPEST} levels")
    known[id(node)] = values, depth
    return values, depth


def _wrong(node: yaml.Node, what: str) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, what, node.start_mark)


class _UniqueKeyLoader(yaml.SafeLoader):
    """A SafeLoader that refuses a key given twice, which YAML's own silently lets win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            problem = "" if isinstance(key, Hashable) else "is not a plain value"
            if problem or key in keys:
                raise _wrong(key_node, f"key {key!r} {problem or 'stands twice'}")
            keys.add(key)
        return super().construct_mapping(node, deep=deep)
