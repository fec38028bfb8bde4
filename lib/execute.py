"""Run one step of the workflow: train a model, encode, run a notebook, or write the report.

The `Snakefile` calls `python -m lib.execute STEP --profile NAME`, with the names of `lib.state`.
`run_notebook` alone runs any notebook as a reader would, in its own folder.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

from lib import names, paths, profile, state

# jsonschema would compile a grammar of web addresses, for seconds; a notebook needs none of it.
sys.modules.setdefault("rfc3987_syntax", None)

TAG, INJECTED = "parameters", "injected-parameters"
OUTPUTS_OF = "outputs_of"  # in a notebook's metadata: the digest of the code that gave its outputs


class Failed(RuntimeError):
    """A step failed; the message is one sentence for the summary."""


# Notebooks ----------------------------------------------------------------------------------------


def run_notebook(notebook: Path, copy: Path, parameters: dict) -> None:
    """Run a notebook in its own folder, with this Python, and keep the executed copy.

    Args:
        notebook: the notebook; it is not changed.
        copy: where the executed copy goes, also when a cell fails.
        parameters: values for the cell tagged "parameters".

    Raises:
        ValueError: the notebook has no such parameter.
        Failed: a cell failed, left the notebook early, or the kernel died.
    """
    from papermill.exceptions import PapermillExecutionError

    _check_parameters(notebook, parameters)
    copy.parent.mkdir(parents=True, exist_ok=True)
    with _kernel_environment() as scratch:
        for attempt in (1, 2):
            try:
                _papermill(notebook, copy, parameters, scratch)
                break
            except PapermillExecutionError as error:
                raise Failed(_one_line(error.ename, error.evalue)) from None
            except RuntimeError as error:
                # The kernel, not a cell: it did not start, or it was killed, as by a full memory.
                if attempt == 2:
                    raise Failed(_one_line("The kernel died", str(error))) from None
    _check_completed(copy)


def _papermill(notebook: Path, copy: Path, parameters: dict, sockets: str) -> None:
    import papermill
    from traitlets.config import Config

    papermill.execute_notebook(
        str(notebook),
        str(copy),
        parameters=parameters,
        kernel_name="python3",
        language="python",
        cwd=str(notebook.parent),
        progress_bar=False,
        start_timeout=180,
        # Parallel kernels may pick the same TCP port. Sockets named after a folder of their own
        # cannot collide; by default they would be called the same in every notebook's folder.
        config=Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}}),
    )


@contextmanager
def _kernel_environment():
    """The same surroundings for every kernel, whatever the user has set; gives a scratch folder."""
    # In /tmp, because the path of a socket may not be longer than 104 characters.
    scratch = tempfile.mkdtemp(prefix="mg-", dir="/tmp")
    search = [str(paths.ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    ours = {
        "PYTHONPATH": os.pathsep.join(filter(None, search)),
        "PYTHONHASHSEED": "0",
        "JUPYTER_RUNTIME_DIR": scratch,
        "JUPYTER_PREFER_ENV_PATH": "1",  # this Python's kernel, not one registered by the user
        "IPYTHONDIR": scratch,  # and none of the user's start-up files
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",  # progress bars would bloat the copies and differ between runs
    }
    before = dict(os.environ)
    os.environ.update(ours)
    os.environ.pop("MPLBACKEND", None)  # the kernel shows its figures in the notebook
    try:
        yield scratch
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(scratch, ignore_errors=True)


def _check_parameters(notebook: Path, parameters: dict) -> None:
    """papermill only warns of an unknown parameter, and then runs with the default value."""
    code = [
        source for kind, source, tags in state.cells(notebook) if kind == "code" and TAG in tags
    ]
    if len(code) != 1:
        raise ValueError(f"{notebook.name} must have one cell tagged {TAG!r}; it has {len(code)}.")
    known = re.findall(r"^(\w+)\s*(?::[^=]+)?=", code[0], flags=re.MULTILINE)
    for name in parameters:
        if name not in known:
            raise ValueError(f"{notebook.name}: {names.unknown('parameter', name, known)}")


def _check_completed(copy: Path) -> None:
    """papermill takes `sys.exit(0)` in a cell for a success."""
    for cell in json.loads(copy.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code" or not "".join(cell["source"]).strip():
            continue
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                raise Failed(_one_line(output["ename"], output["evalue"]))
        if cell["execution_count"] is None:
            raise Failed("The notebook ended before its last cell.")


def _one_line(*parts: str) -> str:
    text = ": ".join(part for part in parts if part)
    line = next((line.strip() for line in text.splitlines() if line.strip()), "unknown error")
    return line if len(line) <= 160 else f"{line[:157]}..."


# Writing the outputs back -------------------------------------------------------------------------


def write_back(notebook: Path, copy: Path) -> None:
    """Give the notebook the outputs of its executed copy, in a form that is the same every time.

    A notebook whose source was changed in the meantime is left alone.
    """
    import nbformat

    executed = nbformat.read(copy, as_version=4)
    own = [cell for cell in executed.cells if INJECTED not in cell.metadata.get("tags", [])]
    original = nbformat.read(notebook, as_version=4)
    if [cell.source for cell in own] != [cell.source for cell in original.cells]:
        return
    count = 0
    for cell, ran in zip(original.cells, own, strict=True):
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in ("tags", "slideshow")}
        if cell.cell_type == "code":
            count += bool(cell.source.strip())
            cell.execution_count = count if cell.source.strip() else None
            cell.outputs = [_clean(output, count) for output in _joined(ran.outputs)]
    original.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        OUTPUTS_OF: state.code_digest(notebook),
    }
    text = nbformat.writes(original).rstrip("\n") + "\n"
    if text != notebook.read_text(encoding="utf-8"):
        state.write_text(notebook, text)


def _joined(outputs: list) -> list:
    """One output per stream, however many pieces it came in; no widgets, which need a kernel."""
    joined, streams = [], {}
    for output in outputs:
        if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
            continue
        if output.output_type == "stream" and output.name in streams:
            streams[output.name].text += output.text
            continue
        if output.output_type == "stream":
            streams[output.name] = output
        joined.append(output)
    return joined


def _clean(output, count: int):
    """Without what differs between two runs or two machines: counters, addresses, own paths."""
    output.metadata = output.get("metadata", {})
    if output.output_type == "stream":
        del output["metadata"]
        output.text = _clean_text(output.text)
    else:
        for kind, content in output.data.items():
            if kind.startswith("text/") and isinstance(content, str):
                output.data[kind] = _clean_text(content)
    if output.output_type == "execute_result":
        output.execution_count = count
    return output


def _clean_text(text: str) -> str:
    text = text.replace(str(paths.ROOT), ".").replace(str(Path.home()), "~")
    text = re.sub(r"\S*/ipykernel_\d+/\d+\.py", "<cell>", text)
    return re.sub(r"\b0x[0-9a-f]{6,16}\b", "0x...", text)


# Steps --------------------------------------------------------------------------------------------


def notebook_step(which: profile.Profile, item: str) -> None:
    notebook, copy = paths.NOTEBOOKS / f"{item}.ipynb", state.executed_file(which.name, item)
    run_notebook(notebook, copy, {"profile": which.name})
    for file in state.figures(which.name, item):
        if not file.is_file():
            raise Failed(f"The notebook ran, but did not save {item}{file.suffix} (results.save).")
    if which.name == "mini" and paths.FIGURES == paths.ROOT / "figures":
        write_back(notebook, copy)


def command_step(which: profile.Profile, step: str, *command: str) -> None:
    """Another module of `lib`, its output in the step's log."""
    log = state.log_file(which.name, step)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as output:
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=paths.ROOT, stdout=output, stderr=output
        )
    if done.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        raise Failed(
            _one_line(next((line for line in reversed(lines) if line.strip()), command[0]))
        )


def run_step(which: profile.Profile, step: str) -> None:
    """Run a step and, last of all, remember that it succeeded."""
    if step.startswith("models/"):
        return command_step(which, step, "lib.train", step.removeprefix("models/"))
    started, digest = time.monotonic(), state.digest(which, step)
    if state.is_item(step):
        notebook_step(which, step)
    elif step == state.REPORT:
        command_step(which, step, "lib.report", "--profile", which.name)
    else:
        role = step.removeprefix("embeddings/")
        command_step(which, step, "lib.embed", "--profile", which.name, "--model", role)
    state.remember(which.name, step, digest, time.monotonic() - started)
    return None


# Talking to the runner ----------------------------------------------------------------------------


def tell(**event) -> None:
    """Append a line to the runner's list of events, if there is a runner."""
    if events := os.environ.get("MODALITY_GAP_EVENTS"):
        with open(events, "a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")


def stop_with_runner(stop) -> None:
    """Call `stop` as soon as the runner is gone, even if it was killed without a word."""
    runner = int(os.environ.get("MODALITY_GAP_RUNNER", 0))

    def watch():
        while True:
            time.sleep(0.5)
            try:
                os.kill(runner, 0)
            except ProcessLookupError:
                stop()
                return

    if runner:
        threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib.execute")
    parser.add_argument("step")
    parser.add_argument("--profile", required=True)
    options = parser.parse_args(arguments)

    # A kernel outlives a process that is killed in one blow: leave by the front door.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    stop_with_runner(lambda: os.kill(os.getpid(), signal.SIGTERM))
    tell(event="start", step=options.step)
    started, error = time.monotonic(), "interrupted"
    try:
        run_step(profile.load(options.profile), options.step)
        error = None
    except (Failed, ValueError) as failure:
        error = str(failure)
    except Exception as failure:
        traceback.print_exc()
        error = _one_line(type(failure).__name__, str(failure))
    finally:
        seconds = round(time.monotonic() - started, 1)
        tell(event="end", step=options.step, error=error, seconds=seconds)
    return 1 if error else 0


if __name__ == "__main__":
    sys.exit(main())
