"""What the drive's forms say, checked."""

from __future__ import annotations

from django import forms
from django.http import HttpRequest

from drive import names, schema
from drive.errors import InvalidName, NotFound

MOST_ITEMS = 1_000
"""Files and folders that one request may change."""


class NameForm(forms.Form):
    """A name for a file or folder."""

    name = forms.CharField(max_length=2_000, strip=False, error_messages={"required": "Give it a name."})

    def clean_name(self) -> str:
        try:
            return names.clean(self.cleaned_data["name"])
        except InvalidName as error:
            raise forms.ValidationError(str(error)) from error


def items_of(request: HttpRequest) -> list[str]:
    """The uids that a request is about: those in its address if there are any (one row's own button), else those posted.

    `NotFound` if there is none, if one has not the form of a uid, or if there are more than `MOST_ITEMS`.
    """
    uids = request.GET.getlist("item") or request.POST.getlist("item")
    if not uids:
        raise NotFound("Choose a file or folder first.")
    if len(uids) > MOST_ITEMS:
        raise NotFound(f"Choose at most {MOST_ITEMS} at a time.")
    if not all(schema.is_uid(uid) for uid in uids):
        raise NotFound
    return list(dict.fromkeys(uids))
