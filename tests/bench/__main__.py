"""`make bench`: the cluster beside its peers; or, named first, one of the other benchmarks: `make bench ARGS="recovery …"`."""

import importlib
import sys

OTHERS = ("handover", "moving", "recovery", "spread")

if __name__ == "__main__":
    name, arguments = "cluster", sys.argv[1:]
    if arguments and arguments[0] in OTHERS:
        name, *arguments = arguments
    # only the one that is asked for: some patch the process for gevent, and the others' threads would never be joined
    sys.exit(importlib.import_module(f"tests.bench.{name}").main(arguments))
