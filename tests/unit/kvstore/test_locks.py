"""Locks of the interpreter, whatever gevent has done, or is about to do."""

from __future__ import annotations

import sys
import types

import gevent.monkey
import pytest

from kvstore.locks import native_lock


def test_a_lock_is_the_interpreters_own() -> None:
    original = gevent.monkey.get_original("_thread", "allocate_lock")
    assert type(native_lock()) is type(original())


def test_a_lock_can_be_had_while_another_thread_imports_gevent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module is there then, and empty: the keeper of a client's map once ended by that."""
    monkeypatch.setitem(sys.modules, "gevent.monkey", types.ModuleType("gevent.monkey"))
    assert native_lock().acquire(False)
