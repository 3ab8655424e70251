"""The keys of accounts and sessions: no other module spells them.

| row | column | value |
| --- | --- | --- |
| `user:<username>` | `password` | Django's password hash, UTF-8; an account exists when this cell does |
| | `profile` | JSON object: `display_name`, `created` (seconds since 1970), `active` |
| | `operator` | `1`, or absent |
| | `last_login` | ISO 8601 time, UTC |
| | `session:<uid>` | decimal seconds since 1970 at which this user's session of that uid was put on the list |
| `session:<uid>` | `user` | user name, or empty before a log-in |
| | `data` | the session, as `SessionBase.encode` writes it |
| | `expires` | decimal seconds since 1970 |

A session's uid is the start of the SHA-256 of the key in the visitor's cookie: whoever reads the rows (an operator in
the data browser, a backup) cannot take a session over.
"""

from __future__ import annotations

import hashlib

SESSION_ROWS = "session:"
SESSION_COLUMNS = "session:"
PASSWORD, PROFILE, OPERATOR, LAST_LOGIN = "password", "profile", "operator", "last_login"
SESSION_USER, SESSION_DATA, SESSION_EXPIRES = "user", "data", "expires"


def user_row(username: str) -> str:
    """The row of an account; `username` must have passed `names.checked`."""
    return f"user:{username}"


def session_uid(session_key: str) -> str:
    """The public name of the session whose secret key is `session_key`: 40 hexadecimal digits (160 bits)."""
    return hashlib.sha256(session_key.encode()).hexdigest()[:40]


def session_row(uid: str) -> str:
    """The row of a session."""
    return SESSION_ROWS + uid


def session_column(uid: str) -> str:
    """The column of a user's row that lists a session."""
    return SESSION_COLUMNS + uid
