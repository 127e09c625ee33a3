"""Run programs that nobody has read, and say of each whether it passed its tests.

Placeholder of the covered list.
"""

from selfalign.sandbox.doctor import check_sandbox
from selfalign.sandbox.pool import Sandbox, SandboxUnavailable
from selfalign.sandbox.settings import VERDICTS, Program, SandboxSettings
from selfalign.sandbox.verify import read_programs, source_key, verify

__all__ = [
    "VERDICTS",
    "Program",
    "Sandbox",
    "SandboxSettings",
    "SandboxUnavailable",
    "check_sandbox",
    "read_programs",
    "source_key",
    "verify",
]
