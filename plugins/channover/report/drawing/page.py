"""Pages made of templates: what a value says is text, never markup."""

from __future__ import annotations

from functools import cache
from typing import Any

from channover.text import printable


@cache
def template(name: str) -> Any:
    """Return a template of ``report/templates``; a name that it has no value for is an error."""
    import jinja2  # here, since only the end of a run needs it

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("channover.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    return environment.get_template(name)
