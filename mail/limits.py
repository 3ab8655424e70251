"""The sizes that a user can run into. Bytes are of UTF-8; each limit has one clear error at the edge."""

MAX_SUBJECT = 500
"""Characters of a subject."""

MAX_BODY = 2**20
"""Bytes of a body."""

MAX_RECIPIENTS = 100
"""Different addressees of one message, To, Cc and Bcc together."""

MAX_ADDRESS_TEXT = 8_000
"""Characters typed into one of the fields To, Cc, Bcc; enough for `MAX_RECIPIENTS` with display names."""

MAX_SELECTION = 100
"""Messages that one request may act on: two pages of a list."""

PAGE = 50
"""Messages on one page of a list."""

MAX_CONVERSATION = 100
"""Messages of one conversation that a reading page shows: the newest."""

COUNTED = 999
"""Unread messages and drafts are counted up to here; the rail then shows "999+"."""
