"""The one jinja2 environment of all pages and tables: everything put into a template is escaped."""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


def fill(template: str, **values: Any) -> str:
    """Fill a template of `templates/`; a value that it needs and does not get is an error."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def page(template: str, **values: Any) -> str:
    """Fill a template that extends `page.html.j2`, with style and script inside the page.

    The page names the checksum of its script, and browsers run no other.
    """
    script = (TEMPLATES / "sort.js").read_text()
    checksum = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return fill(
        template,
        style=trusted((TEMPLATES / "style.css").read_text()),
        script=trusted(script),
        script_hash=f"sha256-{checksum}",
        **values,
    )


def trusted(text: str) -> Markup:
    """Text that is HTML already, made here and not from anyone's input: it is not escaped."""
    return Markup(text)  # noqa: S704 - the name of this function says what its callers promise
