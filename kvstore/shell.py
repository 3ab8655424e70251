"""Commands on a running cluster, for the command line and for the shell that takes them one a line."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from kvstore import rebuild_after, settings, split_above
from kvstore.admin import Admin
from kvstore.client import Client, connect
from kvstore.errors import BadRequest, StoreError

_SHOWN = 60  # characters of a value that a line of a scan shows


class _Line(argparse.ArgumentParser):
    """A parser of one line of the shell: a mistake is an error to be shown, not the end of the process."""

    def error(self, message: str) -> NoReturn:
        raise BadRequest(message)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise BadRequest(message or "")


def _add_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    get = commands.add_parser("get", help="print a value")
    get.add_argument("row")
    get.add_argument("column")
    put = commands.add_parser("put", help="write a value")
    put.add_argument("row")
    put.add_argument("column")
    put.add_argument("value", help="the value; - for standard input, @FILE for a file's content")
    delete = commands.add_parser("delete", help="delete a cell, or a whole row")
    delete.add_argument("row")
    delete.add_argument("column", nargs="?")
    scan = commands.add_parser("scan", help="list cells in order")
    scan.add_argument("start", nargs="?", default="")
    scan.add_argument("end", nargs="?")
    scan.add_argument("--prefix", help="rows that begin with this")
    scan.add_argument("--limit", type=int, default=100, metavar="N", help="at most N cells (default 100)")
    scan.add_argument("--reverse", action="store_true")
    scan.add_argument("--keys-only", action="store_true")
    status = commands.add_parser("status", help="nodes and tablets")
    status.add_argument("--json", action="store_true")
    rebuild = commands.add_parser("rebuild-after", help="when a gone node's replicas are rebuilt on a spare one")
    rebuild.add_argument("seconds", help="so many seconds after it was missed; or never")
    split = commands.add_parser("split", help="cut a tablet in two")
    split.add_argument("tablet", type=int)
    split.add_argument("row", nargs="?", help="the first row of the new tablet; if none is given, near the middle")
    above = commands.add_parser("split-above", help="from which size on tablets are split by themselves")
    above.add_argument("size", help="bytes in memory, as 64M or 1GiB; or never")
    move = commands.add_parser("move", help="move a tablet's replica from one node to another")
    move.add_argument("tablet", type=int)
    move.add_argument("source", nargs="?", metavar="FROM", help="the node that has it")
    move.add_argument("target", nargs="?", metavar="TO", help="the node that is to have it")
    move.add_argument("--withdraw", action="store_true", help="let the one that is on its way stay where it was")
    spread = commands.add_parser("spread", help="whether replicas and leads spread by themselves")
    spread.add_argument("on", choices=("on", "off"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kvstore",
        description="Read, write and look at a cluster.",
        epilog="Run a part of the store with: coordinator, node, inspect, backup, restore (each has --help).",
    )
    parser.add_argument("--coordinators", default="127.0.0.1:7400", metavar="HOST:PORT,…")
    parser.add_argument("--key-file", default="var/cluster.key", metavar="FILE")
    parser.add_argument("--timeout", type=float, default=settings.DEFAULT_TIMEOUT, metavar="SECONDS")
    _add_commands(parser)
    commands: Any = parser._subparsers
    commands._group_actions[0].add_parser("shell", help="take these commands one a line")
    return parser


def run_command(argv: list[str]) -> int:
    """Run one command of the command line; the exit status. Raises `StoreError`."""
    options = _parser().parse_args(argv)
    if options.command in _CONTROL:
        admin = Admin.connect(options.coordinators, options.key_file, options.timeout)
        try:
            return _CONTROL[options.command](admin, options)
        finally:
            admin.close()
    with connect(options.coordinators, options.key_file, options.timeout) as client:
        if options.command == "shell":
            return _shell(client)
        return _on_data(client, options)


def _on_data(client: Client, options: argparse.Namespace) -> int:
    if options.command == "get":
        return _get(client, options)
    if options.command == "put":
        client.put(options.row, options.column, _value(options.value))
    elif options.command == "delete":
        if options.column is None:
            client.delete_row(options.row)
        else:
            client.delete(options.row, options.column)
    else:
        _scan(client, options)
    return 0


def _get(client: Client, options: argparse.Namespace) -> int:
    cell = client.get(options.row, options.column)
    if cell is None:
        print(f"no cell at row {options.row!r}, column {options.column!r}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(cell.value)
    if sys.stdout.isatty() and not cell.value.endswith(b"\n"):
        print()
    sys.stdout.flush()
    return 0


def _value(text: str) -> bytes:
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_bytes()
        except OSError as error:
            raise BadRequest(f"{text[1:]} cannot be read: {error.strerror}") from error
    return text.encode()


def _scan(client: Client, options: argparse.Namespace) -> None:
    found = client.scan(
        options.start,
        options.end,
        prefix=options.prefix,
        limit=options.limit,
        reverse=options.reverse,
        keys_only=options.keys_only,
    )
    for row, column, cell in found:
        shown = "" if options.keys_only else "  " + _shown(cell.value)
        print(f"{row!r}  {column!r}  {cell.size} B  {cell.version.epoch}.{cell.version.sequence}{shown}")


def _shown(value: bytes) -> str:
    text = ascii(value[:_SHOWN].decode("utf-8", "backslashreplace"))
    return text + " …" if len(value) > _SHOWN else text


def _status(admin: Admin, options: argparse.Namespace) -> int:
    status = admin.status()
    if options.json:
        print(json.dumps(status, indent=1))
    else:
        from kvstore.status_table import print_status

        print_status(status)
    return 0


def _rebuild_after(admin: Admin, options: argparse.Namespace) -> int:
    admin.rebuild_after(rebuild_after.parse(options.seconds))
    return 0


def _split(admin: Admin, options: argparse.Namespace) -> int:
    made = admin.split(options.tablet, options.row)
    print(f"tablet {made.child} begins at {made.row!r}")
    return 0


def _split_above(admin: Admin, options: argparse.Namespace) -> int:
    admin.split_above(split_above.parse(options.size))
    return 0


def _move(admin: Admin, options: argparse.Namespace) -> int:
    named = [name for name in (options.source, options.target) if name is not None]
    if len(named) != (0 if options.withdraw else 2):
        raise BadRequest("to move a replica: move TABLET FROM TO; to let it stay where it was: move TABLET --withdraw")
    if options.withdraw:
        admin.withdraw_move(options.tablet)
    else:
        admin.move(options.tablet, options.source, options.target)
    return 0


def _spread(admin: Admin, options: argparse.Namespace) -> int:
    admin.spread(options.on == "on")
    return 0


_CONTROL: dict[str, Callable[[Admin, argparse.Namespace], int]] = {
    "status": _status,
    "rebuild-after": _rebuild_after,
    "split": _split,
    "split-above": _split_above,
    "move": _move,
    "spread": _spread,
}
"""Commands that need the coordinator alone: the cluster may have no tablets yet."""


def _shell(client: Client) -> int:
    """Take commands one a line until the end of the input."""
    parser = _Line(prog="", add_help=False)
    _add_commands(parser)
    admin = Admin(client)
    interactive = sys.stdin.isatty()
    if interactive:
        import readline  # noqa: F401  gives input() a history and editing

        print("get, put, delete, scan, status, split, split-above, move, spread, rebuild-after; end with Ctrl-D")
    failed = 0
    while True:
        try:
            words = shlex.split(input("> " if interactive else ""))
            if not words:
                continue
            options = parser.parse_args(words)
            control = _CONTROL.get(options.command)
            status = control(admin, options) if control is not None else _on_data(client, options)
        except EOFError:
            return failed
        except (StoreError, ValueError) as error:
            print(error, file=sys.stderr)
            status = 1
        # a script that is piped in should hear that one of its lines failed
        failed = 0 if interactive else max(failed, status)
