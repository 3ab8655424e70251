"""`python -m penncloud_site.loadbalancer --port … --frontend …`: run one balancer in the foreground."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from penncloud_site.loadbalancer.server import CannotListen, Options, Server
from penncloud_site.supervisor.addresses import address, port
from penncloud_site.supervisor.pidfile import write_pid_file


def parsed(argv: list[str]) -> argparse.Namespace:
    """The options; argparse ends the process with a sentence when they are wrong."""
    parser = argparse.ArgumentParser(
        prog="manage.py loadbalancer",
        description="Runs one load balancer in the foreground. SIGTERM lets the requests in hand finish.",
    )
    parser.add_argument("--bind", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=port, default=8000, help="port to listen on (default: %(default)s)")
    parser.add_argument(
        "--frontend", type=address, action="append", required=True, metavar="HOST:PORT", help="once for each front end"
    )
    parser.add_argument("--status-port", type=port, help="serve figures as JSON on this port of 127.0.0.1")
    parser.add_argument("--pid-file", type=Path, help="write the process id there")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Serve until told to stop. The exit status: 0 after a stop, 1 if it cannot start."""
    options = parsed(argv)
    logging.basicConfig(level=logging.INFO, format="{asctime} {levelname} {name}: {message}", style="{")
    server = Server(Options(options.bind, options.port, tuple(options.frontend), options.status_port))
    try:
        server.listen()
    except CannotListen as error:
        print(error, file=sys.stderr)
        return 1
    if options.pid_file:
        write_pid_file(options.pid_file)
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
