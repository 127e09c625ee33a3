"""What the machine offers to the sandbox, and what to do where it offers too little."""

import platform
import shutil
import sys
from pathlib import Path

KERNEL = (5, 14)  # process limits count per user namespace since then

NAMESPACES = (
    "user namespaces are switched off or used up{which}. As root: sysctl -w user.max_user_namespaces=15000 "
    "(to keep it: echo user.max_user_namespaces=15000 > /etc/sysctl.d/90-userns.conf)"
)
APPARMOR = (
    "AppArmor keeps ordinary users from user namespaces (Ubuntu 23.10 and newer). As root, for bubblewrap "
    "alone: write `abi <abi/4.0>, include <tunables/global> profile bwrap /usr/bin/bwrap flags=(unconfined) "
    "{ userns, }` to /etc/apparmor.d/bwrap and run apparmor_parser -r /etc/apparmor.d/bwrap; or for all: "
    "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
)
DEBIAN = (
    "this machine does not let ordinary users make namespaces. As root: sysctl -w kernel.unprivileged_userns_clone=1 "
    "(to keep it: echo kernel.unprivileged_userns_clone=1 > /etc/sysctl.d/90-userns.conf)"
)
CONTAINER = (
    "the filter of this container does not let programs make namespaces or mounts. Allow the calls unshare, clone "
    "and mount, for example docker or podman run --security-opt seccomp=unconfined, on a host with AppArmor also "
    "--security-opt apparmor=unconfined, or run outside the container"
)
UNKNOWN = (
    "this machine does not let ordinary users make namespaces, and its settings do not show why. In a container, allow "
    "the calls unshare, clone and mount; elsewhere ask its administrators for unprivileged user namespaces"
)
OLD_KERNEL = (
    "the kernel was built without user namespaces. Use a stock kernel of a distribution (CONFIG_USER_NS=y), or run in "
    "a virtual machine that has one"
)
SETUID = (
    "this bwrap is setuid root, and the sandbox takes none that is. With user namespaces it needs no setuid bit; as "
    "root: chmod u-s {bwrap} (or install the distribution's own bubblewrap)"
)
OLD_BWRAP = "this bubblewrap is too old. Install a newer one; 0.8 is known to work"
EXHAUSTED = (
    "the machine, its container or the batch job is out of processes or memory. Use fewer workers, raise the limit "
    "(ulimit -u, pids and memory limits of the container or job), or wait until there is room"
)
UNREADABLE = (
    "the Python interpreter cannot be read by an ordinary user, and this root may not mount it elsewhere. "
    "Run as an ordinary user, or use a Python outside root's home, such as /usr/bin/python3"
)
MISSING = (
    "a file that the interpreter or a package needs is gone, or not to be seen in the sandbox. Run make setup again, "
    "or use the system's own Python: PYTHON=/usr/bin/python3 make setup"
)
ONE_USER = (
    "it must not run as root, and this root may not become another user (a container or namespace that maps only one "
    "user). Run as an ordinary user, or map more user ids"
)

# What stands in the message: the remedy, or None where the machine's settings tell which it is. Texts of bubblewrap
# 0.8 (Debian's, and upstream's where they differ) and of `launch`; the first that fits is taken.
CAUSES = (
    ("max_*_namespaces exceeded", NAMESPACES),
    ("Unknown option", OLD_BWRAP),
    ("in setuid mode", SETUID),
    ("Unexpected setuid user", SETUID),
    ("does not support user namespaces", OLD_KERNEL),
    ("Resource temporarily unavailable", EXHAUSTED),
    ("Cannot allocate memory", EXHAUSTED),
    ("cannot give up root", ONE_USER),
    ("error while loading shared libraries", MISSING),
    ("execvp", MISSING),
    ("No permissions to creat", None),
    ("setting up uid map: Permission denied", None),
    ("setting up uid map: Operation not permitted", None),
    ("loopback: Failed", None),
    ("Failed to make / slave", None),
    ("Failed to mount tmpfs", None),
    ("Creating new namespace failed", None),
    ("Can't set hostname", None),  # with podman's filter, which lets it make namespaces
)


class SandboxUnavailable(ValueError):
    """The machine cannot run the sandbox; the text names the cause and the remedy."""


def find_bwrap() -> str:
    """Return the path of bubblewrap.

    Raises:
        SandboxUnavailable: it is not installed, or this is not a Linux that can run it.
    """
    if sys.platform != "linux":
        raise SandboxUnavailable(f"the sandbox needs Linux, this is {sys.platform}; run it in a Linux machine or VM")
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    if release < KERNEL:
        raise SandboxUnavailable(f"the sandbox needs Linux 5.14 or newer, this is {platform.release()}")
    path = shutil.which("bwrap")
    if path is None:
        raise SandboxUnavailable(
            "bubblewrap (bwrap) is not installed or not on PATH, and programs are never run without it; "
            "install it: apt-get install bubblewrap (Debian, Ubuntu), dnf install bubblewrap (Fedora, RHEL)"
        )
    return path


def explain(message: str, proc: Path = Path("/proc")) -> str:
    """Turn what a worker said when it did not start into cause and remedy.

    Several causes have one text (a container's filter, AppArmor and a switched-off setting all give "Operation not
    permitted"), so the machine's own settings decide between them.
    """
    return f"the sandbox cannot start: {_find_remedy(message, proc)}. It said: {message or 'nothing'}"


def _find_remedy(message: str, proc: Path) -> str:
    if "Can't find source path" in message:
        return UNREADABLE if "Permission denied" in message else MISSING
    remedy = next((remedy for sign, remedy in CAUSES if sign in message), "")
    if remedy == "":
        return "the cause is none of the known ones; please report it"
    zero = [path.name for path in sorted(proc.glob("sys/user/max_*_namespaces")) if _read(path) == "0"]
    if remedy == NAMESPACES or (remedy is None and zero):
        which = f" ({', '.join(f'user.{name} is 0' for name in zero)})" if zero else ""
        remedy = NAMESPACES.format(which=which)
        for name in set(zero) - {"max_user_namespaces"}:
            remedy += f"; sysctl -w user.{name}=15000"
        return remedy
    if remedy == SETUID:
        return SETUID.format(bwrap=shutil.which("bwrap") or "bwrap")
    if remedy is not None:
        return remedy
    if _read(proc / "sys/kernel/unprivileged_userns_clone") == "0":
        return DEBIAN
    if _read(proc / "sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return APPARMOR
    status = dict(line.split(":\t", 1) for line in _read(proc / "self/status").splitlines() if ":\t" in line)
    return CONTAINER if status.get("Seccomp", "0").strip() == "2" else UNKNOWN


def _read(path: Path) -> str:
    """Return what a setting of the kernel holds; nothing where this kernel does not have it."""
    return path.read_text().strip() if path.is_file() else ""
