"""Where things are, as absolute paths: nothing depends on the working directory."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def _folder(variable: str, default: Path) -> Path:
    return (ROOT / Path(os.environ.get(variable) or default).expanduser()).resolve()


NOTEBOOKS = ROOT / "notebooks"
MODELS = ROOT / "models"
PROFILES = ROOT / "profiles"
# Everything that can be computed again: embeddings, executed copies of the notebooks, logs.
CACHE = _folder("MODALITY_GAP_CACHE", ROOT / ".cache")
# Point this elsewhere for a try at a small size, and the committed figures stay as they are.
FIGURES = _folder("MODALITY_GAP_FIGURES", ROOT / "figures")
# The variable that names a file in which long work says how far it is (`lib.progress`).
PROGRESS = "MODALITY_GAP_PROGRESS"
