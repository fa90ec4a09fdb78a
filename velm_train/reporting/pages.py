"""A template and the things it speaks of go in; one self-contained HTML page comes out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from velm_train.reporting import words
from velm_train.reporting.figures import jpeg_data_uri

_TEMPLATES = Path(__file__).parent / "templates"


def render_page(template: str, *, styles: Sequence[str], names: Mapping[str, Any]) -> str:
    """Returns the page as HTML text; every text from outside is escaped.

    Args:
        template: file name in `templates/`.
        styles: file names of the style sheets in `templates/`, later ones on top; the template writes them as `style`.
        names: what the template may speak of.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=words.percent,
        interval=words.interval,
        points=words.signed_points,
        points_interval=words.signed_interval,
        count=words.count,
        seconds=words.seconds,
        gigabytes=words.gigabytes,
        p_value=words.p_value,
        jpeg=jpeg_data_uri,
    )
    style = Markup("".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in styles))
    return environment.get_template(template).render({"style": style, **names})


def read_script(name: str) -> Markup:
    """Returns a script of `templates/` to be written between script tags."""
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))
