"""The page's section Model: which models there are, and how one is downloaded, imported and deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from SAM3DSegmentLib.errors import UserError
from SAM3DSegmentLib.interaction.background_download import BackgroundDownload
from SAM3DSegmentLib.interaction.model_check import check_loads
from SAM3DSegmentLib.interaction.model_choice import FROZEN_WEIGHTS, checkpoint_among, model_choices, name_of_file
from SAM3DSegmentLib.models.catalogue import CATALOGUE, COMPACT
from SAM3DSegmentLib.models.store import delete_model, import_model, models_folder
from SAM3DSegmentLib.viewer.panel_state import PanelState


class ModelSection:
    """Keeps the list of models in the page's state; for the event loop of the server.

    Args:
        chosen: the model to begin with: a name, or the path of a checkpoint.
        changed: called when another file is behind the chosen model.
        tell: called with a sentence for the user and whether it tells of a failure.
    """

    def __init__(
        self, shown: PanelState, chosen: str, changed: Callable[[], None], tell: Callable[[str, bool], None]
    ) -> None:
        self._shown = shown
        self._changed = changed
        self._tell = tell
        self._given = chosen
        self._download: BackgroundDownload | None = None
        self._list(chosen)

    def describe(self) -> None:
        """Say what is known of the chosen model, and what can be done with it."""
        shown, choice = self._shown, model_choices().get(self._shown.model)
        lines = [f"Folder of models: {models_folder()}"]
        if choice and choice.known:
            lines = [f"Licence: {choice.known.licence}{choice.megabytes}", choice.known.citation, *lines]
        shown.model_info = "\n".join(lines)
        shown.can_download = bool(choice and choice.can_download)
        shown.can_delete = bool(choice and choice.can_delete)

    def toggle_download(self) -> None:
        """Fetch the chosen model; where a download runs already, call it off."""
        if self._download:
            self._download.cancel()
        else:
            self._download = BackgroundDownload(CATALOGUE[self._shown.model])
            self._shown.download = 0

    def poll(self) -> None:
        """Show how far a download is; once its model is there it answers, if it is still the chosen one."""
        if not self._download:
            return
        self._shown.download = round(100 * self._download.fraction)
        if not self._download.running:
            download, self._download = self._download, None
            self._shown.download = -1
            self._list(self._shown.model)
            if download.message:
                self._tell(download.message, True)
            elif self._shown.model == download.model.name:
                self._changed()

    async def import_file(self, path: Path) -> None:
        """Keep a checkpoint under the task that the page names, and turn to it, unless another was chosen meanwhile.

        Args:
            path: of the file, or of a folder that holds the frozen weights that it stands on, too.

        Raises:
            UserError: it cannot be taken.
        """
        task, chosen_before = self._shown.import_task or None, self._shown.model
        kept = await asyncio.get_running_loop().run_in_executor(
            None, lambda: import_model(checkpoint_among(path), task=task, check=check_loads)
        )
        name, chosen = name_of_file(kept), self._shown.model
        self._list(name if name and chosen == chosen_before else chosen)
        self._changed()
        if name is None:
            self._tell(FROZEN_WEIGHTS, False)

    def delete(self) -> None:
        """Remove the chosen model from the disk."""
        try:
            delete_model(self._shown.model)
        except UserError as error:
            self._tell(str(error), True)
            return
        self._list(COMPACT.name)
        self._changed()

    def close(self) -> None:
        """Call a running download off."""
        if self._download:
            self._download.cancel()

    def _list(self, chosen: str) -> None:
        """The choices, and the checkpoint that the viewer was started with."""
        titles = {
            name: choice.title if choice.stored else f"{choice.title} (not on this computer)"
            for name, choice in model_choices().items()
        }
        titles.setdefault(self._given, self._given)
        self._shown.models = [{"title": title, "value": name} for name, title in titles.items()]
        self._shown.model = chosen
        self.describe()
