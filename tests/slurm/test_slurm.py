"""`./run_all.sh --test slurm`: the runner on a Slurm of one node, from training to "Nothing to do".

The project is the runner's miniature, with the real encoders and one real model in it. The
notebooks are killed, cancelled and interrupted.
"""

import re
import shutil
import signal
import subprocess
import time
from importlib.util import find_spec

import one_node
import pytest
import yaml
from tiny_project import TINY, TRAIN, Project

from lib import paths
from workflow import cluster

pytestmark = pytest.mark.slurm
SAVE = 'from lib import tiny\ntiny.save("{}", profile)'
ENCODERS = "  models: [clip, untrained]\n"
ONCE = "from pathlib import Path\ntried = Path('{0}')\nif not tried.exists():\n    tried.touch()\n"
ONCE += "    {1}"
DIES = "import os, time; os.kill(os.getppid(), 9); time.sleep(60)"  # with the step that runs it
CANCELLED = "import os, time; os.system('scancel ' + os.environ['SLURM_JOB_ID']); time.sleep(60)"
ENCODES = """\
import os
from PIL import Image
from datasets import Dataset
from lib.encoders import embeddings, registry
assert os.environ["HF_HUB_OFFLINE"] == "1"
assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
rows = Dataset.from_dict({"image": [Image.new("RGB", (64, 64), (40 * i, 0, 0)) for i in range(6)]})
assert embeddings.embed_images(registry.load("mini-clip"), rows).shape[0] == 6
"""
WAITS = "import time\nfrom pathlib import Path\nwhile not Path('go').exists():\n    time.sleep(0.5)"
DOWNLOADS = """\
import os, sys
assert "SLURM_JOB_ID" not in os.environ  # on the submitting host
from lib import files, tiny
files.write_text(__import__("pathlib").Path(sys.argv[-1]), "")
tiny.note("downloads for " + " ".join(sys.argv[1:-4]))
"""


@pytest.fixture
def slurm(monkeypatch):
    if lacking := one_node.lacking():
        pytest.skip(f"There is no {lacking[0]} here: apt-get install slurm-wlm munge.")
    if not find_spec(cluster.PLUGIN):
        pytest.skip("The plugin is not installed: pip install -e '.[cluster]'.")
    with one_node.running() as own:
        for name, value in own.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("SBATCH_PARTITION", "main-part")
        yield


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path)
    for room in ("lib", "mini"):
        shutil.copytree(paths.ROOT / room, tmp_path / room, dirs_exist_ok=True)
    shutil.copytree(paths.MODELS / "mini-clip", tmp_path / "models" / "mini-clip")
    made.write("lib/tiny.py", TINY)
    made.write("mini/training.py", TRAIN)
    models = "{clip: mini-clip, rival: mini-b, untrained: openai-vit-b-32-untrained}"
    profile = made.read("profiles/mini.yaml")
    made.write("profiles/mini.yaml", profile.replace("{clip: mini-clip}", models))
    made.write("workflow/downloads.py", DOWNLOADS)
    # As a user would edit it, for two cores, little memory, and no accounting.
    config = "workflow/profiles/slurm/config.yaml"
    small = {"mem_mb": 1000}
    own = {"max-threads": 2, "set-resources": {"notebook": small, "model": small}}
    own |= {"slurm-status-command": "squeue", "slurm-init-seconds-before-status-checks": 1}
    made.write(config, yaml.safe_dump(yaml.safe_load(made.read(config)) | own))
    for file, name in (("progress", "EVERY = 60"), ("cluster", "ASK_AGAIN = 30")):
        text = made.read(f"workflow/{file}.py")
        assert name in text
        made.write(f"workflow/{file}.py", text.replace(name, name.partition("=")[0] + "= 2"))
    trained = "  models: [rival]\n"
    made.items(a__killed=trained, a__cancelled="", a__encodes=ENCODERS, b__waits="")
    made.notebook("a/killed", ONCE.format("killed", DIES), SAVE.format("a/killed"))
    made.notebook("a/cancelled", ONCE.format("cancelled", CANCELLED), SAVE.format("a/cancelled"))
    made.notebook("a/encodes", ENCODES, SAVE.format("a/encodes"))
    made.notebook("b/waits", WAITS, SAVE.format("b/waits"))
    return made


def queue() -> list[str]:
    asked = subprocess.run(["squeue", "-h", "-o", "%T"], capture_output=True, text=True, check=True)
    return asked.stdout.split()


def until(true, seconds: float = 60) -> float:
    """How long it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, f"waited in vain: {queue()}"
        time.sleep(0.1)
    return time.monotonic() - began


def test_the_life_of_a_run(slurm, project):
    began = time.monotonic()

    def say(what):
        print(f"\n{time.monotonic() - began:5.0f} s  {what}", flush=True)

    def run(*arguments):
        code, output = project.run("--cluster", "slurm", "--jobs", "4", *arguments)
        say(f"exit code {code}")
        print(output, flush=True)
        return code, output, project.ran()

    say("Train, and encode; one notebook is killed at first, and one cancelled")
    code, output, ran = run("--only", "a")
    assert code == 0
    assert {"a/killed", "a/cancelled", "a/encodes", "train mini-b", "report"} <= set(ran)
    assert sum(line.startswith("downloads for") for line in ran) == 1
    assert re.search(r"\d running, \d waiting in the queue", output)
    for name in ("a/killed", "a/cancelled"):
        assert re.search(rf"{name} .*FAILED: it was killed, or ended without a word", output)
        assert f"{name} is tried once more" in output

    for how, code in {signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}.items():
        process = project.start("--cluster", "slurm", "--only", "b/waits")
        until(lambda: "RUNNING" in queue())
        time.sleep(4)  # the notebook itself is at work
        process.send_signal(how)
        process.communicate(timeout=60)
        took = until(lambda: not queue(), 20)
        say(f"{how.name}: exit code {process.returncode}, and after {took:.1f} s no job is left")
        assert process.returncode == code

    say("Taken up again")
    (project.root / "notebooks/b/go").touch()
    code, output, ran = run()
    assert code == 0
    assert [line for line in ran if "downloads" not in line] == ["b/waits", "report"]
    code, output, ran = run()
    assert output.startswith("Nothing to do") and not ran
