"""Become an ordinary user where we are root, then become bubblewrap: `launch.py JSON`, never imported to be run.

Root is dropped before bubblewrap starts, because inside any namespace the host's root may still write files such as
/proc/sys/kernel/core_pattern. What an ordinary user may not read (an interpreter under /root) is first bound into a
private mount namespace of this process, which goes when it ends.
"""

import ctypes
import errno
import json
import os
import sys

UNPRIVILEGED = 65533  # an id that no account uses; 65534 (nobody) may own files and daemons
CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
ADDR_NO_RANDOMIZE = 0x0040000
STAGE = "/tmp"


def stage(libc: ctypes.CDLL, sources: list[str]) -> list[str]:
    """Bind the sources under a private mount, so that they can be reached without their parents; return new paths."""

    def checked(result: int) -> None:
        if result != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    try:
        checked(libc.unshare(CLONE_NEWNS))
        checked(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    except OSError as error:
        if error.errno in (
            errno.EPERM,
            errno.EACCES,
        ):  # a container's root that may not mount: the sources must be readable then
            return sources
        raise
    opened = [os.open(source, os.O_PATH) for source in sources]  # before the stage covers what lies below it
    checked(libc.mount(b"tmpfs", STAGE.encode(), b"tmpfs", 0, b"size=1m,mode=755"))
    staged = []
    for number, (source, descriptor) in enumerate(zip(sources, opened, strict=True)):
        path = f"{STAGE}/{number}"
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            os.mkdir(path)
        else:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
        checked(libc.mount(f"/proc/self/fd/{descriptor}".encode(), path.encode(), None, MS_BIND | MS_REC, None))
        os.close(descriptor)
        staged.append(path if os.path.exists(path) else source)
    return staged


def drop_root() -> None:
    """Give up root for good.

    Raises:
        OSError: the user id cannot be changed and this root is the host's.
    """
    try:
        os.setgroups([])
        os.setresgid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED)
        os.setresuid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED)
    except OSError:
        with open("/proc/self/uid_map") as file:
            inside, outside, _ = (int(part) for part in file.readline().split())
        if inside == 0 and outside == 0:
            raise
        # Root of a user namespace (a rootless container) is an ordinary user of the host already.


def main() -> None:
    """Read {"bwrap", "first": [...], "binds": [[source, target]], "options": [...], "command": [...]} and run it.

    Options of `first` come before the binds, which may lie below what they mount.
    """
    job = json.loads(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    sources = [job["bwrap"], *(source for source, _ in job["binds"])]
    if os.geteuid() == 0:
        try:
            sources = stage(libc, sources)
            drop_root()
        except OSError as error:
            sys.exit(f"launch: cannot give up root ({error})")
    # The same addresses in every worker, so that id() and what depends on it do not differ. Where a container's
    # filter refuses the call, programs run all the same.
    libc.personality(ADDR_NO_RANDOMIZE)
    bwrap, *sources = sources
    binds = []
    for source, (_, target) in zip(sources, job["binds"], strict=True):
        binds += ["--ro-bind", source, target]
    os.chdir("/")
    os.execve(bwrap, [bwrap, *job["first"], *binds, *job["options"], "--", *job["command"]], {})


if __name__ == "__main__":
    main()
