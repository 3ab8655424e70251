"""The web site of PennCloud: settings, accounts, sessions, the shell that mail, drive and console are shown in.

It keeps nothing of its own between requests. Whatever must be remembered is in the store, reached through
:func:`penncloud_site.storage.store`.
"""
