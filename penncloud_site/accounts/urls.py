"""Addresses of accounts."""

from __future__ import annotations

from django.urls import path

from penncloud_site.accounts import views

app_name = "accounts"
urlpatterns = [
    path("", views.account, name="account"),
    path("login/", views.log_in, name="login"),
    path("logout/", views.log_out, name="logout"),
    path("signup/", views.sign_up, name="signup"),
    path("password/", views.change_password, name="password"),
    path("sessions/end/", views.end_other_sessions, name="end_other_sessions"),
    path("sessions/<slug:uid>/end/", views.end_session, name="end_session"),
]
