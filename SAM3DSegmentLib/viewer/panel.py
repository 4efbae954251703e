"""The page: the module's panel in the same words, beside the four views."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trame.ui.vuetify3 import VAppLayout
from trame.widgets import client, html
from trame.widgets import vuetify3 as v
from trame_server import Server

from SAM3DSegmentLib.viewer.panel_state import EXPORT_SUFFIXES, IMPORT_TASKS
from SAM3DSegmentLib.viewer.views import Views

SCRIPT = Path(__file__).with_name("page.js").read_text()
STYLE = Path(__file__).with_name("page.css").read_text()

INCLUDE_COLOR, EXCLUDE_COLOR = "#1b7f3b", "#b3261e"
PANEL_WIDTH = 350
FIELD: dict[str, Any] = {"density": "compact", "hide_details": True, "variant": "outlined"}
BUTTON: dict[str, Any] = {"size": "small", "variant": "tonal"}
ROW = "d-flex align-center ga-2"


class Page:
    """Lays the page out; what the user does arrives at the server as a trigger or as a change of the state.

    Args:
        name: the names of `PanelState` in the page's state.
        shortcuts: keys, as Qt writes them, and the commands that they give.
    """

    def __init__(self, server: Server, name: Any, views: Views, shortcuts: Mapping[str, str]) -> None:
        self._name = name
        with VAppLayout(server, theme="dark") as layout:
            client.Style(STYLE)
            client.Script(f"const SHORTCUTS = {json.dumps(shortcuts)};\n{SCRIPT}")
            self._save = client.JSEval(exec="window.sam3dsegment.save($event)")
            with (
                v.VNavigationDrawer(permanent=True, width=PANEL_WIDTH),
                html.Div(classes="pa-3 d-flex flex-column ga-3"),
            ):
                self._scan()
                self._tumours()
                self._clicks()
                self._progress()
                self._export()
                self._sections()
            with v.VMain(), html.Div(classes="views"):
                views.place_into(layout)
            self._message()

    def save(self, name: str) -> None:
        """Have the browser download the export of that name."""
        self._save.exec(name)

    def _scan(self) -> None:
        name = self._name
        v.VSelect(label="Volume", items=(name.volumes,), v_model=(name.volume,), **FIELD)
        with html.Div(classes=ROW):
            v.VTextField(
                label="Path of a scan, or of a DICOM folder",
                v_model=(name.scan_path,),
                v_on_keydown_enter="trigger('open_path')",
                **FIELD,
            )
            v.VBtn("Open", click="trigger('open_path')", disabled=(f"!{name.scan_path} || !!{name.busy}",), **BUTTON)
        with html.Div(classes=ROW):
            self._upload("Upload file...", "A scan on the computer in front of you.", "upload", "multiple")
            self._upload("Upload folder...", "The folder of a DICOM series.", "upload", "webkitdirectory")
            v.VBtn(
                "Phantom",
                title="A computed CT with known lesions.",
                click="trigger('open_phantom')",
                disabled=(f"!!{name.busy}",),
                **BUTTON,
            )
        with html.Div(v_if=(name.busy,), classes="text-caption"):
            html.Span("{{ " + name.busy + " }} ...")
            v.VProgressLinear(indeterminate=True)
        v.VSelect(label="Window", items=(name.windows,), v_model=(name.window,), **FIELD)

    def _upload(self, text: str, tip: str, route: str, *attributes: str) -> None:
        with html.Label(classes="upload", title=tip):
            v.VBtn(text, tag="span", disabled=(f"!!{self._name.busy}",), **BUTTON)
            html.Input(
                type="file",
                disabled=(f"!!{self._name.busy}",),
                change=f"{self._name.busy} = 'Uploading'; window.sam3dsegment.upload($event.target, '{route}')",
                raw_attrs=list(attributes),
            )

    def _tumours(self) -> None:
        name = self._name
        html.Div("Tumours", classes="text-subtitle-2")
        with (
            html.Div(classes="tumours"),
            html.Div(
                v_for=f"tumour in {name.tumours}",
                key="tumour.id",
                classes=(f"['tumour', tumour.id === {name.tumour} ? 'tumour-chosen' : '']",),
                click="trigger('open_tumour', [tumour.id])",
            ),
        ):
            html.Input(
                type="color",
                value=("tumour.color",),
                title="Colour",
                change="trigger('color_tumour', [tumour.id, $event.target.value])",
            )
            html.Input(
                type="text",
                value=("tumour.name",),
                title="Select a tumour to go on with its clicks; type to change its name.",
                change="trigger('rename_tumour', [tumour.id, $event.target.value])",
            )
            v.VBtn(
                icon=("tumour.visible ? 'mdi-eye' : 'mdi-eye-off'",),
                title="Show or hide",
                size="x-small",
                variant="text",
                v_on_click_stop="trigger('show_tumour', [tumour.id, !tumour.visible])",
            )
        with html.Div(classes=ROW):
            no_volume, no_tumour = f"!{name.volume}", f"!{name.tumour}"
            tip = "Start another tumour; the finished ones stay as they are."
            self._button("Next tumour (N)", "next_tumour", tip, no_volume)
            self._button("Delete tumour", "remove_tumour", "Delete the selected tumour and its clicks.", no_tumour)

    def _clicks(self) -> None:
        name = self._name
        with html.Div(classes=ROW):
            for text, kind, color, tip in (
                ("Include (I)", "include", INCLUDE_COLOR, "Click into the views on what belongs to the tumour."),
                (
                    "Exclude (E)",
                    "exclude",
                    EXCLUDE_COLOR,
                    "Click into the views on what does not belong to the tumour.",
                ),
            ):
                chosen = f"{name.placing} === '{kind}'"
                v.VBtn(
                    text,
                    title=tip,
                    click=command(f"toggle_{kind}"),
                    disabled=(f"!{name.volume}",),
                    color=(f"{chosen} ? '{color}' : undefined",),
                    variant=(f"{chosen} ? 'flat' : 'tonal'",),
                    classes="flex-grow-1",
                    prepend_icon="mdi-plus" if kind == "include" else "mdi-minus",
                )
        with html.Div(classes=ROW):
            no_clicks = f"!{name.has_clicks}"
            self._button("Undo", "undo", "Take the last change of clicks back (Ctrl+Z).", f"!{name.can_undo}")
            self._button("Redo", "redo", "Make it again (Ctrl+Y).", f"!{name.can_redo}")
            self._button("Remove last", "remove_last", "Remove the newest click (Backspace).", no_clicks)
            self._button("Clear", "clear", "Remove every click of this tumour.", no_clicks)

    def _progress(self) -> None:
        name = self._name
        with html.Div(v_if=(f"{name.progress} >= 0",), classes=ROW):
            v.VProgressLinear(
                model_value=(name.progress,),
                title="The engine is at work; views and clicks stay free meanwhile.",
                height=8,
                color="primary",
            )
            self._button("Cancel (Esc)", "cancel", "Call the evaluation off; clicks and mask stay.", "false")
        html.Div(
            "{{ " + name.figures + " }}",
            classes="figures",
            title="Volume, longest diameter within an axial slice, seconds of the last click, device.",
        )

    def _export(self) -> None:
        name = self._name
        with html.Div(classes=ROW):
            v.VBtn(
                "Export",
                title="Download every tumour as a new file.",
                click=f"trigger('export', [{name.export_suffix}])",
                disabled=(f"!{name.tumours}.length",),
                prepend_icon="mdi-download",
                **BUTTON,
            )
            v.VSelect(
                items=("suffixes", list(EXPORT_SUFFIXES)), v_model=(name.export_suffix,), classes="suffix", **FIELD
            )

    def _sections(self) -> None:
        name = self._name
        with v.VExpansionPanels(multiple=True, variant="accordion"):
            with section("Model"):
                self._models()
            with section("Device"):
                v.VSelect(label="Run on", items=(name.devices,), v_model=(name.device,), **FIELD)
            with section("Display"):
                for text, model, tip in (
                    ("Hide clicks", name.hide_clicks, "Hide the fiducials."),
                    ("Outline only", name.outline_only, "Show tumours without their fill."),
                    (
                        "Show last change",
                        name.show_changes,
                        "Show what the last click added (cyan) and removed (magenta).",
                    ),
                    ("Show in 3D", name.show_surface, "Keep a surface in the 3D view."),
                ):
                    v.VCheckbox(label=text, title=tip, v_model=(model,), density="compact", hide_details=True)

    def _models(self) -> None:
        name = self._name
        v.VSelect(
            label="Model", title="The network that segments.", items=(name.models,), v_model=(name.model,), **FIELD
        )
        html.Div("{{ " + name.model_info + " }}", classes="model-info text-caption my-2")
        running = f"{name.download} >= 0"
        with html.Div(classes=ROW):
            v.VBtn(
                "{{ " + running + " ? 'Cancel download' : 'Download' }}",
                title="Fetch the chosen model into the models folder.",
                click="trigger('toggle_download')",
                disabled=(f"!({running}) && !{name.can_download}",),
                **BUTTON,
            )
            self._upload(
                "Import...",
                "Copy a checkpoint, and the frozen weights that it stands on, into the models folder.",
                "import",
                "multiple",
            )
            v.VBtn(
                "Delete",
                title="Delete the chosen model from the disk.",
                click="trigger('delete_model')",
                disabled=(f"!{name.can_delete}",),
                **BUTTON,
            )
        v.VProgressLinear(v_if=(running,), model_value=(name.download,), classes="download my-2")
        v.VSelect(
            label="Task of an import",
            title="A published 3DSAM-adapter checkpoint does not say what it was trained for.",
            items=("import_tasks", IMPORT_TASKS),
            v_model=(name.import_task,),
            classes="mt-3",
            **FIELD,
        )

    def _message(self) -> None:
        name = self._name
        with v.VSnackbar(
            v_model=(name.message_shown,), color=(f"{name.failed} ? '{EXCLUDE_COLOR}' : undefined",), timeout=8000
        ):
            html.Span("{{ " + name.message + " }}")

    def _button(self, text: str, name: str, tip: str, disabled: str) -> None:
        v.VBtn(text, title=tip, click=command(name), disabled=(disabled,), **BUTTON)


def command(name: str) -> str:
    """The script that sends one of `interaction.commands`."""
    return f"trigger('command', ['{name}'])"


def section(title: str) -> Any:
    """A collapsed section; its content goes into the context."""
    with v.VExpansionPanel(title=title):
        return v.VExpansionPanelText()
