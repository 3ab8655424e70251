"""`python -m penncloud_site.frontend --port …`: see :mod:`penncloud_site.frontend`."""

from gevent import monkey

monkey.patch_all()  # before anything else is imported: a lock or a socket made earlier would block the whole loop

import os  # noqa: E402
import sys  # noqa: E402

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "penncloud_site.settings")

from penncloud_site.frontend.server import main  # noqa: E402

sys.exit(main(sys.argv[1:]))
