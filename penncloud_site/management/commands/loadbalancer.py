"""`manage.py loadbalancer`: runs one load balancer in the foreground. Its options: `manage.py loadbalancer --help`."""

from __future__ import annotations

from penncloud_site.management.process import ProcessCommand


class Command(ProcessCommand):
    help = "Runs one load balancer in the foreground."
    module = "penncloud_site.loadbalancer"
