"""Hashing a password leaves a front end's event loop free."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
from gevent import monkey; monkey.patch_all()
import gevent
from django.conf import settings
settings.configure(PASSWORD_HASHERS=["penncloud_site.accounts.hashers.PooledArgon2PasswordHasher"])
from django.contrib.auth.hashers import check_password, make_password

turns = 0
def turn():
    global turns
    while True:
        turns += 1
        gevent.sleep(0.001)

gevent.spawn(turn)
gevent.sleep(0)
encoded = make_password("quiet harbor 42")
after_hash = turns
assert check_password("quiet harbor 42", encoded)
assert not check_password("loud mountain 77", encoded)
print(after_hash, turns)
"""


def test_other_greenlets_run_while_a_password_is_hashed_and_checked() -> None:
    """In the loop, the other greenlet would get no turn at all before the hash is done."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    after_hash, after_checks = map(int, done.stdout.split())
    assert after_hash > 5
    assert after_checks > after_hash + 5
