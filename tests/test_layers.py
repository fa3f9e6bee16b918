"""The rooms of `src/refit` import only downwards, and only some of them import Keras."""

import ast
from pathlib import Path

import pytest

import refit

SOURCE = Path(refit.__file__).parent
# From the ground up. What stands on one line does not import each other.
FLOORS = (
    {"errors"},
    {"paths", "files"},
    {"data", "models"},
    {"experiments"},
    {"run_directory"},
    {"training", "verdicts", "running"},
    {"searches", "figures"},
    {"tries"},
    {"study"},
    {"pages", "exports"},
    {"commands", "batch"},
    {"cli"},
    {"__main__"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Each training has a process of its own, and every command starts without waiting for these.
HEAVY = {"keras", "tensorflow", "keras_tuner", "autokeras"}
MODULES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))


def room(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


def imported(module: Path) -> set[str]:
    """The modules that one imports anywhere, functions included, by their whole names."""
    found = set()
    for node in ast.walk(ast.parse((SOURCE / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative imports hide the room"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_go_downwards(module):
    here = room(module)
    if here == "__init__":
        assert not imported(module)
        return
    rooms = {name.split(".")[1] for name in imported(module) if name.startswith("refit.")}
    above = {other for other in rooms - {here} if FLOOR[other] >= FLOOR[here]}
    assert not above, f"{module} imports {', '.join(sorted(above))}"
    if here == "figures":
        assert rooms <= {"figures", "errors", "files"}, "figures are handed tables"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_only_trainings_import_keras(module):
    heavy = {name.split(".")[0] for name in imported(module)} & HEAVY
    assert not heavy or room(module) in {"models", "training", "searches"}


def test_there_is_no_circle():
    """Also inside a room: each module can be imported before those that import it."""
    names = {f"refit.{'.'.join(module.with_suffix('').parts)}": module for module in MODULES}
    needs = {
        name: {other for each in imported(module) for other in (each, each.rpartition(".")[0])}
        & names.keys() - {name}
        for name, module in names.items()
    }
    while needs:
        free = {name for name, wanted in needs.items() if not wanted & needs.keys()}
        assert free, f"these import each other: {', '.join(sorted(needs))}"
        needs = {name: wanted for name, wanted in needs.items() if name not in free}
