"""Configuration: what is wrong is named, and nothing serves without the key that all front ends share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port, validate_host
from django.test import override_settings

from kvstore.errors import Unavailable
from penncloud_site import environment, workers
from penncloud_site.middleware import ForwardedMiddleware

NAME = "PENNCLOUD_TRIED"


@pytest.mark.parametrize(
    ("value", "read", "words"),
    [
        ("maybe", lambda: environment.flag(NAME, False), "must be 1 or 0"),
        ("ten", lambda: environment.number(NAME, 1, 0, 5), "must be a number"),
        ("6", lambda: environment.number(NAME, 1, 0, 5), "between 0 and 5"),
        ("nan", lambda: environment.number(NAME, 1, 0, 5), "between 0 and 5"),
    ],
)
def test_a_bad_value_is_named_with_what_it_must_be(
    monkeypatch: pytest.MonkeyPatch, value: str, read: object, words: str
) -> None:
    monkeypatch.setenv(NAME, value)
    with pytest.raises(ImproperlyConfigured, match=f"{NAME} is '{value}'.*{words}"):
        read()  # type: ignore[operator]


def test_what_is_set_is_taken_and_what_is_not_has_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.words(NAME, ["a"]) == ["a"]
    assert environment.flag(NAME, True) is True
    assert environment.number(NAME, 2.5, 0, 5) == 2.5
    monkeypatch.setenv(NAME, "one, two ,")
    assert environment.words(NAME, ["a"]) == ["one", "two"]
    monkeypatch.setenv(NAME, "~/here")
    assert environment.path(NAME, Path("/x")) == Path.home() / "here"


def serve(**variables: str) -> subprocess.CompletedProcess[str]:
    """Import what a front end serves, in a process of its own with these environment variables."""
    return subprocess.run(
        [sys.executable, "-c", "import penncloud_site.wsgi; print('ready')"],
        cwd=settings.BASE_DIR, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_without_the_shared_key_it_does_not_serve_and_says_which_file(tmp_path: Path) -> None:
    missing = tmp_path / "secret.key"
    done = serve(PENNCLOUD_SECRET_KEY_FILE=str(missing))
    assert done.returncode != 0
    assert f"There is no secret key in {missing}" in done.stderr
    missing.write_text("too short")
    assert "fewer than 32 characters" in serve(PENNCLOUD_SECRET_KEY_FILE=str(missing)).stderr
    missing.write_text("k" * 32)
    assert serve(PENNCLOUD_SECRET_KEY_FILE=str(missing)).stdout == "ready\n"


@pytest.mark.parametrize(
    ("peer", "forwarded", "visitor"),
    [
        ("127.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("127.0.0.1", "203.0.113.5, 192.0.2.1", "192.0.2.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("192.0.2.66", "192.0.2.1", "192.0.2.66"),
    ],
)
def test_only_the_balancer_is_believed(peer: str, forwarded: str, visitor: str) -> None:
    request = HttpRequest()
    request.META = {"REMOTE_ADDR": peer, "HTTP_X_FORWARDED_FOR": forwarded, "HTTP_X_FORWARDED_PROTO": "https"}
    ForwardedMiddleware(lambda request: HttpResponse())(request)
    assert request.META["REMOTE_ADDR"] == visitor
    assert request.is_secure() is (peer == "127.0.0.1")


def test_where_only_https_leads_in_the_last_stretch_inside_does_not_count() -> None:
    request = HttpRequest()
    request.META = {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_PROTO": "http"}
    with override_settings(HTTPS=True):
        ForwardedMiddleware(lambda request: HttpResponse())(request)
    assert request.is_secure(), "else HSTS is never sent, and every form is refused for its Origin"


@pytest.mark.parametrize(
    ("bind", "host", "served"),
    [
        ("192.0.2.7", "192.0.2.7:8000", True),
        ("192.0.2.7", "192.0.2.8:8000", False),
        ("127.0.0.1", "192.0.2.7:8000", False),
        ("2001:db8::7", "[2001:db8::7]:8000", True),
        ("0.0.0.0", "evil.example", False),
    ],
)
def test_the_site_may_be_asked_for_by_the_address_it_listens_on(bind: str, host: str, served: bool) -> None:
    assert validate_host(split_domain_port(host)[0], environment.own_addresses(bind)) is served


def test_listening_everywhere_allows_the_addresses_of_this_machine_alone() -> None:
    assert all(not name.startswith(".") and name != "*" for name in environment.own_addresses("0.0.0.0"))
    assert environment.own_addresses("") == []


def test_the_worker_outlives_a_store_that_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away() -> int:
        raise Unavailable("no primary")

    monkeypatch.setattr("penncloud_site.sessions.clear_expired", away)
    workers.clear_expired()
    assert "no primary" in caplog.text
    monkeypatch.setattr("penncloud_site.sessions.clear_expired", lambda: 3)
    monkeypatch.setattr("penncloud_site.cache.clear_expired", lambda: 1)
    with caplog.at_level("INFO"):
        workers.clear_expired()
    assert "removed 3 expired sessions and 1 expired cache entries" in caplog.text
