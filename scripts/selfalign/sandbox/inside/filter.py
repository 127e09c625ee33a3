"""The system call filter of a program, as BPF for seccomp(2)."""

import struct

# System calls that no program needs: x86-64 and aarch64 numbers.
REFUSED = {
    "ptrace": (101, 117),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "userfaultfd": (323, 282),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "memfd_create": (319, 279),  # memory that no limit counts
    "open_by_handle_at": (304, 265),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "quotactl": (179, 60),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
}
STARTS = {"fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281)}
BECOMES = ("execve", "execveat")  # those of them that start no second process
CLONE, CLONE3 = (56, 220), (435, 435)
CLONE_THREAD, NEW_NAMESPACES = 0x00010000, 0x7E020000
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
# Executable memory without a file behind it, (arguments: 2 protection, 3 flags): code that no library brought.
MMAP, PROTECT = (9, 222), {"mprotect": (10, 226), "pkey_mprotect": (329, 288)}
PROT_EXEC, MAP_ANONYMOUS = 4, 0x20
# Families of sockets: unix, IPv4 and IPv6 (within the empty network), netlink. Others, such as vsock, lead to the host.
SOCKET, FAMILIES = (41, 198), (1, 2, 10, 16)
# The kernel ends a process that is past RLIMIT_CPU as if the machine had: only the harness sets it.
SET_LIMIT, PROCESS_LIMIT, RLIMIT_CPU = (160, 164), (302, 261), 0
EXITS = {"exit": (60, 93), "exit_group": (231, 94)}


def build_filter(
    machine: str, processes: bool, attested: tuple[int, ...] = (), left_at: int = 0, *, compiles: bool = False
) -> bytes:
    """Assemble the filter: refused calls give EPERM, a foreign architecture or a forged exit kills.

    Args:
        machine: "x86_64" or "aarch64".
        processes: Let the program fork and exec.
        attested: Exit statuses that only the instruction before the address `left_at` may use.
        compiles: Let the program be another one than this (exec), which makes executable memory: Node.
    """
    column, audit = ARCHITECTURES[machine]
    load, equal, any_bit, at_least, mask, give = 0x20, 0x15, 0x45, 0x35, 0x54, 0x06
    allow, kill, eperm, enosys = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
    number, architecture, instruction = 0, 4, 8
    arguments = [16 + 8 * index for index in range(6)]

    def step(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
        return struct.pack("HBBI", code, true, false, value)

    def when(call: tuple, *steps: bytes) -> list[bytes]:
        """Return steps for one call alone; they must decide or end with the call's number loaded again."""
        return [] if call[column] is None else [step(equal, call[column], 0, len(steps)), *steps]

    program = [step(load, architecture), step(equal, audit, 1, 0), step(give, kill), step(load, number)]
    if machine == "x86_64":  # the x32 numbers would go around the list
        program += [step(at_least, 0x40000000, 0, 1), step(give, kill)]
    starts = [call for name, call in STARTS.items() if not (compiles and name in BECOMES)]
    for call in (*REFUSED.values(), *(() if processes else starts)):
        program += when(call, step(give, eperm))
    for call in () if compiles else PROTECT.values():
        program += when(
            call, step(load, arguments[2]), step(any_bit, PROT_EXEC, 0, 1), step(give, eperm), step(give, allow)
        )
    executable = [step(load, arguments[2]), step(any_bit, PROT_EXEC, 0, 3)]
    executable += [step(load, arguments[3]), step(any_bit, MAP_ANONYMOUS, 0, 1), step(give, eperm), step(give, allow)]
    program += () if compiles else when(MMAP, *executable)
    families = [step(equal, family, len(FAMILIES) - index, 0) for index, family in enumerate(FAMILIES)]
    program += when(SOCKET, step(load, arguments[0]), *families, step(give, eperm), step(give, allow))
    program += when(
        SET_LIMIT, step(load, arguments[0]), step(equal, RLIMIT_CPU, 0, 1), step(give, eperm), step(give, allow)
    )
    new_limit = [step(load, arguments[2]), step(equal, 0, 0, 2), step(load, arguments[2] + 4), step(equal, 0, 1, 0)]
    process_limit = [step(load, arguments[1]), step(equal, RLIMIT_CPU, 0, 5), *new_limit, step(give, eperm)]
    program += when(PROCESS_LIMIT, *process_limit, step(give, allow))
    if attested:
        here = [step(load, instruction), step(equal, left_at & 0xFFFFFFFF, 0, 3)]
        here += [step(load, instruction + 4), step(equal, left_at >> 32, 0, 1), step(give, allow), step(give, kill)]
        status = [step(load, arguments[0]), step(mask, 0xFF)]
        for index, value in enumerate(attested):
            status.append(step(equal, value, len(attested) - index, 0))
        for call in EXITS.values():
            program += when(call, *status, step(give, allow), *here)
    # clone3 hides its flags behind a pointer; the C library falls back to clone, whose flags are the first argument.
    program += when(CLONE3, step(give, enosys))
    flags = [step(load, arguments[0]), step(any_bit, NEW_NAMESPACES, 0, 1), step(give, eperm)]
    if not processes:
        flags += [step(any_bit, CLONE_THREAD, 1, 0), step(give, eperm)]
    program += when(CLONE, *flags, step(give, allow))
    program.append(step(give, allow))
    return b"".join(program)
