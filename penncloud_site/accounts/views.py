"""Signing up, logging in and out, one's own account."""

from __future__ import annotations

from django.contrib import auth
from django.contrib.auth.views import LoginView
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from penncloud_site import sessions
from penncloud_site.access import member
from penncloud_site.accounts.forms import ChangePasswordForm, LogInForm, ProfileForm, SignUpForm
from penncloud_site.accounts.schema import session_uid
from penncloud_site.pages import flash, render_page

BACKEND = "penncloud_site.accounts.backends.StoreBackend"

log_in = LoginView.as_view(
    authentication_form=LogInForm, template_name="accounts/log_in.html", redirect_authenticated_user=True
)


def _where_to_next(request: HttpRequest) -> str:
    """The page asked for before signing up, if it is one of ours."""
    wanted = request.POST.get("next", "") or request.GET.get("next", "")
    ours = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if ours else "/"


@sensitive_post_parameters()
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_up(request: HttpRequest) -> HttpResponse:
    """Make an account and log it in."""
    if request.user.is_authenticated:
        return redirect(_where_to_next(request))
    form = SignUpForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        user = form.save()
        if user is not None:
            auth.login(request, user, backend=BACKEND)
            flash(request, f"Welcome to PennCloud, {user.get_short_name()}.")
            return redirect(_where_to_next(request))
    return render_page(request, "accounts/sign_up.html", {"form": form, "next": _where_to_next(request)})


@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    """End this session."""
    auth.logout(request)
    flash(request, "You are logged out.", level="info")
    return redirect("accounts:login")


@member
@require_http_methods(["GET", "HEAD", "POST"])
def account(request: HttpRequest) -> HttpResponse:
    """The visitor's own account: the name others see, the password, the open sessions."""
    form = ProfileForm(request.POST or None, initial={"display_name": request.user.display_name})
    if request.method == "POST" and form.is_valid():
        request.user.display_name = form.cleaned_data["display_name"]
        request.user.save(update_fields=["display_name"])
        flash(request, "Your name is saved.")
        return redirect("accounts:account")
    context = {
        "product": "account",
        "form": form,
        "open_sessions": sessions.sessions_of(request.user.username),
        "this_session": session_uid(request.session.session_key),
    }
    return render_page(request, "accounts/account.html", context)


@sensitive_post_parameters()
@member
@require_http_methods(["GET", "HEAD", "POST"])
def change_password(request: HttpRequest) -> HttpResponse:
    """Change the password; every other session of the user ends, this one goes on."""
    form = ChangePasswordForm(request.user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        user = form.save()
        if user is not None:
            auth.update_session_auth_hash(request, user)
            ended = sessions.end_others(user.username, request.session.session_key)
            flash(request, "Your password is changed." + _ended(ended))
            return redirect("accounts:account")
    return render_page(request, "accounts/change_password.html", {"product": "account", "form": form})


@member
@require_POST
def end_session(request: HttpRequest, uid: str) -> HttpResponse:
    """Log out one other session of the visitor."""
    if uid == session_uid(request.session.session_key):
        return log_out(request)
    if not sessions.end_one_of(request.user.username, uid):
        raise Http404
    flash(request, "That session is logged out.")
    return redirect("accounts:account")


@member
@require_POST
def end_other_sessions(request: HttpRequest) -> HttpResponse:
    """Log out everywhere but here."""
    ended = sessions.end_others(request.user.username, request.session.session_key)
    flash(request, _ended(ended).strip() or "There was no other session.")
    return redirect("accounts:account")


def _ended(count: int) -> str:
    if not count:
        return ""
    return " One other session was logged out." if count == 1 else f" {count} other sessions were logged out."
