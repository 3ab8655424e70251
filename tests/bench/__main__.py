"""`make bench`: the cluster beside its peers; or, named first, one of the other benchmarks: `make bench ARGS="recovery …"`."""

import sys

from tests.bench import cluster, handover, recovery, spread

OTHERS = {"handover": handover.main, "recovery": recovery.main, "spread": spread.main}

if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in OTHERS:
        sys.exit(OTHERS[sys.argv[1]](sys.argv[2:]))
    sys.exit(cluster.main(sys.argv[1:]))
