"""What the user can ask of a session by a button or a key; every host offers the same."""

from __future__ import annotations

from collections.abc import Callable

from SAM3DSegmentLib.interaction.session import Session


def next_tumour(session: Session) -> None:
    """Turn to a new tumour, and include from there on."""
    session.next_tumour()
    session.place(include=True)


def toggle_placing(session: Session, include: bool) -> None:
    """Place such clicks from now on; where that is so already, give the mouse back to the views."""
    if session.placing is include:
        session.stop_placing()
    else:
        session.place(include)


def escape(session: Session) -> None:
    """Call the running evaluation off; where none runs, stop placing."""
    if not session.cancel():
        session.stop_placing()


COMMANDS: dict[str, Callable[[Session], object]] = {
    "include": lambda session: session.place(include=True),
    "exclude": lambda session: session.place(include=False),
    "toggle_include": lambda session: toggle_placing(session, include=True),
    "toggle_exclude": lambda session: toggle_placing(session, include=False),
    "next_tumour": next_tumour,
    "remove_tumour": Session.remove_tumour,
    "undo": Session.undo,
    "redo": Session.redo,
    "remove_last": Session.remove_last,
    "remove_pointed": Session.remove_pointed,
    "clear": Session.clear,
    "cancel": Session.cancel,
    "escape": escape,
}

KEYS = {
    "I": "include",
    "E": "exclude",
    "N": "next_tumour",
    "Ctrl+Z": "undo",
    "Ctrl+Y": "redo",
    "Backspace": "remove_last",
    "Escape": "escape",
}
"""Keys, as Qt writes them, and the commands that they give."""
