"""What a program prints is compared outside: it arrives byte for byte within its limit, and only a pass is compared."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from test_sandbox import CORES
from test_sandbox_commands import SCRIPTS, descendants, still_running

from selfalign.records.rows import Verdict
from selfalign.sandbox import Program, Sandbox, SandboxSettings, pool, verify
from selfalign.sandbox.settings import COLLECT_LIMIT_KB

KB = 64
DONE = "done = True\nassert done is True\n"
STDOUT = "import sys\nout = sys.stdout.buffer\n"
SINK = "import sys\nclass Sink:\n    def write(self, text): pass\n"
ODD = b"\x00\r\n\n\x1b[2J" + bytes(range(256)) + b"\xff\xfe\xf0\x9f\x98" + "ä€😀".encode() + b"\xed\xa0\x80\xc0\xaf\x00"


@dataclass
class Expect:
    """Compare with one text, and note what was compared."""

    expected: str = ""
    key: str = "key"
    collect_kb: int = KB
    seen: list[str] = field(default_factory=list)

    def __call__(self, printed: str) -> str:
        self.seen.append(printed)
        return "" if printed == self.expected else f"printed {printed[:400]!r}"


# name: (what arrives, code, tests). Every program passes.
ARRIVES = {
    "nothing": ("", "", ""),
    "before the tests": ("one\n", "print('one')\n", ""),
    "in the tests": ("two\n", "def f(): return 'two'\n", "print(f())\n"),
    "no line end": ("x", "print('x', end='')\n", ""),
    "many writes": ("y" * 5000, "import os\nfor _ in range(5000): os.write(1, b'y')\n", ""),
    "both streams": ("abc", "import os\nos.write(1, b'a')\nos.write(2, b'b')\n", "os.write(1, b'c')\n"),
    "errors": ("a\nb\n", "import sys\nprint('a', file=sys.stderr)\nprint('b', file=sys.stderr)\n", ""),
    "errors without a line end": ("a", "import sys\nsys.stderr.write('a')\n", ""),
    "thread": ("t\n", "import threading\nthreading.Thread(target=print, args=('t',)).start()\n", ""),
    "thread that ends later": (
        "late\n",
        "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.2), print('late'))).start()\n",
        "",
    ),
    "every byte": (ODD.decode("utf-8", "replace"), f"{STDOUT}out.write({ODD!r})\n", ""),
    "a lone surrogate": ("\ufffd\n", "print('\\udcff')\n", ""),
    "as much as it may": ("z" * (KB * 1024), f"print('z' * {KB * 1024}, end='')\n", ""),
    "left at its end": (
        "bye\n",
        "import sys\ndef main():\n    assert 1 == 1\n    print('bye')\n",
        "sys.exit(main())\n",
    ),
    "stdout replaced": (
        "before\n",
        "import io, sys\nprint('before')\nsys.stdout = io.StringIO()\nprint('after')\n",
        "",
    ),
    "stdout wrapped": (
        "a\nb\n",
        "import io, sys\nprint('a')\nsys.stdout.flush()\n"
        "sys.stdout = io.TextIOWrapper(io.FileIO(1, 'w', closefd=False))\nprint('b')\n",
        "",
    ),
    "stdout gone": ("a\n", "import sys\nprint('a')\nsys.stdout = None\nprint('b')\n", ""),
    "stdout closed": ("a\n", "import sys\nprint('a')\nsys.stdout.close()\n", ""),
    "printed to a copy": (
        "right\n",
        "import os\nkept = os.dup(1)\nfor number in (1, 2): os.dup2(os.open('/dev/null', os.O_WRONLY), number)\n"
        "print('noise', flush=True)\n",
        "os.write(kept, b'right\\n')\n",
    ),
    "pipe made small": (
        "s" * 60_000,
        "import fcntl\nfcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 4096)\nprint('s' * 60_000, end='')\n",
        "",
    ),
    "pipe of packets": (
        "pq" * 9,
        "import fcntl, os\nfcntl.fcntl(1, fcntl.F_SETFL, os.O_DIRECT)\nfor _ in range(9): os.write(1, b'pq')\n",
        "",
    ),
    "too long for the server to compile": ("long\n", "print('long')\n" + "#" * 70_000 + "\n", ""),
}

# name: (verdict, code). Nothing is compared, whatever was printed.
NOT_COMPARED = {
    "one byte too many": ("output_limit", f"print('z' * {KB * 1024})\n"),
    "far too much": ("output_limit", "while True: print('z' * 1000)\n"),
    "too much on both streams": (
        "output_limit",
        f"import os\nfor number in (1, 2): os.write(number, b'z' * {KB * 512 + 1})\n",
    ),
    "left before": ("early_exit", "import os\nos._exit(0)\nprint('right')\n"),
    "left after": ("early_exit", "import os\nprint('right', flush=True)\nos._exit(0)\n"),
    "exception after": ("exception", "print('right', flush=True)\nraise ValueError('x')\n"),
    "assertion after": ("assertion", "print('right', flush=True)\nassert 1 == 2\n"),
    "swallowed assertion": (
        "swallowed_assertion",
        "def test():\n    assert 1 == 2\ntry: test()\nexcept AssertionError: print('right')\n",
    ),
    "does not compile": ("syntax", "print('right'\n"),
    "computes": ("timeout_cpu", "print('right', flush=True)\nwhile True: pass\n"),
    "sleeps": ("timeout_wall", "import time\nprint('right', flush=True)\ntime.sleep(9)\n"),
    "too much memory": ("memory", "print('right', flush=True)\nx = bytearray(1 << 40)\n"),
    "killed": ("killed", "import os\nprint('right', flush=True)\nos.abort()\n"),
    "flush that raises": (
        "exception",
        f"{SINK}    def flush(self): raise OSError('full')\nsys.stdout = Sink()\n",
    ),
    "flush that leaves": (
        "early_exit",
        f"import os\n{SINK}    def flush(self): os._exit(0)\nsys.stdout = Sink()\n",
    ),
    "flush that exits": (
        "early_exit",
        f"{SINK}    def flush(self): sys.exit(0)\nsys.stdout = Sink()\n",
    ),
    "asserts nothing": ("no_tests", None),
}


@pytest.fixture(scope="module", params=CORES)
def core(request) -> str:
    """Run a test with each core."""
    return request.param


@pytest.fixture(scope="module")
def collected(core) -> dict[str, tuple[Verdict, list[str]]]:
    """Run both tables once with each core; the verdict and what was compared, by name."""
    programs = [
        Program(id=name, code=code, tests=DONE + tests, compare=Expect(expected))
        for name, (expected, code, tests) in ARRIVES.items()
    ]
    programs += [
        Program(id=name, code=code or "", tests="print('right')\n" + DONE * (code is not None), compare=Expect("right"))
        for name, (_, code) in NOT_COMPARED.items()
    ]
    seen = {program.id: program.compare.seen for program in programs}
    settings = SandboxSettings(cpu_s=1.0, wall_factor=2.0, output_kb=1, memory_mb=256)
    return {found.id: (found, seen[found.id]) for found in Sandbox(settings, workers=2, core=core).run(programs)}


@pytest.mark.parametrize("name", ARRIVES)
def test_arrives(collected, name):
    verdict, seen = collected[name]
    assert seen == [ARRIVES[name][0]]
    assert (verdict.verdict, verdict.detail) == ("passed", ""), verdict


@pytest.mark.parametrize("name", NOT_COMPARED)
def test_not_compared(collected, name):
    verdict, seen = collected[name]
    assert verdict.verdict == NOT_COMPARED[name][0], verdict
    assert seen == []


def judge(*programs: Program, core: str | None = None, workers: int = 1, **settings) -> dict[str, Verdict]:
    return {verdict.id: verdict for verdict in Sandbox(SandboxSettings(**settings), workers, core).run(programs)}


def test_wrong_output(core):
    """The verdict says what is wrong in a short text that prints and is the same on every run."""
    cases = {
        "wrong": ("print(2)", "printed '2\\n'"),
        "nothing": ("", "printed ''"),
        "an address": ("print(object())", "printed '<object object at 0x…>\\n'"),
        "long": ("print('x' * 300)", f"printed '{'x' * 246}…"),
    }
    programs = [Program(id=name, code=code, tests=DONE, compare=Expect("1\n")) for name, (code, _) in cases.items()]
    found = judge(*programs, core=core)
    assert {name: (row.verdict, row.detail) for name, row in found.items()} == {
        name: ("wrong_output", detail) for name, (_, detail) in cases.items()
    }
    assert {row.assertions for row in found.values()} == {1}


def test_a_comparison_that_is_false_compares():
    """As one that holds what is expected, where that is nothing."""

    class Nothing(Expect):
        def __len__(self):
            return 0

    found = judge(Program(id="x", code="print(1)", tests=DONE, compare=Nothing()))["x"]
    assert found.verdict == "wrong_output"


def test_what_it_says_can_be_stored(core, tmp_path):
    """A comparison may decode what was printed to anything."""

    class Odd(Expect):
        def __call__(self, printed):
            return "\ud800\x1b[2J\0half"

    rows = run_batch(tmp_path, [Program(id="x", code="", tests=DONE, compare=Odd())], core=core)
    assert [(row["verdict"], row["detail"]) for row in rows] == [("wrong_output", "[2J half")]


def test_sixteen_megabytes(core):
    """They arrive whole; afterwards the server holds none of them, and the next program is like any other."""
    size = 16 << 20
    block = bytes(range(256)) * 16
    expected = (block * (size // len(block))).decode("utf-8", "replace")
    code = f"import os\nblock = bytes(range(256)) * 16\nfor _ in range({size // len(block)}): os.write(1, block)\n"
    compare = Expect(expected, collect_kb=size >> 10)
    worker = pool.Worker(pool.find_bwrap(), SandboxSettings(), core=pool.find_core(core))
    try:
        server = max(descendants(worker.process.pid))

        def memory() -> dict[str, int]:
            lines = Path(f"/proc/{server}/status").read_text().splitlines()
            return {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "VmHWM"))}

        for n, (text, comparison) in enumerate([("", None), (code, compare), ("", None)]):
            program = Program(id=str(n), code=text, tests=DONE, compare=comparison)
            before = memory()
            worker.submit(program, alone=False)
            assert pool.make_verdict(program, worker.finish()).verdict == "passed"
            after = memory()
            assert abs(after["VmRSS"] - before["VmRSS"]) < 2 << 10
            grown = after["VmHWM"] - before["VmHWM"]
            assert abs(grown - (size >> 10 if comparison else 0)) < 2 << 10  # the kernel counts roughly
    finally:
        worker.close()
    assert compare.seen == [expected]


def test_the_room_is_not_the_program_s(core):
    """A program that finds where the server keeps output finds none there, and changes nothing but its own copy."""
    code = (
        "import sys\nframe, found = sys._getframe(), []\n"
        "while frame:\n"
        "    found += [value for value in frame.f_locals.values() if type(value) is memoryview]\n"
        "    frame = frame.f_back\n"
        "print('first', flush=True)\nprint({bytes(view[:9]) for view in found})\n"
        "import time; time.sleep(0.2)  # let the server read what is there\n"
        "for view in found: view[:9] = b'forged   '\n"
    )
    first, second = Expect(f"first\n{ {bytes(9)} }\n"), Expect("1\n")
    programs = [
        Program(id="1", code=code, tests=DONE, compare=first),
        Program(id="2", code="print(1)\n", tests=DONE, compare=second),
    ]
    assert {verdict.verdict for verdict in judge(*programs, core=core).values()} == {"passed"}


def test_the_room_takes_no_memory_of_the_program(core):
    """A program has the same memory with it, to compile and to run."""
    code = "x = bytearray({} << 20)\n" + "y = [1, x]\n" * 5000  # to compile it takes memory, too
    limits = {"fits": (80, "passed"), "does not": (120, "memory")}
    programs = [
        Program(id=f"{name}, {kb} KiB", code=code.format(mb), tests=DONE, compare=Expect(collect_kb=kb) if kb else None)
        for name, (mb, _) in limits.items()
        for kb in (0, 1, 130 << 10)
    ]
    found = judge(*programs, core=core, memory_mb=128)
    assert {name: row.verdict for name, row in found.items()} == {
        program.id: limits[program.id.split(",")[0]][1] for program in programs
    }


@pytest.mark.parametrize(("collect_kb", "verdict"), [(40, "passed"), (39, "output_limit")])
def test_what_is_left_at_the_end(core, collect_kb, verdict):
    """A server that was slow finds the program dead and ten packets in the pipe, which it can only read one by one."""
    code = (
        "import fcntl, os, time\ntime.sleep(0.5)\nfcntl.fcntl(1, fcntl.F_SETFL, os.O_DIRECT)\n"
        "for _ in range(10): os.write(1, b'z' * 4096)\n"
    )
    compare = Expect("z" * 40960, collect_kb=collect_kb)
    program = Program(id="x", code=code, tests=DONE, compare=compare)
    worker = pool.Worker(pool.find_bwrap(), SandboxSettings(), core=pool.find_core(core))
    try:
        below = descendants(worker.process.pid)
        worker.submit(program, alone=False)
        while not (started := descendants(worker.process.pid) - below):
            time.sleep(0.01)
        os.kill(max(below), signal.SIGSTOP)
        [pid] = started
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        os.kill(max(below), signal.SIGCONT)
        found = pool.make_verdict(program, worker.finish())
    finally:
        worker.close()
    assert (found.verdict, len(compare.seen)) == (verdict, int(verdict == "passed"))


# --- CPU time of its own ----------------------------------------------------------------------------------------

COMPUTES = "import time\nwhile time.process_time() < 1.5: pass\n"
SLEEPS = "import time\ntime.sleep(1)\n"
LIMIT = "import resource\nassert resource.getrlimit(resource.RLIMIT_CPU) == ({0}, {0})\n"


# name: (verdict, code, its CPU seconds). The others have half a second.
OWN_TIME = {
    "computes": ("passed", COMPUTES, 4),
    "computes, as others": ("timeout_cpu", COMPUTES, None),
    "computes, less": ("timeout_cpu", COMPUTES, 0.1),
    "sleeps": ("passed", SLEEPS, 4),
    "sleeps, less": ("timeout_wall", SLEEPS, 0.1),
    "limit": ("passed", LIMIT.format(9), 4),
    "limit, as others": ("passed", LIMIT.format(2), None),
}


def test_own_cpu_time(core):
    programs = [Program(id=name, code=code, tests=DONE, cpu_s=cpu_s) for name, (_, code, cpu_s) in OWN_TIME.items()]
    found = judge(*programs, core=core, workers=2, cpu_s=0.5)
    assert {name: row.verdict for name, row in found.items()} == {name: case[0] for name, case in OWN_TIME.items()}


def test_time_to_compile_and_to_answer(core):
    """What may be long in a server and outside it follows a program's CPU time, one program after the other."""
    slow = "try: pass\nfinally:\n"
    for depth in range(1, 16):
        slow += f"{' ' * depth}try: pass\n{' ' * depth}finally:\n"
    slow += f"{' ' * 16}pass\n"
    worker = pool.Worker(pool.find_bwrap(), SandboxSettings(cpu_s=0.02), core=pool.find_core(core))
    try:
        for cpu_s, verdict in ((20, "passed"), (None, "sandbox_error")):
            program = Program(id="x", code=slow, tests=DONE, cpu_s=cpu_s)
            worker.submit(program, alone=False)
            left = worker.deadline - time.monotonic()
            assert 0 <= (cpu_s or 0.02) * 3 * 10 + pool.GRACE_S - left < 1
            answer = worker.finish()
            assert answer["verdict"] == verdict, answer
    finally:
        worker.close()
    assert answer["detail"] == f"worker died: (exit code {128 + signal.SIGPROF})"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpu_s": 0}, "program 'x': cpu_s must be above 0 and finite, found 0"),
        ({"cpu_s": -1.0}, "program 'x': cpu_s must be above 0 and finite, found -1.0"),
        ({"cpu_s": float("nan")}, "program 'x': cpu_s must be above 0 and finite, found nan"),
        ({"cpu_s": float("inf")}, "program 'x': cpu_s must be above 0 and finite, found inf"),
        ({"compare": Expect(collect_kb=0)}, "program 'x': collect_kb must be from 1 to 262,144, found 0"),
        ({"compare": Expect(collect_kb=COLLECT_LIMIT_KB + 1)}, "collect_kb must be from 1 to 262,144, found 262145"),
    ],
)
def test_wrong_limits(options, message):
    with pytest.raises(ValueError, match=message):
        Program(id="x", code="", **options)


# --- Batches ----------------------------------------------------------------------------------------------------


def run_batch(folder: Path, programs: list[Program], **options) -> list[dict]:
    options = {"settings": SandboxSettings(), "workers": 1, "stats": None, "label": "batch", "key": "key"} | options
    verify(programs, output=folder / "verdicts.jsonl", **options)
    return [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]


def test_what_runs_for_itself(tmp_path):
    """Programs of one text share a verdict where limit and comparison are the same, too; rows hold no output."""
    compares = {
        "a": Expect("secret\n", key="1"),
        "b": Expect("other\n", key="2"),
        "c": Expect("secret\n", key="1"),
        "d": Expect("secret\n", key="1", collect_kb=1),
        "e": Expect("secret\n", key="1"),
        "f": None,
        "g": None,
    }
    limits = {"e": 2.0, "g": 3.0}
    programs = [
        Program(id=name, code="print('sec' + 'ret')\n", tests=DONE, compare=compare, cpu_s=limits.get(name))
        for name, compare in compares.items()
    ]
    rows = run_batch(tmp_path, programs)
    assert [row["id"] for row in rows] == list("abcdefg")
    assert [row["verdict"] for row in rows] == ["passed", "wrong_output", *["passed"] * 5]
    assert [len(compare.seen) for compare in compares.values() if compare] == [1, 1, 0, 1, 1]
    assert rows[2] == rows[0] | {"id": "c"}
    assert all(set(row) == set(Verdict.__dataclass_fields__) for row in rows)
    assert "secret" not in json.dumps(rows[0])


def test_a_comparison_that_fails_is_our_trouble(tmp_path):
    """Its error ends the batch, which tidies up and keeps the verdicts before it."""

    class Failing(Expect):
        def __call__(self, printed):
            raise ZeroDivisionError("ours")

    good, bad = Expect("1\n"), Failing("2\n", key="other")
    programs = [Program(id=str(n), code=f"print({n})\n", tests=DONE, compare=(good, bad)[n - 1]) for n in (1, 2)]
    below = descendants(os.getpid())
    with pytest.raises(ZeroDivisionError, match="ours"):
        run_batch(tmp_path, programs)
    assert not still_running(descendants(os.getpid()) - below)
    fixed = [programs[0], Program(id="2", code="print(2)\n", tests=DONE, compare=Expect("2\n", key="other"))]
    assert [row["verdict"] for row in run_batch(tmp_path, fixed)] == ["passed", "passed"]
    assert good.seen == ["1\n"]


def test_a_comparison_must_say_a_text():
    class Silent(Expect):
        def __call__(self, printed):
            return None

    with pytest.raises(AssertionError, match="the comparison key gave NoneType, not a text"):
        judge(Program(id="x", code="", tests=DONE, compare=Silent()))


BATCH = """
import sys, time
from test_sandbox_output import make_batch, run_batch
run_batch(__import__("pathlib").Path(sys.argv[1]), make_batch(), workers=2)
"""


def make_batch() -> list[Program]:
    """Make programs of which every second one prints the wrong number."""
    code = "import time\ntime.sleep(0.1)\nprint({n} // 2 * 2)\n"
    return [
        Program(id=f"p{n}", code=code.format(n=n), tests=DONE, compare=Expect(f"{n}\n", key=str(n))) for n in range(16)
    ]


def test_killed_and_run_again(tmp_path):
    """Finished verdicts are kept and neither run nor compared again."""
    path = os.pathsep.join((str(SCRIPTS), str(Path(__file__).parent)))
    process = subprocess.Popen([sys.executable, "-c", BATCH, tmp_path], env=os.environ | {"PYTHONPATH": path})
    side = tmp_path / ".verdicts.jsonl.partial"
    while not side.exists() or side.read_bytes().count(b"\n") < 5:
        assert process.poll() is None
        time.sleep(0.02)
    started = descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(started) >= 4
    assert not still_running(started)
    kept = [json.loads(line) for line in side.read_text().splitlines()[1:] if line.endswith("}")]
    assert 4 <= len(kept) < 16
    programs = make_batch()
    rows = run_batch(tmp_path, programs, workers=2)
    assert [row["verdict"] for row in rows] == ["passed", "wrong_output"] * 8
    found = {row["id"]: row for row in rows}
    kept = [{name: value for name, value in row.items() if name != "program"} for row in kept]
    assert [found[row["id"]] for row in kept] == kept
    assert sum(len(program.compare.seen) for program in programs) == 16 - len(kept)


# --- A worker that says too much --------------------------------------------------------------------------------

LIAR = """
import json, os, struct, sys
def send(value):
    data = json.dumps(value).encode()
    os.write(1, struct.pack("!I", len(data)) + data)
def skip():
    size = struct.unpack("!I", sys.stdin.buffer.read(4))[0]
    sys.stdin.buffer.read(size)
skip()
send({"ready": "3", "core": "c"})
skip()
"""
PASS = {"verdict": "passed", "detail": "", "starved": False, "assertions": 1, "cpu_s": 0, "wall_s": 0, "max_rss_mb": 0}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("os.write(1, struct.pack('!I', (1 << 32) - 1))", "its answer has 4,294,967,295 bytes and may have 65,536"),
        (f"send({PASS | {'printed': 1 << 40}})", "its answer has 1,099,511,627,776 bytes and may have 65,536"),
        (f"send({PASS | {'printed': 9}})", "(exit code 0)"),
    ],
)
def test_a_worker_that_says_too_much_is_our_trouble(monkeypatch, said, message):
    """What a worker claims takes no memory of the supervisor's beyond the limit that was asked for."""
    answer = ask_liar(monkeypatch, said)
    assert answer["verdict"] == "sandbox_error"
    assert message in answer["detail"]


def test_a_supervisor_that_was_held_up_takes_its_time(monkeypatch):
    """An answer that was there in time is read to its end, also after a comparison that took longer than the worker."""
    half = "os.write(1, b'x' * 30000)"
    said = f"send({PASS | {'printed': 60000}})\n{half}\nimport time\ntime.sleep(0.5)\n{half}"
    answer = ask_liar(monkeypatch, said, late=True)
    assert (answer["verdict"], answer.get("printed")) == ("passed", b"x" * 60000)


def ask_liar(monkeypatch, said: str, *, late: bool = False) -> dict:
    """Let a worker that runs nothing answer one program with what it is told to; `late`: its deadline is over then."""
    command = [sys.executable, "-c", LIAR + said]
    monkeypatch.setattr(pool, "build_command", lambda *_: command)
    worker = pool.Worker("bwrap", SandboxSettings())
    try:
        worker.submit(Program(id="x", code="", compare=Expect()), alone=False)
        if late:
            select.select([worker], [], [])
            worker.deadline = 0.0
        return worker.finish()
    finally:
        worker.close()
