"""The one error of a start that cannot be."""

from __future__ import annotations


class CannotStart(Exception):
    """The cluster cannot be started; the text is one sentence for the operator."""
