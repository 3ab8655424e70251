"""The WSGI application a front end serves.

Importing it is the moment at which the site must be able to serve: without the secret key that all front ends share,
sessions and forms of the others would be refused, so it says so and does not start.
"""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "penncloud_site.settings")

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application


def require_secret_key() -> None:
    """Raise `ImproperlyConfigured`, naming the file, when there is no secret key to serve with."""
    try:
        key = settings.SECRET_KEY
    except ImproperlyConfigured:
        key = ""
    if not key:
        raise ImproperlyConfigured(
            f"There is no secret key in {settings.SECRET_KEY_FILE}. All front ends must share one: "
            "let `manage.py cluster` write it, or set PENNCLOUD_SECRET_KEY_FILE to a file of 32 characters or more."
        )


require_secret_key()
application = get_wsgi_application()
