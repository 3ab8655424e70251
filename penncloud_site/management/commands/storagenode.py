"""`manage.py storagenode`: runs one storage node in the foreground. Its options: `manage.py storagenode --help`."""

from __future__ import annotations

from penncloud_site.management.process import ProcessCommand


class Command(ProcessCommand):
    help = "Runs one storage node in the foreground, the same as `python -m kvstore node`."
    module = "kvstore"
    leading = ("node",)
