"""The core for JavaScript: each program is a fork of the server that becomes Node with our harness.

Isolation, limits and watching are those of the core in Python. Node keeps 600 MB of address space for code and stacks
before a program has anything, so memory is limited as the data that a process can write to, and what Node itself has
of it comes on top. The token is read by the harness (harness.js) before the program, and kept where no JavaScript but
its own leads.
"""

import contextlib
import json
import mmap
import os
import posix
import resource
import typing

from . import python_core

PROGRAM = 253  # descriptor from which the harness reads the program
OWN_MEMORY = 640 << 20  # bytes: 512 MiB for compiled code, and the stacks and heap of an idle Node
OPTIONS = (
    "--disable-sigusr1",  # which would open the inspector
    "--no-addons",
    "--no-warnings",
    "--random-seed=1",
    "--max-semi-space-size=16",
)
OUT_OF_MEMORY = b"out of memory"  # what V8 says before it ends the process


class Core(python_core.Core):
    """Runs one JavaScript program after another, each in a Node of its own.

    Args:
        settings: `SandboxSettings` as a dictionary, and what the server adds: `node` and `harness`, their paths.
        filter_code: The system call filter.
    """

    name = "node"

    def __init__(self, settings: dict, filter_code: bytes):
        super().__init__(settings, filter_code, lambda request: None)

    def run(self, job: None, request: dict, collected: memoryview | None) -> dict:
        """Fork, isolate, run and watch one program; return what was seen of it. What it prints goes to `collected`.

        Raises:
            OSError: the fork did not come about.
        """
        with contextlib.ExitStack() as stack:
            if collected is None:  # its last words tell whether it ran out of memory
                room = stack.enter_context(mmap.mmap(-1, request["output_kb"] * 1024 + 1))
                collected = stack.enter_context(memoryview(room))
            self.source = os.memfd_create("program")
            stack.callback(os.close, self.source)
            with open(os.dup(self.source), "w") as file:
                json.dump({"code": request["code"], "tests": request["tests"]}, file)
            os.lseek(self.source, 0, os.SEEK_SET)
            seen = super().run(None, request, collected)
            said = bytes(collected[max(0, seen["printed"] - 8192) : seen["printed"]])
        if not seen["started"] and not seen["message"]:
            seen["message"] = said.decode("utf-8", "replace")
        if not seen["broken"] and os.WIFSIGNALED(seen["status"]) and OUT_OF_MEMORY in said:
            seen["broken"] = "memory"
        return seen

    def _be_program(self, job: None, request: dict, room: int, pipes: tuple[int, int, int]) -> typing.NoReturn:
        os.dup2(self.source, PROGRAM)
        self._isolate(request, room, pipes, first=PROGRAM)
        options = [f"--max-old-space-size={self.settings['memory_mb']}", *OPTIONS]
        try:
            os.execve(self.settings["node"], ["node", *options, self.settings["harness"]], dict(os.environ))
        except OSError as error:
            posix.write(python_core.CONTROL, f"execve: {error.strerror}".encode())
        finally:
            posix._exit(1)

    def _plan_memory(self, memory: int) -> list[tuple]:
        """Return the calls that limit memory; what the collected output takes is not in it once Node runs."""
        return [self._plan_limit(resource.RLIMIT_DATA, *(2 * (memory + OWN_MEMORY,)))]
