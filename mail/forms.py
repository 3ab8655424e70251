"""The compose form as it comes from a browser."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace

from django.http import Http404, QueryDict

from mail import schema
from mail.addresses import FIELDS
from mail.drafts import Content, Draft, Save, is_revision


@dataclass(frozen=True, slots=True)
class ComposeForm:
    """What is in the form and what is wrong with it.

    `uid`, `base`, `editor`, `n` and `reply_to` are its hidden fields (see `mail.drafts`); `errors` are sentences for each
    field. A form that is shown again holds everything that was typed, whatever was wrong.
    """

    uid: str
    editor: str
    base: str = ""
    n: int = 0
    reply_to: str = ""
    content: Content = field(default_factory=Content)
    errors: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def empty(cls, content: Content | None = None, reply_to: str = "") -> ComposeForm:
        """The form of a new message."""
        return cls(schema.new_uid(), new_editor(), content=content or Content(), reply_to=reply_to)

    @classmethod
    def of_draft(cls, draft: Draft) -> ComposeForm:
        """The form that continues a draft."""
        return cls(draft.uid, new_editor(), draft.revision, 0, draft.header.answers, draft.content)

    @classmethod
    def posted(cls, data: QueryDict) -> ComposeForm:
        """The form that a browser sent. Its hidden fields are ours; if they are malformed, somebody forged it: 404."""
        uid, base, editor = data.get("uid", ""), data.get("base", ""), data.get("editor", "")
        n, reply_to = data.get("n", ""), data.get("reply_to", "")
        well_formed = (
            schema.is_uid(uid)
            and (not base or is_revision(base))
            and is_revision(f"{editor}.{n}")
            and (not reply_to or schema.is_uid(reply_to))
        )
        if not well_formed:
            raise Http404("not a form of ours")
        content = Content(
            typed=(data.get("to", ""), data.get("cc", ""), data.get("bcc", "")),
            subject=data.get("subject", ""),
            body=data.get("body", "").replace("\r\n", "\n"),
        )
        return cls(uid, editor, base, int(n), reply_to, content)

    @property
    def save(self) -> Save:
        """The save that this form asks for."""
        return Save(self.base, self.editor, self.n)

    @property
    def next_n(self) -> int:
        """What the page's next save counts as."""
        return self.n + 1

    @property
    def fields(self) -> list[dict[str, object]]:
        """The recipient fields for the template: name, label, text, errors."""
        labels = (("to", "To"), ("cc", "Cc"), ("bcc", "Bcc"))
        return [
            {"name": name, "label": label, "value": text, "errors": self.errors.get(name, [])}
            for (name, label), text in zip(labels, self.content.typed, strict=True)
        ]

    @property
    def copies_shown(self) -> bool:
        """Whether Cc and Bcc have something to show."""
        return any(self.content.typed[1:]) or "cc" in self.errors or "bcc" in self.errors

    @property
    def all_errors(self) -> list[tuple[str, list[str]]]:
        """The sentences for every field, none where all is well: what a script replaces beside the fields."""
        return [(name, self.errors.get(name, [])) for name in (*FIELDS, "subject", "body")]

    def with_errors(self, errors: dict[str, list[str]]) -> ComposeForm:
        """The same form with these errors."""
        return replace(self, errors=errors)

    def as_new_draft(self) -> ComposeForm:
        """The same text as a draft of its own."""
        return replace(self, uid=schema.new_uid(), base="", editor=new_editor(), n=1)


def new_editor() -> str:
    """The name of one open form: 12 hexadecimal digits."""
    return secrets.token_hex(6)
