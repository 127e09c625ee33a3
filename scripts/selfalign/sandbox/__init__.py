"""Run programs that nobody has read, and say of each whether it passed its tests.

`Sandbox(settings, workers).run(programs)` yields one `Verdict` per program, in no order; `verify` does a whole batch
with resume and progress. Each worker is one bubblewrap around a fork server (`inside.server`); every program is process
1 of its own pid namespace in its own mount namespace. Started by root, a worker first becomes an ordinary user
(`launch`). `VERDICTS` explains each verdict. Programs run as `__main__` in an empty, writable folder, with the standard
library of the running interpreter and the packages that are named (in workers that have them loaded), a fixed
environment, hash seed and random seed, and no standard input. What a program prints is discarded, or, where it has a
`Comparison`, handed back and compared outside, with what no program can see.

Fork, isolation and attestation are done by one of two cores, and each row says by which. `core.c`, built at set-up
where there is a C compiler (`build`): a pass is what the kernel saw, an exit by the one instruction that the system
call filter lets leave with that status, which is reached when the program has returned. Else `inside.python_core`: a
pass carries a token that plain Python cannot reach. The evidence (`inside.evidence`) is the same.

Covered; every line has hostile programs in tests/test_sandbox.py:
- leaving early: sys.exit, quit, os._exit, in a thread, at exit, in an exception's __str__, by a signal; an exit counts
  as the end only where module and functions do what they do last, so not in a function whose tests go on
- nothing tested: no assertion, tests never called, an assertion true by its form
- assertions of the module jumped over by a trace function; with the C core, any assertion jumped over
- swallowed failures: caught errors of assert and of unittest's assert methods, unittest and doctest results ignored
- test styles: unittest cases and pytest-style functions and classes are run if the program does not, doctest counts
- fake results: printed, written to any descriptor, returned as exit code, from a fork of the program
- the harness: frames and their namespaces, its functions called or loaded again, gc, patched builtins and modules,
  ctypes, memory files, libraries that the program wrote, executable memory; with the C core, code objects that no
  compiler made and compiled files of modules that the program wrote
- resources: CPU, loops in C, ignored signals, sleep, memory, threads, forks, disk, inodes, descriptors, output, core
- the host: network, files, environment, other processes, signals to them, devices, /proc, /sys, exec, namespaces
- the next program: files, shared memory, processes and threads left behind

Not covered:
- Tests that prove nothing: `assert f(1) == f(1)`, an `__eq__` that is always true, a function under test that reads or
  replaces its tests. A program that wants to pass can also write `assert 1 == 1`.
- Checks without assertions, such as `if f(1) != 2: raise ValueError`, are no evidence: the verdict is no_tests.
- Forging a pass by native memory tricks: faults of a package's own C code (numpy can be told to read and write any
  address). With the Python core also by a trace function set on the harness's frames or by crafted code objects. None
  of these leads out of the sandbox.
- Debuggers: setting a frame's line does nothing, and code objects cannot be made by hand.
- Bugs of the kernel behind system calls that Python needs, and side channels such as timing.
- Memory of the kernel (pipes, sockets), and with `processes` above 0 the sum over a program's processes: each has
  `memory_mb` and its own CPU time, and the wall time ends them all.
- A signal without a handler does not end the program, because it is process 1 of its namespace.
- Programs whose result depends on the clock, on real randomness or on files of a normal system such as /etc and /proc.
- Machines that are neither x86-64 nor aarch64, and Linux before 5.14.

JavaScript (`Sandbox(..., language="javascript")`): each program is a Node of its own (`inside.node_core`) behind the
same walls, started by a harness (`inside/harness.js`) that has read the token before the program's first line. Its
hostile programs are in tests/test_sandbox_javascript.py. What differs:
- Evidence are calls of `assert` in the tests, which have one of their own; what a solution makes of `assert` does
  not count. Without a test part, all of them count. An assertion that is true by its form counts, too.
- A pass needs that the tests came to their end and nothing is left to wait for: no timer, no promise.
- `require` knows harmless modules only (the list is in the harness): none of files, processes, threads, or the engine.
  `process` is a copy without ways to these. `import` does not compile: programs are scripts (CommonJS).
- Memory is the heap and all else that a program writes to, on top of what Node itself takes.
- Code from strings, and compiling it for the machine, are allowed. A fault of the engine by which JavaScript reads its
  memory could forge a pass, and would still be behind the walls.
- Test frameworks (describe, it, expect) are not there.
- `packages`, `processes` and `data` mean nothing.
"""

from selfalign.sandbox.doctor import check_sandbox
from selfalign.sandbox.host import SandboxUnavailable
from selfalign.sandbox.pool import Sandbox
from selfalign.sandbox.settings import VERDICTS, Comparison, Program, SandboxSettings
from selfalign.sandbox.verify import ProgramFile, judge, source_key, verify

__all__ = [
    "VERDICTS",
    "Comparison",
    "Program",
    "ProgramFile",
    "Sandbox",
    "SandboxSettings",
    "SandboxUnavailable",
    "check_sandbox",
    "judge",
    "source_key",
    "verify",
]
