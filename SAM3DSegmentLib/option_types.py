"""The types of options: what the command line refuses before a command starts."""

from __future__ import annotations

import argparse
from collections.abc import Callable

LAST_PORT = 65535


def at_least(least: int) -> Callable[[str], int]:
    """The type of an option that is a whole number from `least` on."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
        return int(text)

    return number


def host(text: str) -> str:
    """The type of an option that is a host's name or address."""
    if len(text.split()) != 1 or text.startswith("-"):
        raise argparse.ArgumentTypeError(f"{text!r} is no host: give an address or a name")
    return text


def port(text: str) -> int:
    """The type of an option that is a TCP port."""
    if not text.isdecimal() or int(text) > LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number from 0 to {LAST_PORT}")
    return int(text)
