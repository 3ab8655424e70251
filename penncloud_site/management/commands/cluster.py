"""`manage.py cluster`: run a whole cluster on this machine, until Ctrl-C."""

from __future__ import annotations

import dataclasses
import sys
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from kvstore import rebuild_after
from kvstore import settings as store_settings
from kvstore.errors import BadRequest
from kvstore.storage.options import scrub_period
from penncloud_site.supervisor import options as defaults
from penncloud_site.supervisor.addresses import port, positive
from penncloud_site.supervisor.errors import CannotStart
from penncloud_site.supervisor.options import ClusterOptions
from penncloud_site.supervisor.startup import run


def grace(text: str) -> str:
    """A time as `kvstore.rebuild_after` reads it, as it was written; a `type=` function."""
    try:
        rebuild_after.parse(text)
    except BadRequest as error:
        raise ArgumentTypeError(str(error)) from error
    return text


class Command(BaseCommand):
    help = "Runs a cluster on this machine: coordinator, storage nodes, front ends and load balancer."
    requires_system_checks: list[str] = []  # noqa: RUF012  (declared so by Django)

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("--nodes", type=positive, help=f"storage nodes (default: as before, at first {defaults.DEFAULT_NODES})")
        add("--frontends", type=positive, default=defaults.DEFAULT_FRONTENDS, help="front ends (default: %(default)s)")
        add(
            "--replication",
            type=positive,
            help=f"replicas of everything, settled when the cluster is made (default: {defaults.DEFAULT_REPLICATION}, "
            "or one for each node if there are fewer)",
        )
        add(
            "--data-dir",
            type=Path,
            default=settings.PENNCLOUD["DATA_DIR"],
            help="the folder of all data, keys and logs (default: %(default)s)",
        )
        add("--port", type=port, default=defaults.DEFAULT_PORT, help="port of the web site (default: %(default)s)")
        add("--bind", default="127.0.0.1", help="address the web site listens on (default: %(default)s)")
        add(
            "--coordinator-port",
            type=port,
            default=defaults.DEFAULT_COORDINATOR_PORT,
            help="port of the coordinator on 127.0.0.1; the other inner ports follow it (default: %(default)s)",
        )
        add(
            "--rebuild-after",
            type=grace,
            metavar="SECONDS",
            help="the replicas of a node that is gone are rebuilt on a spare one after so long, or never "
            "(default: as before, at first 300)",
        )
        add(
            "--scrub-period",
            type=scrub_period,
            default=store_settings.SCRUB_PERIOD,
            metavar="SECONDS",
            help="the nodes read everything on their disks again within so long (default: %(default)s, a week)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        fields = (field.name for field in dataclasses.fields(ClusterOptions))
        try:
            run(ClusterOptions(**{name: options[name] for name in fields}))
        except CannotStart as error:
            self.stderr.write(str(error))
            sys.exit(1)
