"""Linux's filter of system calls that asks another process (seccomp, SECCOMP_RET_USER_NOTIF, since
5.5). A process installs it on itself and all that it will start, and can never remove it. It needs
no privilege, and works within containers.

Calls that only read are not filtered, and cost nothing. io_uring, which bypasses filters, is not
available. (linux/seccomp.h, linux/filter.h, linux/audit.h)
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable, Iterator, Sequence

from weighbridge_lab.trace.keeping.calls import CALLS, WRITING

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*
SECCOMP = {"x86_64": 317, "aarch64": 277}  # numbers of seccomp(2)
IO_URING = 425  # io_uring_setup
PIDFD_OPEN, PIDFD_GETFD = 434, 438
NO_NEW_PRIVILEGES, PARENT_DIES, SUBREAPER = 38, 1, 36  # prctl
FILTER, LISTENER = 1, 8  # SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER
RECEIVE, SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_*
CONTINUE = 1
ALLOW, NOTIFY, FAIL = 0x7FFF0000, 0x7FC00000, 0x00050000
LOAD, EQUAL, ABOVE, SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # opcodes of BPF
OTHER_TABLE = 0x40000000  # and above: x32's numbers of the same calls
NUMBER, MACHINE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
NOTICE = "QII" + "iIQ6Q"  # struct seccomp_notif
ANSWER = "QqiI"  # struct seccomp_notif_resp
# Index of the argument without whose bits a call changes nothing, and these bits
FLAGS = {"open": (1, WRITING), "openat": (2, WRITING), "sendto": (4, 0xFFFFFFFF)}


def number_of_calls() -> dict[int, str]:
    return {number: name for name, number in CALLS[platform.machine()].items()}


def is_here() -> bool:
    """Return whether this machine can have such a filter at all."""
    return sys.platform == "linux" and platform.machine() in MACHINES and sys.maxsize > 1 << 32


def prctl(option: int, value: int) -> None:
    _libc().prctl(option, value, 0, 0, 0)


def filtered() -> int:
    """Install the filter on this process. Return the file descriptor on which its calls arrive.
    Raises OSError."""
    prctl(NO_NEW_PRIVILEGES, 1)
    code = b"".join(_program())
    buffer = ctypes.create_string_buffer(code, len(code))
    head = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    program = ctypes.create_string_buffer(head, len(head))
    return _asked(SECCOMP[platform.machine()], FILTER, LISTENER, ctypes.addressof(program))


def taken(process: int, file: int) -> int:
    """Return our own descriptor of a file that a process has open. Raises OSError."""
    return _asked(PIDFD_GETFD, os.pidfd_open(process), file, 0)


def answered(listener: int, answer: Callable[[str, int, Sequence[int]], int]) -> None:
    """Receive one waiting call; let it go on, or end with the error that `answer` returns."""
    import fcntl  # of Unix

    buffer = bytearray(struct.calcsize(NOTICE))
    try:
        fcntl.ioctl(listener, RECEIVE, buffer)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):  # it was interrupted meanwhile
            return
        raise
    mark, process, _, number, _, _, *words = struct.unpack(NOTICE, buffer)
    try:
        refused = answer(number_of_calls()[number], process, words)
    except Exception:  # its effect is unknown
        refused = errno.EROFS
    reply = struct.pack(ANSWER, mark, 0, -refused, 0 if refused else CONTINUE)
    try:
        fcntl.ioctl(listener, SEND, bytearray(reply))
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def _program() -> Iterator[bytes]:
    def step(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
        return struct.pack("HBBI", code, then, otherwise, value)

    yield step(LOAD, MACHINE)
    yield step(EQUAL, MACHINES[platform.machine()], 1, 0)
    yield step(RETURN, FAIL | errno.EPERM)  # a program of 32 bits
    yield step(LOAD, NUMBER)
    yield step(ABOVE, OTHER_TABLE, 0, 1)
    yield step(RETURN, FAIL | errno.ENOSYS)
    for number, name in number_of_calls().items():
        if name in FLAGS:
            index, bits = FLAGS[name]
            yield step(EQUAL, number, 0, 4)
            yield step(LOAD, ARGUMENTS + 8 * index)
            yield step(SET, bits, 0, 1)
            yield step(RETURN, NOTIFY)
            yield step(RETURN, ALLOW)
        else:
            yield step(EQUAL, number, 0, 1)
            yield step(RETURN, NOTIFY)
    yield step(EQUAL, IO_URING, 0, 1)
    yield step(RETURN, FAIL | errno.ENOSYS)
    yield step(RETURN, ALLOW)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _asked(number: int, *words: int) -> int:
    call = _libc().syscall
    call.restype = ctypes.c_long
    result = int(call(number, *(ctypes.c_ulong(word) for word in words)))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
