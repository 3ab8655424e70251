"""How PennCloud's keys are cut into tablets: the group rule and the first split keys, given to a cluster when it is made.

**The group rule** says which rows a batch may change together. One account, one session, one cache entry; all of a
user's mail (`<u>:mailbox`, `<u>:mailmsg:…`); a user's drive tree (`<u>:drive`, `<u>:drive:UID_…`); the chunks of one
file (`<u>:drive:file:<uid>:…`). Each is contiguous in key order.

**The split keys.** A small cluster starts with seven tablets:

- `d`, `j`, `n` cut the users by their first letter. Of English and most European given names about a quarter each
  begin with a–c, d–i, j–m and n–z, so three nodes have work of their own to lead from the first few users on.
- `session:` and `session;` (`;` follows `:`) put all sessions, and nothing else, into one tablet. Every request reads
  one; they are tiny and must not wait behind somebody's upload in the same replication stream.
- `user:` does the same for accounts (with the few users whose names sort behind `user`).

Seven is a compromise: each tablet costs every node a few messages a second and some memory, and three nodes lead two
or three each. More come by splitting, when there is something to split.
"""

from __future__ import annotations

from typing import Any

GROUP_RULE = r"(?:user|session|cache):[^:]*|[^:]+:drive:file:[^:]+|[^:]+:drive|[^:]+:mail|[^:]+"

SPLIT_KEYS = ("d", "j", "n", "session:", "session;", "user:")

MIN_IN_SYNC = 1
"""Replicas that must hold a write: one. With two of three machines gone, people go on working."""


def creation(replication: int) -> dict[str, Any]:
    """What a coordinator is given (`--create-with`) when it starts for the first time; later it is not looked at."""
    return {
        "group_rule": GROUP_RULE,
        "splits": list(SPLIT_KEYS),
        "replication": replication,
        "min_in_sync": MIN_IN_SYNC,
    }
