"""`manage.py frontend`: runs one front end in the foreground. Its options: `manage.py frontend --help`."""

from __future__ import annotations

from penncloud_site.management.process import ProcessCommand


class Command(ProcessCommand):
    help = "Runs one front end in the foreground."
    module = "penncloud_site.frontend"
