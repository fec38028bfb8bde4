"""The check of a GPU keeps what it has when a part is slow or fails, and tells what it found."""

import importlib.util
import sys
import time

import pytest

from lib import paths

spec = importlib.util.spec_from_file_location("check", paths.ROOT / "tests/gpu/check.py")
check = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check)

JUNIT = """<testsuites><testsuite>
<testcase name="a"><properties><property name="distance" value="2e-6"/></properties></testcase>
<testcase name="b"><failure message="far"/></testcase><testcase name="c"><skipped/></testcase>
</testsuite></testsuites>"""
MACHINE = {"gpu": "a card", "torch": "2", "python": "3", "cores": 16}


def part(code: str, folder, monkeypatch, limit: float = 60) -> dict:
    monkeypatch.setitem(check.LIMITS, "tests", limit)
    return check.run("tests", [sys.executable, "-c", code], folder, folder, dry=False)


@pytest.mark.parametrize(("code", "result"), [("print('done')", "passed"), ("1 / 0", "failed")])
def test_a_part_passes_or_fails(code, result, tmp_path, monkeypatch, capfd):
    assert part(code, tmp_path, monkeypatch)["result"] == result
    assert (tmp_path / "tests.log").read_text()
    assert ("ZeroDivisionError" in capfd.readouterr().out) == (result == "failed")


def test_a_slow_part_is_stopped_with_what_it_started(tmp_path, monkeypatch):
    mark = tmp_path / "mark"
    child = f"import time; time.sleep(4); open({str(mark)!r}, 'w')"
    code = f"import subprocess, sys; subprocess.call([sys.executable, '-c', {child!r}])"
    found = part(code, tmp_path, monkeypatch, limit=1.5)
    assert found["result"] == "stopped at its limit" and found["seconds"] < 4
    time.sleep(4)
    assert not mark.exists()


def test_all_parts_fit_into_eight_minutes():
    assert sum(check.LIMITS.values()) <= 8 * 60 - 40  # the rest is for what has to be installed


def test_this_environment_lacks_nothing(tmp_path):
    assert check.environment(tmp_path, None) == sys.executable


def test_the_table_says_what_was_measured(tmp_path):
    (tmp_path / "tests.xml").write_text(JUNIT)
    tests = check.read_tests(tmp_path)
    assert tests["outcomes"] == {"a": "passed", "b": "failure", "c": "skipped"}
    assert tests["measured"] == {"distance": 2e-6}
    row = {"model": "ViT", "case": "OTI", "batch": 64, "published": 2.0, "ours": 9.0}
    parts = {"tests": tests, "benchmark": [row], "notebook": {"devices": ["cuda"]}}
    done = {"result": "passed", "seconds": 1.0}
    parts = {name: done | {"found": found} for name, found in parts.items()}
    said = check.table({"machine": MACHINE, "parts": parts})
    assert "a card, 16 cores" in said and "2e-06" in said and "failure  b" in said
    assert "4.5" in said.split("ViT OTI")[1] and "cuda" in said


def test_a_part_that_left_nothing_is_told_too(tmp_path):
    parts = {name: {"result": "failed", "seconds": 0.1} for name in check.LIMITS}
    parts = {name: done | {"found": check.READ[name](tmp_path)} for name, done in parts.items()}
    assert check.table({"machine": MACHINE, "parts": parts}).count("failed") == len(parts)


def test_without_a_gpu_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["check.py", str(tmp_path)])
    monkeypatch.setattr(check, "machine", lambda python: MACHINE | {"gpu": False})
    with pytest.raises(SystemExit, match="no CUDA GPU"):
        check.main()
