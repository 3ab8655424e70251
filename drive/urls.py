"""Addresses of drive."""

from __future__ import annotations

from django.urls.resolvers import URLPattern

app_name = "drive"
urlpatterns: list[URLPattern] = []
