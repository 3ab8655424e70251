"""Composing: the form, its autosave, and Send.

One address answers them all. A script asks with the target `compose-status` and gets only what changed beside the fields
(never the fields themselves: somebody is typing in them); a plain form gets the page again.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods

from mail import addresses, delivery, limits, replies, schema
from mail.access import address_of, display_name, drafts_of, mailbox_of
from mail.drafts import AlreadySent, Content, Draft, DraftChanged, DraftGone, Drafts, TooLarge
from mail.forms import ComposeForm
from mail.mailbox import NoSuchMessage
from mail.schema import Folder
from mail.text import clean_line
from mail.views import rail_context
from penncloud_site.access import member
from penncloud_site.pages import flash, render_page, toast


@member
@require_http_methods(["GET", "HEAD", "POST"])
def compose(request: HttpRequest) -> HttpResponse:
    """The form for a new message, a reply, a forward or a draft; posted to, save, send, discard or keep it apart."""
    try:
        if request.method != "POST":
            return _form_page(request, _beginning(request))
        answer = {"save": _save, "send": _send, "discard": _discard, "fork": _fork}.get(request.POST.get("action", ""))
        if answer is None:
            raise Http404("no such action")
        return answer(request, ComposeForm.posted(request.POST))
    except NoSuchMessage:
        raise Http404("no such message") from None


# --- the form


def _beginning(request: HttpRequest) -> ComposeForm:
    """What the form begins with: `?draft=`, `?reply=` (with `all=1`), `?forward=` a uid, or `?to=` an address."""
    data = request.GET
    for name in ("draft", "reply", "forward"):
        if name in data and not schema.is_uid(data[name]):
            raise Http404("not a message")
    if "draft" in data:
        try:
            return ComposeForm.of_draft(drafts_of(request).open(data["draft"]))
        except (DraftGone, AlreadySent):
            raise Http404("there is no such draft any more") from None
    mailbox = mailbox_of(request)
    if "reply" in data:
        own = address_of(request).address
        content = replies.reply(mailbox.message(data["reply"]), own, to_all="all" in data)
        return ComposeForm.empty(content, reply_to=data["reply"])
    if "forward" in data:
        return ComposeForm.empty(replies.forward(mailbox.message(data["forward"])))
    return ComposeForm.empty(Content(typed=(clean_line(data.get("to", ""))[: limits.MAX_ADDRESS_TEXT], "", "")))


def _form_page(
    request: HttpRequest, form: ComposeForm, *, status: int = 200, problem: dict[str, Any] | None = None
) -> HttpResponse:
    """The form: in the dock, or as a page of its own."""
    context = {"form": form, "limits": limits, "problem": problem}
    if request.htmx and request.htmx.target == "compose-dock":
        return render(request, "mail/_compose.html", context | {"docked": True}, status=status)
    rail = rail_context(mailbox_of(request), None)
    return render_page(request, "mail/compose.html", rail | context, status=status)


# --- what can be done with it


def _save(request: HttpRequest, form: ComposeForm) -> HttpResponse:
    if form.content.empty and not form.base and form.n <= 1:
        return _saved(request, form, None)
    try:
        return _saved(request, form, _keep(drafts_of(request), form))
    except (TooLarge, DraftChanged, DraftGone, AlreadySent) as refusal:
        return _refused(request, form, refusal)


def _send(request: HttpRequest, form: ComposeForm) -> HttpResponse:
    """Save, find the recipients, send. Whatever is refused, the text is saved first if it can be."""
    drafts, domain = drafts_of(request), settings.PENNCLOUD["DOMAIN"]
    try:
        draft = _keep(drafts, form)
        recipients = addresses.resolve(draft.content.typed, display_name, domain)
        delivery.send(drafts, draft.uid, draft.revision, recipients, domain)
    except addresses.BadRecipients as refusal:
        return _tell_saved(_invalid(request, form.with_errors(refusal.errors)), form.uid)
    except AlreadySent:
        pass  # by the first of two clicks, or by a try whose answer was lost: what was asked for is done
    except (TooLarge, DraftChanged, DraftGone) as refusal:
        return _refused(request, form, refusal)
    return _closed(request, "Message sent.")


def _discard(request: HttpRequest, form: ComposeForm) -> HttpResponse:
    """Move the draft to the trash, with what was typed last, so that undo brings all of it back."""
    drafts = drafts_of(request)
    try:
        if not form.content.empty:
            _keep(drafts, form)
    except (TooLarge, DraftChanged, AlreadySent) as refusal:
        return _refused(request, form, refusal)
    except DraftGone:
        return _closed(request, "Draft discarded.")
    if not drafts.discard(form.uid):
        return _closed(request, "Nothing to discard: the message was empty.")
    query = urlencode({"from": Folder.TRASH, "uid": form.uid})
    return _closed(request, "Draft moved to the trash.", f"{reverse('mail:undo')}?{query}")


def _fork(request: HttpRequest, form: ComposeForm) -> HttpResponse:
    """Keep the text of a form whose draft has moved on as a draft of its own, and go on with that."""
    fresh = form.as_new_draft()
    try:
        draft = _keep(drafts_of(request), fresh)
    except (TooLarge, NoSuchMessage) as refusal:
        if isinstance(refusal, TooLarge):
            return _refused(request, form, refusal)
        fresh = ComposeForm(fresh.uid, fresh.editor, "", 1, "", fresh.content)  # what it answered is deleted by now
        draft = _keep(drafts_of(request), fresh)
    return _saved(request, fresh, draft, forked=True)


def _keep(drafts: Drafts, form: ComposeForm) -> Draft:
    return drafts.save(form.uid, form.save, form.content, form.reply_to)


# --- answering


def _saved(request: HttpRequest, form: ComposeForm, draft: Draft | None, *, forked: bool = False) -> HttpResponse:
    if _by_script(request):
        in_sync, wanted = drafts_of(request).replicas(form.uid)
        context = {"form": form, "saved": _moment(draft), "in_sync": in_sync, "wanted": wanted, "forked": forked}
        response = render(request, "mail/_compose_answer.html", context)
        return response if draft is None else _tell_saved(response, draft.uid)
    flash(request, "Draft saved." if draft else "Nothing to save: the message is empty.")
    if draft is None:
        return redirect("mail:compose")
    return redirect(f"{reverse('mail:compose')}?draft={draft.uid}")


def _tell_saved(response: HttpResponse, uid: str) -> HttpResponse:
    """Tell the script that the server has what it sent, so that it need not send it again."""
    response["HX-Trigger"] = json.dumps({"mail:saved": {"uid": uid}})
    return response


def _invalid(request: HttpRequest, form: ComposeForm) -> HttpResponse:
    """422: what is wrong, at the fields. The text stays where it is."""
    if _by_script(request):
        return render(request, "mail/_compose_answer.html", {"form": form, "invalid": True}, status=422)
    return _form_page(request, form, status=422)


def _refused(request: HttpRequest, form: ComposeForm, refusal: Exception) -> HttpResponse:
    """422: the draft could not be saved from this form; why, and what can be done. The text stays where it is."""
    if isinstance(refusal, TooLarge):
        return _invalid(request, form.with_errors({refusal.field: [str(refusal)]}))
    problem: dict[str, Any] = {"kind": type(refusal).__name__, "uid": form.uid}
    if isinstance(refusal, DraftChanged):
        problem["saved"] = _moment(refusal.current)
    if _by_script(request):
        return render(request, "mail/_compose_answer.html", {"form": form, "problem": problem}, status=422)
    return _form_page(request, form, status=422, problem=problem)


def _closed(request: HttpRequest, sentence: str, undo_url: str | None = None) -> HttpResponse:
    """The form's work is done: the dock closes, a page of its own leads to the inbox."""
    if _by_script(request) and request.POST.get("docked"):
        response = toast(HttpResponse(status=204), sentence, undo_url)
        triggers = json.loads(response["HX-Trigger"]) | {"mail:closed": {}}
        response["HX-Trigger"] = json.dumps(triggers)
        return response
    flash(request, sentence, undo_url)
    if _by_script(request):
        response = HttpResponse(status=204)
        response["HX-Redirect"] = reverse("mail:inbox")
        return response
    return redirect("mail:inbox")


def _by_script(request: HttpRequest) -> bool:
    return bool(request.htmx) and request.htmx.target == "compose-status"


def _moment(draft: Draft | None) -> datetime | None:
    return datetime.fromtimestamp(draft.saved / 1000, UTC) if draft else None
