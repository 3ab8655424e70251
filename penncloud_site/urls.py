"""All addresses of the site."""

from __future__ import annotations

from django.urls import include, path
from django.views.generic import RedirectView

from penncloud_site.health import healthz

urlpatterns = [
    path("", RedirectView.as_view(url="/mail/", permanent=False)),
    path("accounts/", include("penncloud_site.accounts.urls")),
    path("mail/", include("mail.urls")),
    path("drive/", include("drive.urls")),
    path("console/", include("adminconsole.urls")),
    path("healthz", healthz, name="healthz"),
]

handler400 = "penncloud_site.error_pages.bad_request"
handler403 = "penncloud_site.error_pages.forbidden"
handler404 = "penncloud_site.error_pages.not_found"
handler500 = "penncloud_site.error_pages.server_error"
