"""Accounts: who may use this PennCloud, signing up, logging in and out, changing one's password.

An account is one row of the store, `user:<username>` (see :mod:`penncloud_site.accounts.schema`). Django's own auth
views and forms do the work on top of it.
"""
