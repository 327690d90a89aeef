"""How JupyterLab keeps the notebooks (make lab): a reader's run changes neither what is published nor what git sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from tornado.web import HTTPError
from traitlets import default

from ..data.paths import published_root
from .strip import after_save

LIVE = "application/vnd.jupyter.widget-view+json"  # an output that is nothing without its kernel


class Contents(AsyncLargeFileManager):
    """The files of the server's folder. What is published can be opened and run, but not saved."""

    def is_writable(self, path: str) -> bool:
        return not self.is_published(path) and super().is_writable(path)

    def is_published(self, path: str) -> bool:
        return Path(self._get_os_path(path)).resolve().is_relative_to(published_root())

    @default("pre_save_hook")
    def _before_save(self) -> Any:
        return before_save

    @default("post_save_hook")
    def _after_save(self) -> Any:
        return after_save


def before_save(model: dict, path: str, contents_manager: Contents) -> None:
    """Refuses what is published; takes widgets out of a notebook, which a page without its kernel shows as an error."""
    if contents_manager.is_published(path):
        raise HTTPError(403, "Published copies stay as they are: open the notebook of this name in notebooks/")
    if model["type"] == "notebook" and model["content"]:
        for cell in model["content"]["cells"]:
            if "outputs" in cell:
                cell["outputs"] = [output for output in cell["outputs"] if LIVE not in output.get("data", {})]
