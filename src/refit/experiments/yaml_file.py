"""A YAML file read as plain data, and what is wrong with it in words that name the place."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic
import yaml

from refit.errors import DeclarationError

# Characters of a message's line, of which a wrong value may be most.
LONGEST_LINE = 1000


def read(path: Path) -> dict[str, Any]:
    """Read a mapping. Raises DeclarationError naming the file, also for a key given twice and for
    what is no plain value, such as a date."""
    try:
        content = yaml.load(path.read_text("utf-8"), _UniqueKeyLoader)  # noqa: S506 - a SafeLoader
        json.dumps(content)
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
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


class _UniqueKeyLoader(yaml.SafeLoader):
    """A SafeLoader that refuses a key given twice, which YAML's own silently lets win."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        known = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else key
            if name in known:
                raise yaml.composer.ComposerError(
                    None, None, f"key {name!r} stands twice", key.start_mark
                )
            known.add(name)
        return node
