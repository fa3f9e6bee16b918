"""The one jinja2 environment of all pages and tables: everything put into HTML is escaped."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
# Plotly's own script, as large as a hundred pages: it lies beside them instead of inside each.
PLOTLY = "plotly.min.js"


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        # Code is escaped as a whole, once it is highlighted; a declaration is no HTML.
        autoescape=select_autoescape(disabled_extensions=["py.j2", "yaml.j2"], default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def fill(template: str, **values: Any) -> str:
    """Fill a template of `templates/`; a value that it needs and does not get is an error."""
    return _environment().get_template(template).render(values)


def page(template: str, explorable: bool = False, **values: Any) -> str:
    """Fill a template that extends `page.html.j2`, with style and scripts inside the page.

    The page names the checksums of its scripts, and browsers run no others. Only an `explorable`
    page also loads plotly's script, from the file `PLOTLY` beside it.
    """
    script, style = _template("page.js"), _template("style.css")
    explore = _template("explore.js") if explorable else ""
    return fill(
        template,
        style=trusted(style + (_template("explore.css") if explorable else "")),
        script=trusted(script),
        script_hash=_checksum(script),
        plotly=PLOTLY,
        explore=trusted(explore),
        explore_hash=_checksum(explore),
        **values,
    )


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text("utf-8")


def _checksum(script: str) -> str:
    """A script's checksum as a page's Content-Security-Policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def trusted(text: str) -> Markup:
    """Text that is HTML already, made here and not from anyone's input: it is not escaped."""
    return Markup(text)  # noqa: S704 - the name of this function says what its callers promise
