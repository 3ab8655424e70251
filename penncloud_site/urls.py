"""All addresses of the site. (`/healthz` is answered by the front end's server, before Django.)"""

from __future__ import annotations

from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(url="/mail/", permanent=False)),
    path("accounts/", include("penncloud_site.accounts.urls")),
    path("mail/", include("mail.urls")),
    path("drive/", include("drive.urls")),
    path("console/", include("adminconsole.urls")),
]

handler400 = "penncloud_site.error_pages.bad_request"
handler403 = "penncloud_site.error_pages.forbidden"
handler404 = "penncloud_site.error_pages.not_found"
handler500 = "penncloud_site.error_pages.server_error"
