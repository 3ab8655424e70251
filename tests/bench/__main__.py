"""See `tests.bench.cluster`."""

import sys

from tests.bench.cluster import main

sys.exit(main(sys.argv[1:]))
