"""The console's pages about the cluster, and its levers. The data browser is in `data_views`.

Every view is for operators alone (`penncloud_site.access.operator`). A page has a live part, which htmx fetches again every
two seconds from the page's own address, asking for the element `live`: then only that part is rendered. What cannot be
reached is said in the page; no view of this module fails because the coordinator, the balancer or the supervisor is away.
"""

from __future__ import annotations

import logging
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from adminconsole import audit, machine
from adminconsole.consequences import Action, Consequences, foresee
from adminconsole.control import Order, Outcome, carry_out
from adminconsole.health import Health, assess, assess_stale, front_end_items
from adminconsole.observation import Observation, observer
from adminconsole.tables import condition_counts, figures, node_line, tablet_line, tablet_page
from kvstore.admin import Admin
from kvstore.errors import StoreError
from penncloud_site.access import operator
from penncloud_site.middleware import client_address
from penncloud_site.pages import flash, render_page
from penncloud_site.storage import store

ACTIONS_ON_OVERVIEW = 5

log = logging.getLogger(__name__)


@operator
@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    """Health in a sentence, what needs attention, figures, nodes, front ends."""
    seen = observer.observe()
    context = _front_ends()
    context["more_attention"] = front_end_items((one.address, one.healthy) for one in context.get("front_ends", ()))
    if seen.status is not None:
        context |= {
            "figures": figures(seen.status),
            "conditions": condition_counts(seen.status),
            "lines": [node_line(seen.status, node) for node in seen.status.nodes],
        }
    return _live_page(request, "overview", "Overview", seen, context)


@operator
@require_safe
def nodes(request: HttpRequest) -> HttpResponse:
    """All nodes."""
    seen = observer.observe()
    lines = [node_line(seen.status, node) for node in seen.status.nodes] if seen.status else []
    return _live_page(request, "nodes", "Nodes", seen, {"lines": lines})


@operator
@require_safe
def node(request: HttpRequest, node_id: str) -> HttpResponse:
    """One node: its figures, its tablets, its process, and the levers."""
    seen = observer.observe()
    context: dict[str, Any] = {"parent": "Nodes", "parent_url": reverse("console:nodes")} | _process(node_id)
    if seen.status is not None:
        found = seen.status.node(node_id)
        if found is None:
            raise Http404(f"there is no node {node_id!r}")
        context |= {
            "line": node_line(seen.status, found),
            "tablets": tablet_page(seen.status, node=node_id),
            "actions": [foresee(seen.status, node_id, action) for action in _offered(context)],
        }
    return _live_page(request, "node", node_id, seen, context)


@operator
@require_safe
def tablets(request: HttpRequest) -> HttpResponse:
    """Tablets, fifty a page; `?only=attention` those that are not well, `?node=…` those of one node."""
    seen = observer.observe()
    only, node_id = request.GET.get("only", ""), request.GET.get("node", "")
    context: dict[str, Any] = {"only": only, "node_id": node_id, "filter": "console/parts/tablets_filter.html"}
    if seen.status is not None:
        number = request.GET.get("page", "1")
        page = int(number) if number.isascii() and number.isdigit() and len(number) < 7 else 1
        context["tablets"] = tablet_page(seen.status, only_attention=only == "attention", node=node_id, page=page)
        context["nodes"] = seen.status.nodes
    return _live_page(request, "tablets", "Tablets", seen, context)


@operator
@require_safe
def tablet(request: HttpRequest, tablet_id: int) -> HttpResponse:
    """One tablet: its range, epoch, replicas, and how far those that learn have come."""
    seen = observer.observe()
    if seen.status is not None and seen.status.tablet(tablet_id) is None:
        # it may be the new half of one that was split a moment ago, by way of another front end
        seen = observer.observe(fresh_s=0.0)
    context: dict[str, Any] = {"parent": "Tablets", "parent_url": reverse("console:tablets")}
    if seen.status is not None:
        found = seen.status.tablet(tablet_id)
        if found is None:
            raise Http404(f"there is no tablet {tablet_id}")
        context["line"] = tablet_line(seen.status, found)
        context["others"] = [node.id for node in seen.status.nodes if node.id not in found.replicas]
    return _live_page(request, "tablet", f"Tablet {tablet_id}", seen, context)


@operator
@require_safe
def front_ends(request: HttpRequest) -> HttpResponse:
    """The front ends as the balancer sees them."""
    return _live_page(request, "front_ends", "Front ends", observer.observe(), _front_ends())


@operator
@require_safe
def activity(request: HttpRequest) -> HttpResponse:
    """What operators did, the newest first."""
    page = audit.newest(store(), before=request.GET.get("before") or None)
    return render_page(request, "console/activity.html", {"product": "console", "section": "activity", "page": page})


@operator
@require_safe
def latest_activity(request: HttpRequest) -> HttpResponse:
    """The last few actions, for the overview: a fragment of its own, so that a store which is away does not hold up the
    rest of that page."""
    try:
        entries = audit.newest(store(), limit=ACTIONS_ON_OVERVIEW).entries
    except StoreError as error:
        return render(request, "console/latest_activity.html", {"problem": f"{type(error).__name__}: {error}"})
    return render(request, "console/latest_activity.html", {"entries": entries})


@operator
@require_http_methods(["GET", "HEAD", "POST"])
def act(request: HttpRequest, node_id: str, action: str) -> HttpResponse:
    """Says what an action would do, and does it when the form that says so is sent.

    The form carries the fingerprint of the warnings that were shown: if the cluster has changed meanwhile, the new ones
    are shown instead of acting.
    """
    if action not in list(Action):
        raise Http404(f"there is no action {action!r}")
    seen = observer.observe(fresh_s=0.0)
    if seen.status is None or seen.problem:
        return _confirm(
            request, node_id, Action(action), None, health_of(seen), status=200 if request.method != "POST" else 503
        )
    planned = foresee(seen.status, node_id, Action(action))
    if planned is None:
        raise Http404(f"there is no node {node_id!r}")
    if request.method != "POST":
        return _confirm(request, node_id, planned.action, planned, health_of(seen))
    problem = _objection(request, planned)
    if problem:
        return _confirm(request, node_id, planned.action, planned, health_of(seen), problem=problem, status=409)
    who, address = request.user.get_username(), client_address(request)
    outcome = carry_out(
        Order(planned.action, node_id, who, address),
        Admin(store()),
        machine.Supervisor(),
        lambda entry: audit.write(store(), entry),
    )
    observer.expire()
    say(request, outcome)
    return HttpResponseRedirect(reverse("console:node", args=[node_id]))


NOT_RECORDED = "The store did not take the entry for the activity page in time; the front end's log has it."


def say(request: HttpRequest, outcome: Outcome) -> None:
    """Have the next page say what came of an action."""
    message = outcome.message if outcome.recorded else f"{outcome.message} {NOT_RECORDED}"
    level = "success" if outcome.done and outcome.recorded else "error" if not outcome.done else "warning"
    flash(request, message, level=level)


def _objection(request: HttpRequest, planned: Consequences) -> str:
    """Why the form may not be carried out as it is; empty if it may."""
    if planned.refusal:
        return planned.refusal
    if request.POST.get("seen") != planned.fingerprint:
        return "The cluster has changed since you looked: read what would happen now, and confirm again."
    if planned.needs_typing and request.POST.get("typed", "").strip() != planned.node:
        return f"Type {planned.node} to confirm: this makes data unavailable."
    return ""


def _confirm(
    request: HttpRequest,
    node_id: str,
    action: Action,
    planned: Consequences | None,
    health: Health,
    *,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    context = {
        "product": "console",
        "section": "nodes",
        "node_id": node_id,
        "action": action,
        "planned": planned,
        "health": health,
        "problem": problem,
    }
    return render_page(request, "console/confirm.html", context, status=status)


def health_of(seen: Observation) -> Health:
    """The health as far as it was seen."""
    if seen.status is not None and not seen.problem:
        return assess(seen.status)
    return assess_stale(seen.status, seen.age_s, seen.problem)


def _live_page(
    request: HttpRequest, page: str, heading: str, seen: Observation, context: dict[str, Any]
) -> HttpResponse:
    """The page, or its live part alone when htmx asks for that."""
    section = {"node": "nodes", "tablet": "tablets"}.get(page, page)
    context |= {
        "product": "console",
        "section": section,
        "heading": heading,
        "seen": seen,
        "health": health_of(seen),
        "live": f"console/live/{page}.html",
        "brief_health": page != "overview",
    }
    if request.htmx and request.htmx.target == "live":
        return render(request, "console/live.html", context)
    return render_page(request, "console/page.html", context)


def _front_ends() -> dict[str, Any]:
    try:
        return {"front_ends": machine.front_ends()}
    except machine.Unreachable as error:
        return {"front_ends_problem": str(error)}


def _process(node_id: str) -> dict[str, Any]:
    try:
        return {"process": machine.Supervisor().process(node_id)}
    except machine.Unreachable as error:
        return {"process_problem": str(error)}


def _offered(context: dict[str, Any]) -> list[Action]:
    """The actions whose buttons are shown: what the supervisor carries out only if it knows the process."""
    process: machine.Process | None = context.get("process")
    by_coordinator = [Action.DISABLE, Action.ENABLE]
    if process is None:
        return by_coordinator
    return [*by_coordinator, Action.START] if process.is_down else [*by_coordinator, Action.RESTART, Action.KILL]
