"""Building the sandbox's C core: found again by its source, and a plain reason where it cannot be built."""

import shutil
import subprocess
import sys

import pytest

from selfalign.sandbox import build

COMPILER = shutil.which("cc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


@pytest.fixture
def place(monkeypatch, tmp_path):
    """A source and an environment of their own."""
    source, environment = tmp_path / "core.c", tmp_path / "environment"
    source.write_text("int answer(void) { return 42; }\n")
    environment.mkdir()
    monkeypatch.setattr(build, "SOURCE", source)
    paths, find = {"platlib": str(environment), "include": str(tmp_path)}, build.sysconfig.get_path
    monkeypatch.setattr(build.sysconfig, "get_path", lambda name, *rest: paths.get(name) or find(name, *rest))
    (tmp_path / "Python.h").write_text("")
    return tmp_path


@needs_compiler
def test_built_once_and_found_by_its_source(place):
    assert build.core_file() is None
    first = build.build_core()
    built_at = first.stat().st_mtime_ns
    assert build.build_core() == build.core_file() == first
    assert first.stat().st_mtime_ns == built_at
    build.SOURCE.write_text("int answer(void) { return 43; }\n")
    assert build.core_file() is None
    second = build.build_core()
    assert list(first.parent.iterdir()) == [second]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda place, patch: patch.setattr(build.shutil, "which", lambda name: None), "a C compiler is missing"),
        (lambda place, patch: (place / "Python.h").unlink(), r"Python\.h is missing\); install gcc and the headers"),
        pytest.param(
            lambda place, patch: build.SOURCE.write_text("int answer"), r"not built \(.*error", marks=needs_compiler
        ),
    ],
)
def test_not_built(place, monkeypatch, change, message):
    monkeypatch.delenv("CC", raising=False)
    change(place, monkeypatch)
    with pytest.raises(ValueError, match=message) as raised:
        build.build_core()
    assert "\n" not in str(raised.value)
    assert build.core_file() is None
    assert list((place / "environment").iterdir()) == []


def test_the_command_says_that_the_python_core_serves(tmp_path):
    script = shutil.copy(build.__file__, tmp_path)
    (tmp_path / "core.c").write_text("int of_a_core_that_nobody_built;\n")
    environment = {"PATH": str(tmp_path), "CC": "no-such-compiler"}
    result = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr.startswith("note: the sandbox's C core was not built (a C compiler is missing)")
    assert result.stderr.endswith("Until then the slower Python core serves.\n")
