"""A YAML file read as plain data, and what is wrong with it in words that name the place."""

import contextlib
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import pydantic
import yaml

from refit.errors import DeclarationError


def read(path: Path) -> dict[str, Any]:
    """Read a mapping. Raises DeclarationError naming the file, also for a key given twice."""
    try:
        content = yaml.load(path.read_text("utf-8"), _UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DeclarationError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise DeclarationError(f"{path}: is not a mapping of keys to values")
    return content


@contextlib.contextmanager
def named(place: Path | str) -> Iterator[None]:
    """Put a place before every line of a DeclarationError that comes from inside."""
    try:
        yield
    except DeclarationError as error:
        lines = str(error).splitlines()
        raise DeclarationError("\n".join(f"{place}: {line}" for line in lines)) from error


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

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            problem = "" if isinstance(key, Hashable) else "is not a plain value"
            if problem or key in keys:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} {problem or 'stands twice'}", key_node.start_mark
                )
            keys.add(key)
        return super().construct_mapping(node, deep=deep)
