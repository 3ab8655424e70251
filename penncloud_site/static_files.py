"""Static files under names that hold their hash, compressed beside them: browsers may keep them for ever."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.staticfiles.apps import StaticFilesConfig
from whitenoise.storage import CompressedManifestStaticFilesStorage


class SiteStaticFiles(StaticFilesConfig):
    """Django's app, told what `collectstatic` leaves out: of django-htmx, all but the minified htmx 2.

    Those files are served to nobody, and the comments in some of them look like imports of files that do not exist,
    which would end the collecting.
    """

    ignore_patterns: ClassVar[list[str]] = [
        *StaticFilesConfig.ignore_patterns,
        "htmx-2.js",
        "hx-*-2.js",
        "htmx-4*.js",
        "htmax-4*.js",
        "hx-*-4*.js",
        "htmx-2-compat-4*.js",
    ]


class HashedStorage(CompressedManifestStaticFilesStorage):
    """WhiteNoise's storage. Module scripts import one another by their hashed names too."""

    support_js_module_import_aggregation = True
