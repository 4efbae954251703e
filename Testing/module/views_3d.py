"""A click into Slicer's 3D view, in a process of its own: without a way to draw, VTK ends the process.

Prints as JSON what a session on two bright balls made of a click on the surface of one of them.
"""

from __future__ import annotations

import json

import numpy as np
from trame.app import get_server
from trame_slicer.views import ViewLayoutDefinition

from SAM3DSegmentLib.geometry import Volume
from SAM3DSegmentLib.interaction.display import Display
from SAM3DSegmentLib.interaction.session import Session
from SAM3DSegmentLib.scene.volumes import add_volume
from SAM3DSegmentLib.viewer.views import Views
from Testing.interaction.helpers import FakeEngine, balls, clicked, settle, world

EVENTS = ("EnterEvent", "MouseMoveEvent", "LeftButtonPressEvent", "LeftButtonReleaseEvent")


def main() -> None:
    views = Views(get_server("test"))
    view = views._manager.create_view(ViewLayoutDefinition.threed_view())
    session = Session(views.scene)
    session.use_engine(FakeEngine())
    session.choose_volume(add_volume(views.scene, Volume(balls(), np.diag([-1.0, -1.0, 1.5, 1.0])), "CT"))
    session.place(include=True)
    clicked(session)
    session.set_display(Display(surface=True))
    view.render_window().SetSize(300, 300)
    view.reset_view()
    view.render()
    for event in EVENTS:
        view.interactor().SetEventInformation(150, 150, 0, 0, "\0", 0, None)
        view.interactor().InvokeEvent(event)
    settle(session)
    distance = np.linalg.norm(np.subtract(session.clicks[-1].ras, world(session, "left")))
    print(json.dumps({"clicks": len(session.clicks), "mm": distance, "failed": session.status.failed}))


if __name__ == "__main__":
    main()
