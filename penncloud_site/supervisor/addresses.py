"""Ports and addresses as options give them; `type=` functions for argparse, whose errors become its sentences."""

from __future__ import annotations

import argparse


def port(text: str) -> int:
    """A TCP port that may be listened on: 1 to 65535."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; it must be a number from 1 to 65535")
    return number


def address(text: str) -> tuple[str, int]:
    """`host:port`, or `[v6]:port`."""
    host, colon, number = text.rpartition(":")
    if not colon or not host:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address; it must be host:port")
    return host.strip("[]"), port(number)


def positive(text: str) -> int:
    """A whole number from 1 on."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 1 on")
    return number
