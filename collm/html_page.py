"""The frame of every page that is written, and the jinja environment that fills it and other templates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collm.errors import UsageError

if TYPE_CHECKING:
    from jinja2 import Environment


def template_environment(package: str, *, is_html: bool) -> Environment:
    """Returns the environment of a package's `templates` folder; its pages extend `page.html.j2` of this package.

    Args:
        package: E.g. `collm.report`.
        is_html: Whether values are escaped for HTML.

    Raises:
        UsageError: If jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise UsageError("reports in files need jinja2: pip install 'collm[report]'") from error
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package), jinja2.PackageLoader("collm")]),
        autoescape=is_html,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        comment_start_string="<##",
        comment_end_string="##>",
    )
