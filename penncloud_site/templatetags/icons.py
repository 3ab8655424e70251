"""`{% icon "inbox" %}`: one of Tabler's icons, inline, so that it takes the colour of the text around it.

The files are in `penncloud_site/templates/icons/`, copied singly from the npm package @tabler/icons (MIT).
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

FOLDER = Path(__file__).resolve().parent.parent / "templates" / "icons"
_NAME = re.compile(r"[a-z0-9-]+\Z")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


@functools.cache
def _drawing(name: str) -> SafeString:
    """What is inside the <svg> of the icon. `TemplateSyntaxError` if there is no such file."""
    path = FOLDER / f"{name}.svg"
    if not _NAME.match(name) or not path.is_file():
        raise template.TemplateSyntaxError(f"there is no icon {name!r} in {FOLDER.name}/")
    svg = _COMMENT.sub("", path.read_text(encoding="utf-8"))
    inside = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    return mark_safe(" ".join(inside.split()))  # noqa: S308  (a file of the project, not a visitor's)


@register.simple_tag
def icon(name: str, classes: str = "", label: str = "") -> SafeString:
    """The icon `name`. With a `label` it is an image of that name to a screen reader, otherwise decoration."""
    described = format_html('role="img" aria-label="{}"', label) if label else mark_safe('aria-hidden="true"')
    return format_html(
        '<svg class="icon {}" xmlns="http://www.w3.org/2000/svg" width="24" height="24" viewBox="0 0 24 24" '
        'fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round" '
        "{}>{}</svg>",
        classes,
        described,
        _drawing(name),
    )
