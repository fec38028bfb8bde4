"""Everything that only a CUDA GPU can show, by one command, in eight minutes at most.

`python tests/gpu/check.py [OUT] [--wheels FOLDER] [--dry]`, with a Python that has PyTorch with
CUDA: the tests marked `gpu`, inversions per second against the published algorithm, and a notebook
of real size. Each part has a limit, so that a slow one does not lose the others. The table and what
each part printed are kept in OUT ($OUT, or .cache/gpu) after every part.

What that Python lacks is installed beside it, never into it: from the folder of wheels, which a
machine without a network needs, or by pip. `--dry` runs the same on the processor, small.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent.parent
LIMITS = {"tests": 150, "benchmark": 130, "notebook": 160}  # seconds
NOT_NEEDED = ("jupyterlab", "ipywidgets", "snakemake")  # of the project's dependencies
TESTS = ["pytest", "hypothesis", "threadpoolctl"]
ARCHS = ["ViT-B-32-quickgelu", "ViT-L-14-quickgelu"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = Path(os.environ.get("OUT") or ROOT / ".cache/gpu")
    parser.add_argument("out", nargs="?", type=Path, default=default, help="where results go")
    parser.add_argument("--wheels", type=Path, help="install what is missing from these files")
    parser.add_argument("--dry", action="store_true", help="on the processor, small")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="gpu-"))
    try:
        python, began = environment(work, options.wheels), time.monotonic()
        found = {"machine": machine(python), "dry": options.dry, "parts": {}}
        if not found["machine"]["gpu"] and not options.dry:
            sys.exit("PyTorch sees no CUDA GPU here: --dry runs the check on the processor.")
        for name, command in commands(python, work, options.dry).items():
            took = run(name, command, work, out, options.dry)
            found["parts"][name] = took | {"found": READ[name](work)}
            found["seconds"] = round(time.monotonic() - began)
            (out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")
            (out / "gpu.txt").write_text(table(found))
        for picture in (work / "figures").rglob("*.png"):
            shutil.copy(picture, out)
        print((out / "gpu.txt").read_text())
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return any(part["result"] != "passed" for part in found["parts"].values())


# Python -------------------------------------------------------------------------------------------


def lacking() -> list[str]:
    """What this Python has not, of what the check needs, as requirements; versions aside."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {each: re.match(r"[\w.-]+", each)[0] for each in [*project["dependencies"], *TESTS]}
    return [r for r, name in names.items() if name not in NOT_NEEDED and not installed(name)]


def installed(name: str) -> bool:
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


def environment(work: Path, wheels: Path | None) -> str:
    """This Python, or one that sees its packages and has those that it lacks."""
    missing = lacking()
    if any(each.startswith("torch==") for each in missing):
        sys.exit("Run this by a Python that has PyTorch: the one here is not replaced.")
    if not missing:
        return sys.executable
    venv.create(work / "env", with_pip=False)
    python = work / "env" / "bin" / "python"
    own = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    ).strip()
    # Not --system-site-packages: this Python may be in an environment itself.
    theirs = [path for path in sys.path if path.endswith("-packages")]
    Path(own, "beside.pth").write_text("\n".join(theirs) + "\n")
    what = missing
    if wheels:
        what = ["--no-index", "--no-deps", *map(str, sorted(wheels.resolve().glob("*.whl")))]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", *what]
    if subprocess.call(pip):
        sys.exit(f"pip could not install what is missing: {', '.join(missing)}.")
    return str(python)


def machine(python: str) -> dict:
    code = (
        "import json, torch; gpu = torch.cuda.is_available(); "
        "print(json.dumps([torch.__version__, gpu and torch.cuda.get_device_name()]))"
    )
    version, gpu = json.loads(subprocess.check_output([python, "-c", code], text=True))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"gpu": gpu, "torch": version, "python": platform.python_version(), "cores": cores}


# Parts --------------------------------------------------------------------------------------------


def commands(python: str, work: Path, dry: bool) -> dict[str, list[str]]:
    tests = "pytest -m gpu tests/gpu -rs -p no:cacheprovider -o junit_family=xunit1"
    benchmark = ["--json", str(work / "benchmark.json"), "--arch"]
    benchmark += ["ViT-S-32-alt"] if dry else ARCHS
    benchmark += ["--batch", "1"] if dry else ["--batch", "64", "256", "--device", "cuda"]
    return {
        "tests": [python, "-m", *tests.split(), f"--junitxml={work / 'tests.xml'}"],
        "benchmark": [python, "tests/benchmarks/bench_inversion.py", *benchmark],
        "notebook": [python, "tests/gpu/notebook.py", str(work), *["--small"] * dry],
    }


def run(name: str, command: list[str], work: Path, out: Path, dry: bool) -> dict:
    """Run a part, with its output in OUT; at its limit, it and what it started are stopped."""
    limit = LIMITS[name] * (3 if dry else 1)  # a dry run's processor may be a slow one
    print(f"{name}: {limit} s at most", flush=True)
    own = {"PYTHONPATH": str(ROOT), "MODALITY_GAP_CACHE": str(work / "cache"), "TQDM_DISABLE": "1"}
    own |= {"MODALITY_GAP_GPU_DRY": "1"} if dry else {}
    began = time.monotonic()
    with open(out / f"{name}.log", "w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | own, stdout=log, stderr=log, start_new_session=True
        )
        try:
            result = "failed" if process.wait(limit) else "passed"
        except subprocess.TimeoutExpired:
            result = "stopped at its limit"
        finally:
            stop(process)
    if result != "passed":
        print(*(out / f"{name}.log").read_text().splitlines()[-20:], sep="\n", flush=True)
    return {"result": result, "seconds": round(time.monotonic() - began, 1)}


def stop(process: subprocess.Popen) -> None:
    """End a part's whole group; a notebook's kernel ends with its parent."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(5)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def read_tests(work: Path) -> dict:
    """Test -> passed, skipped or failed; and what was measured, by name."""
    if not (work / "tests.xml").is_file():
        return {}
    outcomes, measured = {}, {}
    for case in ElementTree.parse(work / "tests.xml").iter("testcase"):
        bad = [kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None]
        outcomes[case.get("name")] = bad[0] if bad else "passed"
        measured |= {p.get("name"): float(p.get("value")) for p in case.iter("property")}
    return {"outcomes": outcomes, "measured": measured}


def read_json(name: str):
    def read(work: Path):
        file = work / f"{name}.json"
        return json.loads(file.read_text()) if file.is_file() else {}

    return read


READ = {
    "tests": read_tests,
    "benchmark": read_json("benchmark"),
    "notebook": read_json("notebook"),
}


def table(found: dict) -> str:
    about, parts = found["machine"], found["parts"]
    where = f"{about['gpu'] or 'no GPU'}, {about['cores']} cores"
    lines = [f"{where}, Python {about['python']}, torch {about['torch']}", ""]
    lines += [f"{name:12}{p['result']:22}{p['seconds']:7.1f} s" for name, p in parts.items()]
    tests = parts["tests"]["found"]
    for name, outcome in tests.get("outcomes", {}).items():
        lines += [""] * (name == next(iter(tests["outcomes"]))) + [f"{outcome:9}{name}"]
    lines += ["", f"{'measured':48}{'value':>12}"] * bool(tests.get("measured"))
    lines += [f"{name:48}{value:12.3g}" for name, value in tests.get("measured", {}).items()]
    rows = parts.get("benchmark", {}).get("found", [])
    if rows:
        lines += [
            "",
            f"{'inversions per second':36}{'batch':>6}{'published':>11}{'ours':>9}  ratio",
        ]
    for row in rows:
        what, (theirs, ours) = f"{row['model']} {row['case']}", (row["published"], row["ours"])
        lines += [f"{what:36}{row['batch']:6}{theirs:11.3f}{ours:9.3f}{ours / theirs:7.1f}"]
    if notebook := parts.get("notebook", {}).get("found"):
        lines += ["", "notebook: " + ", ".join(f"{key} {v}" for key, v in notebook.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
