"""The trusted side of the sandbox: settings, packages, workers of several kinds, and what is tried again."""

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from test_sandbox import CORES
from test_sandbox_commands import descendants, still_running

from selfalign.records.rows import Verdict
from selfalign.records.settings import load_settings
from selfalign.sandbox import Program, Sandbox, SandboxSettings, SandboxUnavailable, pool, verify
from selfalign.sandbox.doctor import CANARIES
from selfalign.sandbox.packages import find_imports, locate_packages
from selfalign.sandbox.settings import SOURCE_LIMIT

GOOD = "assert 1 + 1 == 2\n"
SLOW = "import time\ntime.sleep(0.3)\nassert 1 + 1 == 2\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "the settings are not valid JSON"),
        ("[]", "the settings are list, not a JSON object"),
        ('{"cpu": 1}', "unknown setting 'cpu'; did you mean cpu_s?"),
        ('{"cpu_s": "4"}', "cpu_s is '4', which is not a number"),
        ('{"cpu_s": true}', "cpu_s is True, which is not a number"),
        ('{"memory_mb": 1.5}', "memory_mb is 1.5, which is not a whole number"),
        ('{"cpu_s": 0}', "cpu_s must be above 0 and finite, found 0"),
        ('{"cpu_s": NaN}', "cpu_s must be above 0 and finite, found nan"),
        ('{"wall_factor": Infinity}', "wall_factor must be above 0 and finite, found inf"),
        ('{"memory_mb": 16}', "memory_mb must be at least 128"),
        ('{"processes": -1}', "processes must be 0 or more"),
        ('{"packages": "yaml"}', "packages is 'yaml', which is not a list of strings"),
        ('{"packages": [1]}', "packages is [1], which is not a list of strings"),
        ('{"packages": ["yaml", "yaml"]}', "packages names one twice"),
    ],
)
def test_wrong_settings(text, message):
    with pytest.raises(ValueError, match=f"^sandbox settings: {re.escape(message)}"):
        load_settings(SandboxSettings, text, "sandbox settings")


def test_right_settings():
    found = load_settings(SandboxSettings, '{"cpu_s": 2, "packages": ["yaml"]}', "sandbox settings")
    assert found == SandboxSettings(cpu_s=2, packages=["yaml"])


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ({"id": "big", "code": "x" * (SOURCE_LIMIT - 9), "tests": "y" * 10}, "program 'big' has 1,048,577 characters"),
        ({"id": "a\ud800", "code": ""}, "holds half a character"),
    ],
)
def test_wrong_programs(program, message):
    with pytest.raises(ValueError, match=message):
        Program(**program)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x = 1\n", []),
        ("import os, sys\n", []),
        ("import numpy\n", ["numpy"]),
        ("import numpy.linalg as la, os\n", ["numpy"]),
        ("import os, yaml as y; import numpy\n", ["numpy", "yaml"]),
        ("from numpy import (\n    array,\n)\n", ["numpy"]),
        ("from numpy.linalg import norm\n", ["numpy"]),
        ("def f():\n    import numpy as np\n    return np\n", ["numpy"]),
        ("if True: import numpy\n", ["numpy"]),
        ("import os, \\\n    numpy\n", ["numpy"]),
        ("from \\\n    numpy import array\n", ["numpy"]),
        ("# numpy would do this\nx = 'yaml'\n", []),
        ("import numpyro\n", []),
        ("__import__('numpy')\n", ["numpy"]),
        ("import importlib\nname = 'numpy'\nimportlib.import_module(name)\n", ["numpy"]),
        ("exec('import ' + 'yaml')\n", ["yaml"]),
    ],
)
def test_find_imports(code, expected):
    packages = ["numpy", "pandas", "yaml"]
    assert find_imports(Program(id="x", code=code), packages) == tuple(expected)
    assert find_imports(Program(id="x", code="", tests=code), packages) == tuple(expected)
    assert find_imports(Program(id="x", code=code), []) == ()
    parts = [name.replace("numpy", "numpy.linalg") for name in packages]
    assert find_imports(Program(id="x", code=code), parts) == tuple(
        name.replace("numpy", parts[0]) for name in expected
    )


def install(folder: Path, name: str, requires: list[str], *, module: str = "", listed: bool = True) -> None:
    """Install a distribution by hand: a module of its name, and its metadata with or without a list of its files."""
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (folder / f"{name}.py").write_text(module)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {item}" for item in requires)]
    (metadata / "METADATA").write_text("\n".join(lines) + "\n")
    if listed:
        (metadata / "RECORD").write_text(f"{name}.py,,\n{name}-1.0.dist-info/METADATA,,\n../../../bin/{name},,\n")
    else:
        (metadata / "top_level.txt").write_text(f"{name}\n")


@pytest.fixture
def environment(tmp_path, monkeypatch) -> Path:
    """Put packages with requirements of every form into this process's environment."""
    folder = tmp_path / "site"
    folder.mkdir()
    install(
        folder,
        "sa_alpha",
        ["sa-beta>=0.5; python_version >= '3'", "sa-absent; extra == 'docs'", "sa-absent; sys_platform == 'win32'"],
        module="import sa_beta\nimport importlib.metadata\nvalue = sa_beta.value\n"
        "version = importlib.metadata.version('sa_alpha')\n",
    )
    install(folder, "sa_beta", ["Sa_Gamma[fast]", "sa_alpha"], module="import sa_gamma\nvalue = sa_gamma.value\n")
    install(folder, "sa_gamma", ["sa-delta; extra == 'fast'"], module="import sa_delta\nvalue = sa_delta.value\n")
    install(folder, "sa_delta", [], module="value = 7\n", listed=False)
    install(folder, "sa_broken", ["sa-absent"])
    (folder / "sa_loose.py").write_text("value = 8\n")
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_locate_packages(environment):
    found = locate_packages(["sa_alpha", "sa_delta", "sa_loose"])
    names = ("sa_alpha", "sa_beta", "sa_gamma", "sa_delta")
    modules = {f"{name}.py": str(environment / f"{name}.py") for name in names}
    listed = {f"{name}-1.0.dist-info": str(environment / f"{name}-1.0.dist-info") for name in names[:3]}
    assert found["sa_alpha"] == modules | listed
    assert found["sa_delta"] == {"sa_delta.py": modules["sa_delta.py"]}
    assert found["sa_loose"] == {"sa_loose.py": str(environment / "sa_loose.py")}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_package", "package 'no_such_package' is not installed beside"),
        ("no-such-package", "package 'no-such-package' is not installed beside"),
        ("sa_broken", "package 'sa_broken' needs sa-absent, which is not installed beside"),
        ("json", "'json' is of the standard library"),
        ("PyYAML", "PyYAML is imported as _yaml, yaml"),
    ],
)
def test_wrong_packages(environment, name, message):
    with pytest.raises(ValueError, match=f"^sandbox settings: .*{message}"):
        Sandbox(SandboxSettings(packages=[name]))


def judge(*programs: Program, workers: int = 1, core: str | None = None, **settings) -> dict[str, Verdict]:
    return {verdict.id: verdict for verdict in Sandbox(SandboxSettings(**settings), workers, core).run(programs)}


def test_packages(environment):
    """A program has what it imports of the allowed, with all that this needs; others do not even see the folder."""
    cases = {
        "named": ("passed", "import sa_alpha\nassert (sa_alpha.value, sa_alpha.version) == (7, '1.0')\n"),
        "preloaded": ("passed", "import sys\nready = 'sa_alpha' in sys.modules\nimport sa_alpha\nassert ready\n"),
        "a dependency": ("exception", "import sa_beta\nassert sa_beta.value == 7\n"),
        "not allowed": ("exception", "import sa_loose\nassert sa_loose.value == 8\n"),
        "not allowed beside allowed": ("exception", "import sa_alpha, sa_loose\nassert sa_loose.value == 8\n"),
        "plain": (
            "passed",
            "import os, sys\nassert not os.path.exists('/packages') and '/packages' not in sys.path\n"
            "assert not [name for name in sys.modules if name.startswith('sa_')]\n",
        ),
    }
    programs = [Program(id=name, code=code) for name, (_, code) in cases.items()]
    found = judge(*programs, workers=2, packages=["sa_alpha"])
    assert {name: verdict.verdict for name, verdict in found.items()} == {name: case[0] for name, case in cases.items()}
    assert found["a dependency"].detail == "ModuleNotFoundError: No module named 'sa_beta' (line 1)"
    assert found["not allowed"].detail == "ModuleNotFoundError: No module named 'sa_loose' (line 1)"


def test_numpy():
    """It is imported before the program starts, so that the import costs nothing, and fits into the default memory."""
    code = (
        "import sys\nready = 'numpy' in sys.modules\nimport numpy as np\nassert ready\n"
        "a = np.arange(90_000.0).reshape(300, 300) + 9e5 * np.eye(300)\n"
        "assert np.allclose(np.linalg.inv(a) @ a, np.eye(300))\n"
    )
    found = judge(Program(id="x", code=code), packages=["numpy"])["x"]
    assert found.verdict == "passed", found


@pytest.mark.parametrize("core", CORES)
def test_packages_find_a_writable_folder_that_programs_do_not_see(environment, core):
    """matplotlib and joblib write when they are imported."""
    (environment / "sa_delta.py").write_text(
        "import os, tempfile\nfolder = tempfile.mkdtemp(prefix='kept-')\nassert os.path.isdir(folder)\n"
    )
    code = (
        "import glob, os, tempfile, sa_delta\nwith tempfile.TemporaryFile() as file:\n    file.write(b'x')\n"
        "assert not glob.glob('/tmp/kept-*') and not os.path.exists('/tmp/inside')\n"
        "assert not os.path.exists('mine')\nopen('mine', 'w').close()\n"
    )
    programs = [Program(id=name, code=code) for name in ("first", "second")]
    found = judge(*programs, core=core, packages=["sa_delta"])
    assert {verdict.verdict for verdict in found.values()} == {"passed"}, found


@pytest.mark.parametrize("core", CORES)
def test_matplotlib_draws_and_numpy_has_a_fixed_seed(core):
    code = (
        "import matplotlib.pyplot as plt, numpy as np\nplt.plot(np.random.rand(3))\nplt.savefig('x.png')\n"
        "assert plt.get_backend().lower() == 'agg'\nassert np.random.RandomState(0).rand(4)[3] == np.random.rand()\n"
    )
    found = judge(Program(id="x", code=code), core=core, packages=["matplotlib.pyplot", "numpy"])["x"]
    assert found.verdict == "passed", found


def test_pandas_does_not_look_for_copies(environment):
    """It would ask gc.get_referents, which no program may, at every write to a part of a table."""
    install(environment, "pandas", [], module="class options:\n    class mode:\n        chained_assignment = 'warn'\n")
    code = "import pandas\nassert pandas.options.mode.chained_assignment is None\n"
    assert judge(Program(id="x", code=code), packages=["pandas"])["x"].verdict == "passed"


@pytest.mark.parametrize("core", ["c", "python"])
def test_packages_load_beforehand_what_programs_may_not(core):
    """scipy imports ctypes when it first integrates."""
    code = "from scipy.integrate import quad\nassert abs(quad(lambda x: x * x, 0, 3)[0] - 9) < 1e-9\n"
    assert judge(Program(id="x", code=code), core=core, packages=["scipy"])["x"].verdict == "passed"


def test_packages_do_not_bring_ctypes():
    code = "import numpy\nimport ctypes\nassert ctypes.sizeof(ctypes.c_int) == 4\n"
    assert judge(Program(id="x", code=code), packages=["numpy"])["x"].verdict == "exception"


def test_part_of_a_package():
    code = "import sys\nready = 'yaml.cyaml' in sys.modules\nimport yaml\nassert ready\n"
    assert judge(Program(id="x", code=code), packages=["yaml.cyaml"])["x"].verdict == "passed"


def test_package_that_does_not_start(environment):
    """Plain programs are judged; the first one that needs the package shows that it cannot be had."""
    (environment / "sa_delta.py").write_text("raise OSError('no device')\n")
    programs = [Program(id="plain", code=GOOD), Program(id="x", code=f"import sa_delta\n{GOOD}")]
    verdicts = Sandbox(SandboxSettings(packages=["sa_delta"])).run(programs)
    assert next(verdicts).verdict == "passed"
    with pytest.raises(
        SandboxUnavailable, match=r"with the packages sa_delta does not start \(sa_delta: OSError: no device"
    ):
        next(verdicts)


class Recorder:
    """Real workers that note what is done with them."""

    def __init__(self, monkeypatch):
        self.opened: list[tuple[str, ...]] = []
        self.submitted: list[tuple[str, bool]] = []
        self.live = self.most = 0
        recorder = self

        class Recorded(pool.Worker):
            def __init__(self, *arguments, **options):
                super().__init__(*arguments, **options)
                recorder.opened.append(self.kind)
                recorder.live += 1
                recorder.most = max(recorder.most, recorder.live)

            def submit(self, program, *, alone):
                super().submit(program, alone=alone)
                self.at_work = recorder.live
                recorder.submitted.append((program.id, alone))
                recorder.meet(self, program)

            def finish(self):
                program = self.program
                return recorder.change(program, super().finish())

            def close(self):
                recorder.live -= 1
                super().close()

        monkeypatch.setattr(pool, "Worker", Recorded)

    def meet(self, worker: pool.Worker, program: Program) -> None:
        """Do something to a worker that has just got a program."""

    def change(self, program: Program, answer: dict) -> dict:
        """Change the answer for a program."""
        return answer

    def attempts(self, name: str) -> list[bool]:
        """Return for each attempt of a program whether it was sent as one that runs alone."""
        return [alone for submitted, alone in self.submitted if submitted == name]


@pytest.fixture
def recorder(monkeypatch) -> Recorder:
    return Recorder(monkeypatch)


@pytest.mark.parametrize("workers", [1, 2])
def test_no_more_workers_than_asked_for(recorder, environment, workers):
    codes = [GOOD, f"import sa_alpha\n{GOOD}", f"import sa_loose\n{GOOD}"]
    programs = [Program(id=str(n), code=codes[n % 3]) for n in range(9)]
    found = judge(*programs, workers=workers, packages=["sa_alpha", "sa_loose"])
    assert {verdict.verdict for verdict in found.values()} == {"passed"}
    assert recorder.most == workers
    assert recorder.live == 0
    assert set(recorder.opened) == {(), ("sa_alpha",), ("sa_loose",)}


def run_batch(folder: Path, programs: list[Program], **options) -> list[dict]:
    options = {"settings": SandboxSettings(), "workers": 1, "stats": None, "label": "batch", "key": "key"} | options
    verify(programs, output=folder / "verdicts.jsonl", **options)
    return [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]


def test_kinds_do_not_alternate_in_a_batch(recorder, environment, tmp_path):
    """The rows come in the programs' order all the same."""
    codes = [f"import sa_alpha\n{GOOD}", GOOD]
    programs = [Program(id=str(n), code=f"{codes[n % 2]}assert {n} < 9\n") for n in range(8)]
    rows = run_batch(tmp_path, programs, settings=SandboxSettings(packages=["sa_alpha"]))
    assert [(row["id"], row["verdict"]) for row in rows] == [(str(n), "passed") for n in range(8)]
    assert recorder.opened[-2:] == [(), ("sa_alpha",)]  # the canaries' come first


def test_same_programs_run_once(recorder, tmp_path):
    programs = [
        Program(id="a", code="x = 1\n", tests="assert x == 1\n"),
        Program(id="b", code="x = 1\n", tests="assert x == 2\n"),
        Program(id="c", code="x = 1\nassert x == 1\n"),
        Program(id="d", code="x = 1\n", tests="assert x == 1\n"),
        Program(id="e", code="x = 1\n", tests="assert x == 2\n"),
    ]
    rows = run_batch(tmp_path, programs)
    assert [name for name, _ in recorder.submitted if name not in CANARIES] == ["a", "b", "c"]
    assert [row["id"] for row in rows] == list("abcde")
    assert [row["verdict"] for row in rows] == ["passed", "assertion", "passed", "passed", "assertion"]
    assert rows[3] == rows[0] | {"id": "d"}
    assert rows[4] == rows[1] | {"id": "e"}


# --- What is tried again ----------------------------------------------------------------------------------------

CASES = {
    "passes": ("passed", GOOD),
    "fails": ("assertion", "assert 1 == 2\n"),
    "computes": ("timeout_cpu", "while True: pass\n"),
    "sleeps": ("timeout_wall", "import time\ntime.sleep(9)\n"),
    "eats": ("memory", "x = bytearray(1 << 40)\n"),
}


def test_a_program_s_own_failures_are_final(recorder):
    recorder.change = lambda program, answer: answer | {"starved": False}  # also while other tests load the machine
    programs = [Program(id=name, code=code) for name, (_, code) in CASES.items()]
    found = judge(*programs, workers=2, cpu_s=0.3, wall_factor=2.0)
    assert {name: verdict.verdict for name, verdict in found.items()} == {name: case[0] for name, case in CASES.items()}
    assert sorted(recorder.submitted) == sorted((name, False) for name in CASES)


@pytest.mark.parametrize(("starved", "attempts"), [(0, 1), (1, 2), (2, 3), (9, 3)])
def test_a_starved_program_is_tried_again_alone(recorder, starved, attempts):
    """The machine is made to look busy for so many attempts of one program."""
    together = []
    recorder.meet = lambda worker, program: together.append((program.id, recorder.live))

    def change(program, answer):
        if program.id != "late":
            return answer
        busy = len(recorder.attempts("late")) <= starved
        return answer | ({"verdict": "timeout_wall", "starved": True} if busy else {"starved": False})

    recorder.change = change
    programs = [Program(id=name, code=SLOW) for name in ("late", "b", "c", "d")]
    found = judge(*programs, workers=2)
    assert recorder.attempts("late") == [False, *[True] * (attempts - 1)]
    assert [recorder.attempts(name) for name in "bcd"] == [[False]] * 3
    assert found["late"].verdict == ("timeout_wall" if starved >= 3 else "passed")
    assert list(found)[-1] == "late" or starved == 0
    assert recorder.submitted[len(programs) :] == [("late", True)] * (attempts - 1)
    assert together[len(programs) :] == [("late", 1)] * (attempts - 1)
    assert len(recorder.opened) == 2 + attempts - 1


@pytest.mark.parametrize(
    ("deaths", "attempts", "verdict"), [(1, 2, "passed"), (2, 3, "passed"), (9, 3, "sandbox_error")]
)
def test_a_worker_that_dies_is_our_trouble(recorder, deaths, attempts, verdict):
    """Kill the worker from outside while its program runs; the program beside it does not suffer."""

    def meet(worker, program):
        if program.id == "struck" and len(recorder.attempts("struck")) <= deaths:
            worker.process.kill()

    recorder.meet = meet
    found = judge(Program(id="struck", code=SLOW), Program(id="beside", code=SLOW), workers=2)
    assert recorder.attempts("struck") == [False, *[True] * (attempts - 1)]
    assert recorder.attempts("beside") == [False]
    assert found["beside"].verdict == "passed"
    assert found["struck"].verdict == verdict
    if verdict == "sandbox_error":
        assert found["struck"].detail == "worker died: (SIGKILL)"


def test_a_worker_that_falls_silent_is_our_trouble(recorder):
    recorder.meet = lambda worker, program: setattr(worker, "deadline", 0.0)
    found = judge(Program(id="x", code=SLOW))["x"]
    assert (found.verdict, found.detail) == ("sandbox_error", "worker died: no answer in time.")
    assert recorder.attempts("x") == [False, True, True]
    assert recorder.live == 0


def test_a_worker_that_does_not_read_is_our_trouble(monkeypatch):
    """A request that fills the pipe of a stopped worker does not hold up the supervisor for ever."""
    worker = pool.Worker(pool.find_bwrap(), SandboxSettings())
    try:
        below = sorted(descendants(worker.process.pid))
        for pid in below:
            os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(pool, "GRACE_S", 0.2 - 4 * 3 * 10)
        worker.submit(Program(id="x", code="#" * 500_000), alone=False)
        answer = worker.finish()
    finally:
        worker.close()
    assert answer["verdict"] == "sandbox_error"
    assert answer["detail"].startswith("worker died: ")
    assert len(below) >= 2
    assert not still_running(below)


def test_a_broken_sandbox_stops_early(recorder, tmp_path):
    """Every worker dies of every program after the third: the batch gives up, and keeps the three."""

    def meet(worker, program):
        if program.id == "probe" or (program.id not in CANARIES and int(program.id) >= 3):
            worker.process.kill()

    recorder.meet = meet
    programs = [Program(id=str(n), code=f"{SLOW}assert {n} < 99\n") for n in range(60)]
    with pytest.raises(
        SandboxUnavailable, match=r"^batch: the sandbox itself broke for 10 programs in a row, the last is"
    ):
        run_batch(tmp_path, programs)
    assert len([name for name, _ in recorder.submitted if name not in {*CANARIES, "probe"}]) == 13
    assert recorder.live == 0
    assert not (tmp_path / "verdicts.jsonl").exists()
    recorder.meet = lambda worker, program: None
    recorder.submitted.clear()
    assert [row["verdict"] for row in run_batch(tmp_path, programs[:4], key="other")] == ["passed"] * 4
    assert [name for name, _ in recorder.submitted if name not in CANARIES] == ["0", "1", "2", "3"]


def test_programs_that_break_their_workers_do_not_stop_a_run(recorder):
    """Twelve in a row kill their workers when they run among others: a correct program still runs, so it goes on."""
    met = set()

    def meet(worker, program):
        if program.id not in met and program.id != "probe":
            met.add(program.id)
            worker.process.kill()

    recorder.meet = meet
    programs = [Program(id=str(n), code=f"{SLOW}{GOOD}") for n in range(12)]
    assert [verdict.verdict for verdict in Sandbox(SandboxSettings()).run(programs)] == ["passed"] * 12
    assert "probe" in [name for name, _ in recorder.submitted]


def test_scattered_breaks_do_not_stop_a_run(recorder, monkeypatch):
    """More programs break their worker than may in a row, but others pass in between."""
    monkeypatch.setattr(pool, "BROKEN_IN_A_ROW", 2)

    def meet(worker, program):
        if program.id in "024":
            worker.process.kill()

    recorder.meet = meet
    found = judge(*(Program(id=str(n), code=SLOW) for n in range(5)))
    assert [found[str(n)].verdict for n in range(5)] == ["sandbox_error", "passed"] * 2 + ["sandbox_error"]


def test_single_breaks_do_not_stop_a_batch(recorder, tmp_path):
    """One program breaks every worker: all others are judged and kept, and only it runs the next time."""
    doomed = ["1"]
    recorder.meet = lambda worker, program: worker.process.kill() if program.id in doomed else None
    programs = [Program(id=str(n), code=f"{SLOW}assert {n} < 99\n") for n in range(4)]
    with pytest.raises(ValueError, match="broke for 1 of 4 programs, the first is 1 "):
        run_batch(tmp_path, programs)
    assert recorder.attempts("1") == [False, True, True]
    doomed.clear()
    recorder.submitted.clear()
    assert [row["verdict"] for row in run_batch(tmp_path, programs)] == ["passed"] * 4
    assert [name for name, _ in recorder.submitted if name not in CANARIES] == ["1"]


# --- Cores ------------------------------------------------------------------------------------------------------


def test_core_in_python():
    assert judge(Program(id="x", code=GOOD), core="python")["x"].core == "python"


def test_core_that_was_not_built(monkeypatch):
    monkeypatch.setattr(pool, "core_file", lambda: None)
    with pytest.raises(SandboxUnavailable, match=r"C core was not built.*install gcc.*run make setup again"):
        Sandbox(SandboxSettings(), core="c")
    assert Sandbox(SandboxSettings()).core is None


def test_unknown_core():
    with pytest.raises(ValueError, match="core is 'rust'; it can be c or python"):
        Sandbox(SandboxSettings(), core="rust")


if pool.core_file():

    def test_core_in_c():
        assert judge(Program(id="x", code=GOOD), core="c")["x"].core == "c"
        assert judge(Program(id="x", code=GOOD))["x"].core == "c"


def test_core_is_bound_for_reading(tmp_path):
    """Inside, the file has a fixed name, and the interpreter before it can read it."""
    core = tmp_path / "core.so"
    core.write_text("stand-in")
    job = json.loads(pool.build_command("bwrap", {}, core)[-1])
    assert [str(core), "/tmp/core.so"] in job["binds"]
    assert sys.executable == pool.build_command("bwrap", {}, None)[0]
    assert "/tmp/core.so" not in json.dumps(pool.build_command("bwrap", {}, None))
