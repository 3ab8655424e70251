"""Webmail between the users of one PennCloud.

From the bottom up; each module imports only those above it:

- :mod:`mail.limits`    the sizes that a user can run into.
- :mod:`mail.schema`    every key that mail has in the store, and the uids.
- :mod:`mail.text`      what is safe to show of text that somebody else wrote.
- :mod:`mail.message`   the records: address, header, list line; their form in the store.
- :mod:`mail.mailbox`   one user's folders: list, open, move, mark, delete.
- :mod:`mail.addresses` what a user typed as recipients, and who that is.
- :mod:`mail.drafts`    unsent messages, saved by compare-and-put.
- :mod:`mail.replies`   what a reply or a forward begins with.
- :mod:`mail.delivery`  sending: the outbox, its worker's idempotent steps, and the sweep for what a crash left.
- :mod:`mail.workers`   the greenlet of each front end that sweeps.

The modules above know no request; :mod:`mail.views` (with :mod:`mail.compose_views`) parses, asks them and renders.

Where later parts go: attachments become further columns of a message's row; mail from outside enters by
`delivery.place` with a uid derived from its Message-ID; mail to outside is a second kind of recipient in the outbox
entry; search reads the same rows and fills the search slot of the top bar.
"""
