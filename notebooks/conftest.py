"""Of a notebook that fails under nbval, what it was when it failed (nbval#112)."""

from pathlib import Path

import nbformat
import pytest

KEPT = Path("reports") / "nbval"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and hasattr(item, "test_outputs"):
        notebook = nbformat.read(item.parent.path, as_version=4)
        run = [each for each in item.session.items if each.parent is item.parent]
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        for each, cell in zip(run, code, strict=False):
            cell.outputs = each.test_outputs or []
        KEPT.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, KEPT / item.parent.path.name)
        report.sections.append(("executed notebook", str(KEPT / item.parent.path.name)))
    return report
