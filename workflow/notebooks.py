"""Run a notebook as a reader would, in its own folder, and clean what it leaves behind.

`python -m workflow.notebooks ITEM --profile NAME --stamp FILE` is a step of the workflow: it runs
the notebook and then writes the stamp, which says what the step wrote and how long it took.
"""

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from lib import files, paths, suggestions

TAG, INJECTED = "parameters", "injected-parameters"
EVIDENCE = "evidence"  # the tag of the line below the title, which the record writes
OUTPUTS_OF = "outputs_of"  # in a notebook's metadata: the digest of the code that gave its outputs


class Failed(RuntimeError):
    """A step failed; the message is one sentence for the summary."""


# Reading ------------------------------------------------------------------------------------------


def cells(notebook: Path) -> list[list]:
    """The source of a notebook, cell by cell: kind, text and tags, without outputs.

    Without the line on its evidence either, which follows from its results.
    """
    return _cells(notebook, notebook.stat().st_mtime_ns)


@cache
def _cells(notebook: Path, _changed: int) -> list[list]:
    return [
        [cell["cell_type"], "".join(cell["source"]), cell["metadata"].get("tags", [])]
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        if EVIDENCE not in cell["metadata"].get("tags", [])
    ]


def code(notebook: Path) -> str:
    """All code cells as one Python source; a line of IPython's own (%, !) becomes `pass`."""
    sources = [source for kind, source, _ in cells(notebook) if kind == "code"]
    return re.sub(r"(?m)^[%!].*$", "pass", "\n".join(sources))


def sources_digest(notebook: Path) -> str:
    """SHA-256 of a notebook's source cells: running it or saving it again changes nothing."""
    return files.sha256(json.dumps(cells(notebook), ensure_ascii=False).encode())


def code_digest(notebook: Path) -> str:
    """SHA-256 of a notebook's code cells: what its outputs are outputs of."""
    sources = [source for kind, source, _ in cells(notebook) if kind == "code"]
    return files.sha256(json.dumps(sources, ensure_ascii=False).encode())


# Running ------------------------------------------------------------------------------------------


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
    # jsonschema would compile a grammar of web addresses, for seconds; a notebook needs none of it.
    sys.modules.setdefault("rfc3987_syntax", None)
    from papermill.exceptions import PapermillExecutionError

    _check_parameters(notebook, parameters)
    copy.parent.mkdir(parents=True, exist_ok=True)
    unfinished = files.beside(copy)  # a run before may still write
    try:
        with _kernel_environment() as scratch:
            for attempt in (1, 2):
                try:
                    _papermill(notebook, unfinished, parameters, scratch)
                    break
                except PapermillExecutionError as error:
                    raise Failed(_one_line(error.ename, error.evalue)) from None
                except RuntimeError as error:
                    # The kernel, not a cell: it did not start, or was killed by a full memory.
                    if attempt == 2:
                        raise Failed(_one_line("The kernel died", str(error))) from None
    finally:
        if unfinished.exists():
            os.replace(unfinished, copy)
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


def _short_folder() -> str | None:
    """The system's own folder for temporary files, where TMPDIR names a long one."""
    return None if len(tempfile.gettempdir()) < 60 else os.path.realpath("/tmp")


@contextmanager
def _kernel_environment():
    """The same environment for every kernel, not the user's settings; gives a scratch folder."""
    # A short name, because the path of a socket may not be longer than 104 characters.
    scratch = tempfile.mkdtemp(prefix="mg-", dir=_short_folder())
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
    from papermill.inspection import inspect_notebook

    known = list(inspect_notebook(str(notebook)))
    if not known:
        raise ValueError(f"{notebook.name} must have a cell tagged {TAG!r} with its parameters.")
    for name in parameters:
        if name not in known:
            raise ValueError(f"{notebook.name}: {suggestions.unknown('parameter', name, known)}")


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


def outputs_are_of(notebook: Path) -> bool:
    """Whether a notebook's outputs are those of its present code."""
    metadata = json.loads(notebook.read_text(encoding="utf-8"))["metadata"]
    return metadata.get(OUTPUTS_OF) == code_digest(notebook)


def write_back(notebook: Path, copy: Path) -> bool:
    """Give the notebook the outputs of its executed copy, in a form that is the same every time.

    Returns whether the notebook changed. One whose source was changed in the meantime is left
    alone.
    """
    import nbformat

    executed = nbformat.read(copy, as_version=4)
    ran = [cell for cell in executed.cells if not _tags(cell) & {INJECTED, EVIDENCE}]
    original = nbformat.read(notebook, as_version=4)
    own = [cell for cell in original.cells if EVIDENCE not in _tags(cell)]
    if [cell.source for cell in ran] != [cell.source for cell in own]:
        return False
    count = 0
    for cell, with_outputs in zip(own, ran, strict=True):
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in ("tags", "slideshow")}
        if cell.cell_type == "code":
            count += bool(cell.source.strip())
            cell.execution_count = count if cell.source.strip() else None
            cell.outputs = [_clean(output, count) for output in _joined(with_outputs.outputs)]
    original.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        OUTPUTS_OF: code_digest(notebook),
    }
    return _write(notebook, original)


def _tags(cell) -> set[str]:
    return set(cell.metadata.get("tags", []))


def write_evidence(notebook: Path, line: str) -> bool:
    """Put a line on a notebook's evidence below its title; returns whether the file changed."""
    import nbformat

    content = nbformat.read(notebook, as_version=4)
    others = [cell for cell in content.cells if EVIDENCE not in _tags(cell)]
    said = nbformat.v4.new_markdown_cell(line, id=EVIDENCE, metadata={"tags": [EVIDENCE]})
    content.cells = [others[0], said, *others[1:]]
    return _write(notebook, content)


def _write(notebook: Path, content) -> bool:
    """Write a notebook's content, unless it is there already; returns whether the file changed."""
    import nbformat

    text = nbformat.writes(content).rstrip("\n") + "\n"
    if text == notebook.read_text(encoding="utf-8"):
        return False
    files.write_text(notebook, text)
    return True


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
    text = text.replace(str(paths.ROOT), ".")
    home = str(Path.home())
    if len(home) > 1:  # not "/", which every path begins with
        text = re.sub(rf"{re.escape(home)}(?=[/\\s]|$)", "~", text)
    text = re.sub(r"\S*/ipykernel_\d+/\d+\.py", "<cell>", text)
    return re.sub(r"\b0x[0-9a-f]{6,16}\b", "0x...", text)


# A step of the workflow ---------------------------------------------------------------------------

SUFFIXES = ("png", "pdf", "csv", "json")


def figures(profile_name: str, item: str) -> list[Path]:
    """The four files of an item."""
    return [paths.FIGURES / profile_name / f"{item}.{suffix}" for suffix in SUFFIXES]


def executed(profile_name: str, stamp: Path) -> Path:
    """The executed copy of the notebook behind a stamp, kept whether it succeeded or not."""
    done = paths.CACHE / "done" / profile_name
    return paths.CACHE / "executed" / profile_name / f"{stamp.relative_to(done)}.ipynb"


def step(profile_name: str, item: str, stamp: Path) -> None:
    """Run an item's notebook and write the stamp, last of all.

    Raises: Failed, ValueError.
    """
    copy, began = executed(profile_name, stamp), time.monotonic()
    os.environ[paths.PROGRESS] = str(now_file(stamp))
    run_notebook(paths.NOTEBOOKS / f"{item}.ipynb", copy, {"profile": profile_name})
    made = figures(profile_name, item)
    for file in made:
        if not file.is_file():
            raise Failed(f"The notebook ran, but did not save {item}{file.suffix} (findings.save).")
    wrote = {file.name: files.sha256(file.read_bytes()) for file in made}
    files.write_json(stamp, {"seconds": round(time.monotonic() - began, 1), "files": wrote})


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m workflow.notebooks", description=__doc__)
    parser.add_argument("item")
    parser.add_argument("--profile", required=True)
    parser.add_argument("--stamp", required=True, type=Path)
    options = parser.parse_args(arguments)
    # A kernel outlives a process that is killed in one blow: leave by the front door.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    reason = failure_file(options.stamp)
    reason.unlink(missing_ok=True)
    try:
        step(options.profile, options.item, options.stamp)
        now_file(options.stamp).unlink(missing_ok=True)
        return 0
    except (Failed, ValueError) as failure:
        error = str(failure)
    except Exception as failure:
        traceback.print_exc()
        error = _one_line(type(failure).__name__, str(failure))
    files.write_text(reason, f"{error}\n")
    return 1


def now_file(stamp: Path) -> Path:
    """Where the notebook of a step says how far its encoding or its search is."""
    return stamp.with_name(f"{stamp.name}.now")


def failure_file(stamp: Path) -> Path:
    """Where a step that fails says why, in one sentence."""
    return stamp.with_name(f"{stamp.name}.failed")


if __name__ == "__main__":
    sys.exit(main())
