"""Dataclasses to msgpack arrays and back, with every type checked on the way in.

A dataclass travels as the array of its fields in the order in which they are declared; so do the dataclasses inside it.
What its annotations may say: `int`, `float`, `bool`, `str`, `bytes`, an `IntEnum`, another dataclass, a `NamedTuple` of
plain values, `X | None`, `list[X]`, `tuple[X, ...]`, `tuple[X, Y, Z]`, `dict[X, Y]`, and `object` for plain data that is not
looked into.

The readers are made once for each type, when it is first asked for, so that a message costs no inspection of annotations.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from enum import IntEnum
from functools import cache
from operator import attrgetter
from typing import Any

from kvstore.errors import BadRequest

Reader = Callable[[Any], Any]
Writer = Callable[[Any], Any]


class Malformed(BadRequest):
    """What came over a connection is not of the form that the protocol gives it."""


def _identity(value: Any) -> Any:
    return value


def _fields(kind: type) -> list[tuple[str, Any]]:
    hints = typing.get_type_hints(kind)
    return [(field.name, hints[field.name]) for field in dataclasses.fields(kind)]


@cache
def writer(kind: Any) -> Writer:
    """A function that turns a value of annotation `kind` into what msgpack can carry."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass_writer(typing.cast(type, kind))
    if origin in (typing.Union, types.UnionType):
        inner = writer(_not_none(arguments))
        return inner if inner is _identity else lambda value: None if value is None else inner(value)
    if origin is list or (origin is tuple and arguments[-1] is Ellipsis):
        inner = writer(arguments[0])
        return list if inner is _identity else lambda value: [inner(item) for item in value]
    if isinstance(kind, type) and issubclass(kind, IntEnum):
        return int
    if isinstance(kind, type) and issubclass(kind, tuple):
        return list
    return _identity


def _dataclass_writer(kind: type) -> Writer:
    parts = [(name, writer(hint)) for name, hint in _fields(kind)]
    if len(parts) < 2:
        return lambda value: [part(getattr(value, name)) for name, part in parts]
    take = attrgetter(*[name for name, _ in parts])
    to_write = [(place, part) for place, (_, part) in enumerate(parts) if part is not _identity]

    def write(value: Any) -> list[Any]:
        found = list(take(value))
        for place, part in to_write:
            found[place] = part(found[place])
        return found

    return write


@cache
def reader(kind: Any) -> Reader:
    """A function that turns what msgpack carried into a value of annotation `kind`, or raises `Malformed`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _record_reader(typing.cast(type, kind), [hint for _, hint in _fields(typing.cast(type, kind))])
    if isinstance(kind, type) and issubclass(kind, tuple):
        return _record_reader(kind, list(typing.get_type_hints(kind).values()))
    if origin in (typing.Union, types.UnionType):
        inner = reader(_not_none(arguments))
        return lambda value: None if value is None else inner(value)
    if origin is list:
        inner = reader(arguments[0])
        return lambda value: [inner(item) for item in _checked(value, list)]
    if origin is tuple:
        return _tuple_reader(arguments)
    if origin is dict:
        read_key, read_value = reader(arguments[0]), reader(arguments[1])
        return lambda value: {read_key(k): read_value(v) for k, v in _checked(value, dict).items()}
    if kind is object:
        return _identity
    if issubclass(kind, IntEnum):
        return _enum_reader(kind)
    if kind is float:
        return lambda value: float(_checked(value, (float, int)))
    return lambda value: _checked(value, kind)


def _not_none(arguments: tuple[Any, ...]) -> Any:
    (kind,) = [argument for argument in arguments if argument is not type(None)]
    return kind


def _checked(value: Any, kind: type | tuple[type, ...]) -> Any:
    # bool is a subclass of int in Python, and is never meant where a number is
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Malformed(f"{type(value).__name__} where {kind} was expected")
    return value


def _tuple_reader(arguments: tuple[Any, ...]) -> Reader:
    if arguments[-1] is Ellipsis:
        inner = reader(arguments[0])
        return lambda value: tuple([inner(item) for item in _checked(value, list)])
    readers = [reader(argument) for argument in arguments]

    def read(value: Any) -> tuple[Any, ...]:
        if len(_checked(value, list)) != len(readers):
            raise Malformed(f"{len(value)} members where {len(readers)} were expected")
        return tuple([part(item) for part, item in zip(readers, value, strict=True)])

    return read


def _enum_reader(kind: type[IntEnum]) -> Reader:
    def read(value: Any) -> IntEnum:
        try:
            return kind(_checked(value, int))
        except ValueError as error:
            raise Malformed(f"{value} is no {kind.__name__}") from error

    return read


def _record_reader(kind: type, hints: list[Any]) -> Reader:
    """Of a dataclass or a `NamedTuple` with fields of these annotations."""
    # a field of a plain type whose value is of exactly that type needs no reader
    parts = [(hint, reader(hint)) for hint in hints]

    def read(value: Any) -> Any:
        if len(_checked(value, list)) != len(parts):
            raise Malformed(f"a {kind.__name__} has {len(parts)} fields, not {len(value)}")
        return kind(
            *[item if type(item) is hint else part(item) for (hint, part), item in zip(parts, value, strict=True)]
        )

    return read
