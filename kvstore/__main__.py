"""The command line: run a part of the store, or look into one.

    python -m kvstore coordinator …            run the coordinator        (see `coordinator --help`)
    python -m kvstore node …                   run a storage node         (see `node --help`)
    python -m kvstore inspect|backup|restore … look at, copy, bring back a data folder

    python -m kvstore [--coordinators HOST:PORT] [--key-file FILE] [--timeout SECONDS] COMMAND …
        get ROW COLUMN         print a value
        put ROW COLUMN VALUE   write one (`-`: from standard input, `@FILE`: from a file)
        delete ROW [COLUMN]    delete a cell, or every cell of the row
        scan [START [END]]     list cells (--prefix, --limit, --reverse, --keys-only)
        status [--json]        nodes and tablets
        rebuild-after SECONDS  when a gone node's replicas are rebuilt on a spare one (`never`: not at all)
        split TABLET [ROW]     cut a tablet in two: at ROW, or near the middle of its bytes
        split-above BYTES      from which size on tablets are split by themselves (`64M`; `never`: not at all)
        move TABLET FROM TO    move a tablet's replica from one node to another (`move TABLET --withdraw`: let it stay)
        spread on|off          whether replicas and leads spread by themselves over the nodes that are there
        shell                  these commands, one a line

What fails says why in one sentence on standard error; the exit status is then 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from kvstore.errors import StoreError


def _run_coordinator(argv: list[str]) -> int:
    from kvstore.coordinator.server import main

    return main(argv)


def _run_node(argv: list[str]) -> int:
    from kvstore.node.server import main

    return main(argv)


def _run_inspect(argv: list[str]) -> int:
    from kvstore.storage.inspect import main

    return main(argv)


def _run_backup(argv: list[str]) -> int:
    from kvstore.storage.backup import main

    return main(argv)


def _run_restore(argv: list[str]) -> int:
    from kvstore.restore import main

    return main(argv)


# Each part is imported only when it is run: a look at the status needs no storage engine.
_PARTS: dict[str, Callable[[list[str]], int]] = {
    "coordinator": _run_coordinator,
    "node": _run_node,
    "inspect": _run_inspect,
    "backup": _run_backup,
    "restore": _run_restore,
}


def main(argv: list[str]) -> int:
    """Run the command line; the exit status."""
    try:
        if argv and argv[0] in _PARTS:
            return _PARTS[argv[0]](argv[1:])
        from kvstore.shell import run_command

        return run_command(argv)
    except StoreError as error:
        print(f"kvstore: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # whoever read our output has seen enough
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
