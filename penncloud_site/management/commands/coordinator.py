"""`manage.py coordinator`: runs the coordinator in the foreground. Its options: `manage.py coordinator --help`."""

from __future__ import annotations

from penncloud_site.management.process import ProcessCommand


class Command(ProcessCommand):
    help = "Runs the coordinator in the foreground, the same as `python -m kvstore coordinator`."
    module = "kvstore"
    leading = ("coordinator",)
