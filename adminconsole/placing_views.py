"""The console's levers on tablets, and on what the cluster does by itself. The pages that show them are in `views`.

Every view is for operators alone. A lever is a page that asks what is wanted, says what that would do, and does it when the
form that says so is sent: with the fingerprint of the warnings that were shown, so that it holds only for those.
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from adminconsole import audit, placing
from adminconsole.control import write_down_and_do
from adminconsole.observation import observer
from adminconsole.placing import Plan, Wish
from adminconsole.status import Status, Tablet
from adminconsole.views import health_of, say
from adminconsole.wording import readable_key
from kvstore import rebuild_after, split_above
from kvstore.admin import Admin
from kvstore.errors import BadRequest
from penncloud_site.access import operator
from penncloud_site.middleware import client_address
from penncloud_site.pages import render_page
from penncloud_site.storage import store

CHANGED = "The cluster has changed since you looked: read what would happen now, and confirm again."


@operator
@require_http_methods(["GET", "HEAD", "POST"])
def place(request: HttpRequest, tablet_id: int, wish: str) -> HttpResponse:
    """Says what splitting a tablet or moving a replica of it would do, and does it when the form that says so is sent."""
    if wish not in list(Wish):
        raise Http404(f"there is no action {wish!r}")
    seen = observer.observe(fresh_s=0.0)
    posted = request.method == "POST"
    context: dict[str, object] = {"tablet_id": tablet_id, "wish": Wish(wish), "health": health_of(seen)}
    if seen.status is None or seen.problem:
        return _page(request, "place", context, status=503 if posted else 200)
    tablet = seen.status.tablet(tablet_id)
    if tablet is None:
        raise Http404(f"there is no tablet {tablet_id}")
    fields = request.POST if posted else request.GET
    row, source, target = fields.get("row", ""), fields.get("from", ""), fields.get("to", "")
    context |= {"tablet": tablet, "row": row, "source": source, "target": target, "nodes": _takers(seen.status, tablet)}
    plan = None
    if wish == Wish.SPLIT:
        plan = placing.foresee_split(seen.status, tablet, row)
    elif wish == Wish.WITHDRAW:
        plan = placing.foresee_withdrawal(seen.status, tablet)
    elif source or target:
        plan = placing.foresee_move(seen.status, tablet, source, target)
    context["plan"] = plan
    if not posted:
        return _page(request, "place", context)
    if plan is None or plan.refusal or request.POST.get("seen") != plan.fingerprint:
        problem = plan.refusal if plan is not None and plan.refusal else CHANGED
        return _page(request, "place", context | {"problem": problem}, status=409)
    return _carry_out(request, plan)


def _takers(status: Status, tablet: Tablet) -> list[tuple[str, int | None]]:
    """The nodes that a replica of the tablet could move to, and how many replicas each holds."""
    return [(node.id, node.replica_of) for node in status.nodes if node.id not in tablet.replicas]


def _carry_out(request: HttpRequest, plan: Plan) -> HttpResponse:
    admin = Admin(store())
    tablet = plan.tablet
    shown = reverse("console:tablet", args=[tablet])

    def deed() -> str:
        nonlocal shown
        if plan.wish is Wish.SPLIT:
            made = admin.split(tablet, plan.row or None, plan.range_version)
            shown = reverse("console:tablet", args=[made.child])
            return f"Tablet {tablet} was split: tablet {made.child} begins at “{readable_key(made.row)}”."
        if plan.wish is Wish.MOVE:
            admin.move(tablet, plan.source, plan.target)
            return f"A replica of tablet {tablet} is moving from {plan.source} to {plan.target}."
        admin.withdraw_move(tablet)
        return f"The replica of tablet {tablet} stays on {plan.source}."

    doing = {Wish.SPLIT: "Splitting", Wish.MOVE: "Moving a replica of", Wish.WITHDRAW: "Withdrawing the move of"}[
        plan.wish
    ]
    _do(request, plan.wish, plan.target_in_words, deed, f"{doing} tablet {tablet}")
    return HttpResponseRedirect(shown)


def _do(request: HttpRequest, action: str, target: str, deed: Callable[[], str], doing: str) -> None:
    """Do it, write it down, and have the next page say what came of it."""
    who, address = request.user.get_username(), client_address(request)
    entry = audit.Entry(who, action, target, "asked", address, audit.new_column())
    outcome = write_down_and_do(entry, deed, doing, lambda entry: audit.write(store(), entry))
    observer.expire()
    say(request, outcome)


# ---------------------------------------------------------------- what the cluster does by itself


@operator
@require_http_methods(["GET", "HEAD", "POST"])
def by_itself(request: HttpRequest) -> HttpResponse:
    """What the cluster does by itself, and when: shown, and changed."""
    seen = observer.observe(fresh_s=0.0)
    cluster = seen.status.cluster if seen.status is not None and not seen.problem else None
    context: dict[str, object] = {"health": health_of(seen), "cluster": cluster}
    if cluster is not None:
        context["split_above"] = _as_written(cluster.split_above)
    if request.method != "POST":
        return _page(request, "by_itself", context)
    if cluster is None:
        return _page(request, "by_itself", context, status=503)
    setting, value = request.POST.get("setting", ""), request.POST.get("value", "").strip()
    admin = Admin(store())
    try:
        change = _change(admin, setting, value)
    except BadRequest as error:
        return _page(
            request, "by_itself", context | {"setting": setting, "value": value, "problem": str(error)}, status=400
        )
    words = _IN_WORDS[setting]

    def deed() -> str:
        change()
        return f"{words}: {value} from now on."

    _do(request, setting, value, deed, f"Changing “{words}”")
    return HttpResponseRedirect(reverse("console:by_itself"))


_IN_WORDS = {
    "rebuild-after": "Replicas of a gone node are rebuilt elsewhere after (seconds)",
    "split-above": "Tablets are split above",
    "spread": "Data spreads by itself",
}


def _change(admin: Admin, setting: str, value: str) -> Callable[[], None]:
    """What carries the change out; `BadRequest` if there is no such setting, or it cannot have that value."""
    if setting == "rebuild-after":
        seconds = rebuild_after.parse(value)
        return lambda: admin.rebuild_after(seconds)
    if setting == "split-above":
        size = split_above.parse(value)
        return lambda: admin.split_above(size)
    if setting == "spread" and value in ("on", "off"):
        return lambda: admin.spread(value == "on")
    raise BadRequest(f"{setting!r} cannot be {value!r}")


def _as_written(size: int | None) -> str:
    """A size as `split_above.parse` reads it."""
    if size is None:
        return split_above.NEVER
    for unit, letter in ((1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")):
        if size % unit == 0:
            return f"{size // unit}{letter}"
    return str(size)


def _page(request: HttpRequest, name: str, context: dict[str, object], *, status: int = 200) -> HttpResponse:
    section = {"place": "tablets", "by_itself": "overview"}[name]
    about = {"product": "console", "section": section, **context}
    return render_page(request, f"console/{name}.html", about, status=status)
