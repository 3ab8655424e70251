"""What every template may count on."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from penncloud_site.pages import layout_for


def shell(request: HttpRequest) -> dict[str, Any]:
    """`layout`: what shell.html extends (the whole page, or the part that htmx swaps in); `domain`: of mail addresses."""
    return {"layout": layout_for(request), "domain": settings.PENNCLOUD["DOMAIN"]}
