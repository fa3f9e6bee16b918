"""The beginning of an own report: a declaration with comments and a notebook, to run at once."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from pydantic import TypeAdapter, ValidationError

from refit import files, paths
from refit.errors import DeclarationError
from refit.experiments.metrics import Name
from refit.experiments.yaml_file import explain
from refit.pages.templating import fill

CELL = "# %%"
# As in all notebooks of refit.
KERNEL = {"display_name": "refit", "language": "python", "name": "refit"}


def write(name: str) -> tuple[Path, Path]:
    """Write both files of a new experiment. Raises DeclarationError for a name that cannot be, or
    where one of them is there."""
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise DeclarationError(explain(error)) from error
    declaration, notebook = paths.EXPERIMENTS / f"{name}.yaml", paths.NOTEBOOKS / f"{name}.ipynb"
    for path in (declaration, notebook):
        if path.exists():
            raise DeclarationError(f"{path} is there already; choose another name")
    files.write_bytes(declaration, fill("new/declaration.yaml.j2", name=name).encode())
    files.write_bytes(notebook, nbformat.writes(_notebook(name)).encode())
    return declaration, notebook


def _notebook(name: str) -> nbformat.NotebookNode:
    cells = []
    for part in fill("new/notebook.py.j2", name=name).split(CELL)[1:]:
        kind, _, source = part.partition("\n")
        make = new_markdown_cell if kind.strip() == "md" else new_code_cell
        tags = {"metadata": {"tags": ["parameters"]}} if kind.strip() == "parameters" else {}
        cells.append(make(source.strip(), **tags))
    return new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
