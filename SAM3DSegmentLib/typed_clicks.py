"""Clicks as they are typed on a command line: `--include R,A,S` and `--exclude ijk:I,J,K`, in their order."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from SAM3DSegmentLib.clicks import Click

if TYPE_CHECKING:
    from SAM3DSegmentLib.geometry import Volume

CLICK_OPTIONS = ("--include", "--exclude")


@dataclass(frozen=True)
class TypedClick:
    """A click as it stands on the command line."""

    text: str
    include: bool

    def on(self, volume: Volume) -> Click:
        """The click on a scan."""
        from SAM3DSegmentLib.scan import parse_point

        return Click(parse_point(self.text, volume), self.include)


class AppendClick(argparse.Action):
    """Collects --include and --exclude in one list, in their order on the line."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        clicks = getattr(namespace, self.dest) or []
        setattr(namespace, self.dest, [*clicks, TypedClick(values, option_string == CLICK_OPTIONS[0])])


def joined_points(arguments: Sequence[str]) -> list[str]:
    """`--include -55.7,-135.8,-949` as `--include=-55.7,...`: argparse would take the leading minus for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] in CLICK_OPTIONS:
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def add_clicks(command: argparse.ArgumentParser) -> None:
    """`--include` and `--exclude`, gathered as `clicks`."""
    for option in CLICK_OPTIONS:
        command.add_argument(
            option, action=AppendClick, dest="clicks", metavar="R,A,S", help="mm, or ijk:I,J,K; repeats, order counts"
        )
