"""A notebook that encodes and inverts, run on random weights of ViT-B/32 and ViT-L/14.

`python tests/gpu/notebook.py FOLDER [--small]` runs it in a copy of the project below FOLDER, under
a profile that only the copy has, and writes FOLDER/notebook.json. The models are the registry's
random twins: like all public models, they are on a GPU where there is one.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ITEM, PROFILE = "cross_the_gap/table1_image_retrieval", "random"
MODELS = ["openai-vit-b-32-untrained", "openai-vit-l-14-untrained"]


def copy(project: Path) -> None:
    """What the notebook needs of this project, and a profile of random models beside mini's."""
    import yaml

    for folder in ("lib", "mini", "workflow", "profiles"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__py*"))
    notebook = project / f"notebooks/{ITEM}.ipynb"
    notebook.parent.mkdir(parents=True)
    shutil.copy(ROOT / notebook.relative_to(project), notebook)
    content = yaml.safe_load((project / "profiles/mini.yaml").read_text(encoding="utf-8"))
    content |= {"models": {"clip": MODELS[0]}, "also": MODELS[1:]}
    (project / f"profiles/{PROFILE}.yaml").write_text(yaml.safe_dump(content))


def main(folder: Path, small: bool) -> int:
    project, cache, figures = folder / "project", folder / "cache", folder / "figures"
    copy(project)
    os.environ |= {"MODALITY_GAP_CACHE": str(cache), "MODALITY_GAP_FIGURES": str(figures)}
    sys.path.insert(0, str(project))
    os.environ.pop("PYTHONPATH", None)  # the kernel imports the copy
    import torch

    from workflow import notebooks

    began = time.monotonic()
    parameters = {"profile": PROFILE, "small": small}
    notebook = project / f"notebooks/{ITEM}.ipynb"
    notebooks.run_notebook(notebook, folder / "executed.ipynb", parameters)
    seconds = round(time.monotonic() - began, 1)
    kept = [json.loads(file.read_text()) for file in (cache / "inversions").glob("*.json")]
    found = {
        "seconds": seconds,
        "models": sorted({each["name"] for each in kept}),
        "inversions": sum(each["shape"]["tokens"][0] for each in kept),
        "devices": sorted({each["device"] for each in kept}),
    }
    (folder / "notebook.json").write_text(json.dumps(found))
    print(found)
    return found["devices"] != ["cuda" if torch.cuda.is_available() else "cpu"]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), "--small" in sys.argv))
