"""Filters through which templates show what somebody else wrote. Every hostile text passes one of them."""

from __future__ import annotations

from django import template
from django.utils.safestring import SafeString

from mail import text
from mail.message import Summary
from penncloud_site.templatetags.human import ago

register = template.Library()


@register.filter
def line(value: object) -> str:
    """A name, an address or a subject, on one line and without characters that deceive."""
    return text.clean_line(str(value))


@register.filter
def subject(value: object) -> str:
    """A subject; says so when there is none."""
    return text.clean_line(str(value)) or "(no subject)"


@register.filter
def body(value: str) -> SafeString:
    """A body's text with its addresses as links, escaped."""
    return text.linked(text.clean_text(value))


@register.filter
def said(value: str) -> str:
    """What a body says itself."""
    return text.split_quote(value)[0]


@register.filter
def quoted(value: str) -> str:
    """What a body quotes at its end, or ""."""
    return text.split_quote(value)[1]


@register.filter
def who(summary: Summary) -> str:
    """The names of a list line; "(no recipients)" for a draft without any."""
    names = ", ".join(text.clean_line(name) for name in summary.who)
    if summary.others:
        names += f" and {summary.others} more"
    return names or "(no recipients)"


@register.filter
def when(milliseconds: int) -> SafeString | str:
    """How long ago a time in milliseconds since 1970 was."""
    return ago(milliseconds / 1000)
