"""Addresses of mail."""

from __future__ import annotations

from django.urls.resolvers import URLPattern

app_name = "mail"
urlpatterns: list[URLPattern] = []
