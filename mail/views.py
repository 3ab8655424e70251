"""The pages of mail: lists, reading, and what is done to messages. Composing is in `mail.compose_views`.

A view parses, asks the domain and renders. Everything it reads or changes belongs to `access.mailbox_of(request)`.
"""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_POST, require_safe

from mail import limits, schema
from mail.access import mailbox_of
from mail.actions import LABELS, OFFERED, Action, Done, Undo, carry_out
from mail.mailbox import Line, Mailbox, NoSuchMessage, OnItsWay
from mail.reading import reading
from mail.schema import Folder
from penncloud_site.access import member
from penncloud_site.pages import flash, render_page, toast

TITLES = {
    Folder.INBOX: ("Inbox", "inbox"),
    Folder.SENT: ("Sent", "send"),
    Folder.DRAFTS: ("Drafts", "pencil"),
    Folder.ARCHIVE: ("Archive", "archive"),
    Folder.TRASH: ("Trash", "trash"),
}
"""The folders in the order of the rail: title and icon."""

MOST_UNDONE = 40
"""Messages whose undo fits into the cookie that carries a message to the next page."""


@member
@require_safe
def folder_page(request: HttpRequest, folder: Folder) -> HttpResponse:
    """A page of a folder, newest first."""
    return _list_page(request, folder, _place(request.GET))


@member
@require_safe
def message_page(request: HttpRequest, folder: Folder, uid: str) -> HttpResponse:
    """A message in its conversation. What was unread in it is read from now on."""
    mailbox = mailbox_of(request)
    try:
        conversation = reading(mailbox, uid)
    except NoSuchMessage:
        raise Http404("no such message") from None
    if conversation.folder is not folder:
        return redirect("mail:message", conversation.folder, uid)
    if folder is Folder.DRAFTS:
        return redirect(f"{reverse('mail:compose')}?draft={uid}")
    for place, uids in conversation.unread.items():
        mailbox.mark(place, uids, unread=False)
    newer, older = mailbox.neighbours(folder, uid)
    context = {
        "conversation": conversation,
        "uid": uid,
        "newer": newer,
        "older": older,
        "place": _place(request.GET),
        "actions": _offers(folder, without=frozenset({Action.READ})),
    }
    return render_page(request, "mail/message.html", rail_context(mailbox, folder) | context)


@member
@require_safe
def card(request: HttpRequest, uid: str) -> HttpResponse:
    """The inside of one card of a conversation, fetched when it is opened."""
    try:
        message = mailbox_of(request).message(uid)
    except NoSuchMessage:
        raise Http404("no such message") from None
    return render(request, "mail/_card_body.html", {"message": message})


@member
@require_POST
def act(request: HttpRequest) -> HttpResponse:
    """Do something to the selected messages of a folder, or to the one whose button was pressed; then its list."""
    folder, action, uids = _parse_action(request.POST)
    if not uids:
        return _answer(request, folder, Done("Select one or more messages first.", changed=False))
    mailbox = mailbox_of(request)
    if action is Action.PURGE and "sure" not in request.POST:
        context = {"uids": uids, "number": len(uids), "folder": folder}
        return render_page(request, "mail/purge.html", rail_context(mailbox, folder) | context)
    try:
        done = carry_out(mailbox, action, folder, uids)
    except OnItsWay:
        done = Done(
            "A message is still on its way to its recipients; delete it for good a little later.", changed=False
        )
    return _answer(request, folder, done)


@member
@require_POST
def undo(request: HttpRequest) -> HttpResponse:
    """Move messages back; the address says which (it is what `act` made)."""
    folder = _folder(request.GET.get("from", ""))
    target = _folder(request.GET["to"]) if "to" in request.GET else None
    moved = mailbox_of(request).move(folder, _uids(request.GET.getlist("uid")), target)
    done = Done(
        "Undone." if moved else "It could not be undone: the messages are elsewhere by now.", changed=bool(moved)
    )
    if request.htmx:
        return _say(HttpResponse(status=204), done)
    flash(request, done.sentence, level=_level(done))
    return redirect("mail:folder", target or Folder.INBOX)


@member
def empty_trash(request: HttpRequest) -> HttpResponse:
    """Ask, with the number, whether to delete all that is in the trash for good; when posted to, do it."""
    mailbox = mailbox_of(request)
    if request.method != "POST":
        context = {"number": mailbox.count(Folder.TRASH), "everything": True, "folder": Folder.TRASH}
        return render_page(request, "mail/purge.html", rail_context(mailbox, Folder.TRASH) | context)
    deleted, kept = mailbox.empty_trash()
    sentence = f"{deleted:,} {'message' if deleted == 1 else 'messages'} deleted for good."
    if kept:
        sentence += f" {kept:,} still on the way to recipients had to stay."
    return _answer(request, Folder.TRASH, Done(sentence))


def rail_context(mailbox: Mailbox, current: Folder | None) -> dict[str, Any]:
    """What every page of mail shows at the left: the folders, with unread messages and drafts counted."""
    counts = mailbox.counts()
    numbers = {Folder.INBOX: counts.unread, Folder.DRAFTS: counts.drafts}
    return {
        "product": "mail",
        "current": current,
        "folders": [
            {"folder": folder, "title": title, "icon": icon, "count": _capped(numbers.get(folder, 0))}
            for folder, (title, icon) in TITLES.items()
        ],
    }


# --- answering


def _list_page(request: HttpRequest, folder: Folder, place: dict[str, str]) -> HttpResponse:
    mailbox = mailbox_of(request)
    page = mailbox.page(folder, before=place.get("before", ""), after=place.get("after", ""))
    place = place if page.newer else {}
    first = max(1, int(place.get("at", "1")))
    last = first + len(page.lines) - 1
    context = {
        "folder": folder,
        "title": TITLES[folder][0],
        "lines": page.lines,
        "first": first,
        "last": last,
        "total": _total(mailbox, folder, last) if page.older else str(last),
        "actions": _offers(folder),
        "place": place,
        "here": urlencode(place),
        **_turns(page.lines, page.newer, page.older, first),
    }
    return render_page(request, "mail/list.html", rail_context(mailbox, folder) | context)


def _total(mailbox: Mailbox, folder: Folder, last: int) -> str:
    """How many messages a folder has that goes on after its message number `last`; "" where counting would take long."""
    number = mailbox.count(folder, limits.COUNTED + 1) if last < limits.COUNTED else 0
    return _capped(number) if number > last else ""


def _turns(lines: list[Line], newer: bool, older: bool, first: int) -> dict[str, str]:
    """The queries of the pages before and after this one, "" where there is none."""
    turns = {"newer": "", "older": ""}
    if lines and newer:
        turns["newer"] = urlencode({"after": lines[0].uid, "at": max(1, first - limits.PAGE)})
    if lines and older:
        turns["older"] = urlencode({"before": lines[-1].uid, "at": first + len(lines)})
    return turns


def _answer(request: HttpRequest, folder: Folder, done: Done) -> HttpResponse:
    """After an action: say what was done and show the list of `folder` where the visitor was in it."""
    place = _place(request.POST)
    query = f"?{urlencode(place)}" if place else ""
    address = reverse("mail:folder", args=[folder]) + query
    if not request.htmx:
        undo_url = _undo_url(done.undo) if done.undo and len(done.undo.uids) <= MOST_UNDONE else None
        flash(request, done.sentence, undo_url, _level(done))
        return HttpResponseRedirect(address)
    response = _say(_list_page(request, folder, place), done)
    if request.htmx.current_url_abs_path != address:
        response["HX-Push-Url"] = address
    return response


def _say(response: HttpResponse, done: Done) -> HttpResponse:
    return toast(response, done.sentence, _undo_url(done.undo) if done.undo else None, _level(done))


def _level(done: Done) -> str:
    return "success" if done.changed else "warning"


def _undo_url(undo: Undo) -> str:
    query: list[tuple[str, str]] = [("from", undo.folder)]
    if undo.target is not None:
        query.append(("to", undo.target))
    return f"{reverse('mail:undo')}?{urlencode(query + [('uid', uid) for uid in undo.uids])}"


def _offers(folder: Folder, without: frozenset[Action] = frozenset()) -> list[dict[str, Any]]:
    """The actions of a folder as buttons; all but `without`."""
    return [
        {"action": action, "label": LABELS[action][0], "icon": LABELS[action][1]}
        for action in OFFERED[folder]
        if action not in without
    ]


def _capped(number: int) -> str:
    if number > limits.COUNTED:
        return f"{limits.COUNTED}+"
    return str(number) if number else ""


# --- parsing


def _parse_action(data: QueryDict) -> tuple[Folder, Action, list[str]]:
    """Folder, action and uids of a form; a row's own button (`one=<action>:<uid>`) goes before the selection."""
    name, uids = data.get("action", ""), data.getlist("uid")
    if "one" in data:
        name, _, uid = data["one"].partition(":")
        uids = [uid]
    folder = _folder(data.get("folder", ""))
    try:
        action = Action(name)
    except ValueError:
        raise Http404("no such action") from None
    if action not in OFFERED[folder]:
        raise Http404("this folder does not offer that")
    return folder, action, _uids(uids)


def _uids(texts: list[str]) -> list[str]:
    uids = list(dict.fromkeys(texts))
    if len(uids) > limits.MAX_SELECTION or not all(schema.is_uid(uid) for uid in uids):
        raise Http404("not a selection of messages")
    return uids


def _folder(name: str) -> Folder:
    try:
        return Folder(name)
    except ValueError:
        raise Http404("no such folder") from None


def _place(data: QueryDict) -> dict[str, str]:
    """Where in a list the visitor is: `before` or `after` a uid, and `at` which number; what is malformed is left out."""
    place = {name: data[name] for name in ("before", "after") if schema.is_uid(data.get(name, ""))}
    at = data.get("at", "")
    if place and at.isdecimal() and len(at) <= 9:
        place["at"] = str(int(at))
    return place
