"""Calls of the system, read from the memory of the process that waits in one: what it is about
to change is told to the keeper, and whom it asks is refused.

`TABLES` has the numbers on each machine (arch/x86/entry/syscalls/syscall_64.tbl, and
include/uapi/asm-generic/unistd.h for arm64)."""

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Callable, Mapping, Sequence

from weighbridge_lab.trace.keeping.keeper import Keeper

TABLES = {
    "x86_64": """
        open 2  creat 85  openat 257  openat2 437  truncate 76  unlink 87  unlinkat 263
        rmdir 84  rename 82  renameat 264  renameat2 316  mkdir 83  mkdirat 258  mknod 133
        mknodat 259  symlink 88  symlinkat 266  chmod 90  fchmod 91  fchmodat 268
        fchmodat2 452  chown 92  fchown 93  lchown 94  fchownat 260  utime 132  utimes 235
        futimesat 261  utimensat 280  setxattr 188  lsetxattr 189  fsetxattr 190
        removexattr 197  lremovexattr 198  fremovexattr 199  connect 42  sendto 44  sendmsg 46
        sendmmsg 307
    """,
    "aarch64": """
        openat 56  openat2 437  truncate 45  unlinkat 35  renameat 38  renameat2 276
        mkdirat 34  mknodat 33  symlinkat 36  fchmod 52  fchmodat 53  fchmodat2 452  fchown 55
        fchownat 54  utimensat 88  setxattr 5  lsetxattr 6  fsetxattr 7  removexattr 14
        lremovexattr 15  fremovexattr 16  connect 203  sendto 206  sendmsg 211  sendmmsg 269
    """,
}
CALLS: Mapping[str, Mapping[str, int]] = {
    machine: dict(zip(words[::2], map(int, words[1::2]), strict=True))
    for machine, words in ((machine, table.split()) for machine, table in TABLES.items())
}
NETWORK = ("connect", "sendto", "sendmsg", "sendmmsg")
HERE = -100  # AT_FDCWD: the folder that a process is in
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
PAGE = 4096  # no path is longer, and no page shorter
NO_REPLACE, EXCHANGE = 1, 2  # RENAME_* flags
MESSAGES = 16  # messages of one sendmmsg that are looked at
# Sockets of name services: they ask other machines for us
RESOLVERS = (
    "/run/systemd/resolve/",
    "/run/nscd/",
    "/var/run/nscd/",
    "/run/dbus/",
    "/var/run/dbus/",
)
NAMES = 53  # the port of DNS
LOCAL = ("127.0.0.1", "0.0.0.0", "::1", "::")
HOSTS = {socket.AF_INET: (4, 8), socket.AF_INET6: (8, 24)}  # where a struct sockaddr has them
Arguments = Sequence[int]


class Seen:
    """Reports to a keeper what system calls are about to do. `of(name, process, arguments)` returns
    0, or the error with which the call ends."""

    def __init__(self, keeper: Keeper, *, network: bool) -> None:
        self.keeper, self.network = keeper, network

    def of(self, name: str, process: int, words: Arguments) -> int:
        if name in NETWORK:
            return 0 if self.network or self._is_local(name, process, words) else errno.ENETUNREACH
        try:
            return self._changes[name](self, _Call(process, words))
        except OSError as error:
            return error.errno or errno.EROFS

    def _open(self, path: str, flags: int) -> int:
        fails = flags & os.O_EXCL and flags & os.O_CREAT and os.path.lexists(path)
        if not fails and (flags & (os.O_ACCMODE | os.O_TRUNC) or not os.path.exists(path)):
            self.keeper.writes(path, cut=bool(flags & os.O_TRUNC))
        return 0

    def _opened(self, call: "_Call") -> int:
        return self._open(call.path, call.words[1])

    def _opened_at(self, call: "_Call") -> int:
        return self._open(call.path_below, call.words[2])

    def _opened_so(self, call: "_Call") -> int:
        flags = call.number(2)
        return self._open(call.path_below, flags) if flags & WRITING else 0

    def _created(self, call: "_Call") -> int:
        self.keeper.writes(call.path, cut=True)
        return 0

    def _truncated(self, call: "_Call") -> int:
        if os.path.exists(call.path):
            self.keeper.writes(call.path, cut=False)
        return 0

    def _removed(self, call: "_Call") -> int:
        self.keeper.removes(call.path)
        return 0

    def _removes_below(self, call: "_Call") -> int:
        self.keeper.removes(call.path_below)
        return 0

    def _renamed(self, call: "_Call") -> int:
        self.keeper.renames(call.path, call.second_path)
        return 0

    def _renamed_at(self, call: "_Call") -> int:
        self.keeper.renames(call.path_below, call.second_path_below)
        return 0

    def _renamed_so(self, call: "_Call") -> int:
        source, target = call.path_below, call.second_path_below
        if call.words[4] & NO_REPLACE and os.path.lexists(target):
            return 0
        keeper = self.keeper
        if call.words[4] & EXCHANGE and not (keeper.is_own(source) and keeper.is_own(target)):
            return errno.EINVAL  # as a file system that cannot
        keeper.renames(source, target)
        return 0

    def _makes(self, call: "_Call") -> int:
        self.keeper.makes(call.path)
        return 0

    def _makes_below(self, call: "_Call") -> int:
        self.keeper.makes(call.path_below)
        return 0

    def _linked(self, call: "_Call") -> int:
        self.keeper.makes(call.second_path)
        return 0

    def _linked_at(self, call: "_Call") -> int:
        self.keeper.makes(call.path_from(call.words[1], call.words[2]))
        return 0

    def _changed(self, call: "_Call") -> int:
        self.keeper.changes(call.path)
        return 0

    def _changed_at(self, call: "_Call") -> int:
        self.keeper.changes(call.path_below)
        return 0

    def _changed_open(self, call: "_Call") -> int:
        self.keeper.changes(call.path_from(call.words[0], 0))
        return 0

    def _noted(self, call: "_Call") -> int:
        return 0 if self.keeper.is_own(call.path) else errno.EOPNOTSUPP

    def _noted_open(self, call: "_Call") -> int:
        is_own = self.keeper.is_own(call.path_from(call.words[0], 0))
        return 0 if is_own else errno.EOPNOTSUPP

    _changes: Mapping[str, Callable[["Seen", "_Call"], int]] = {
        "open": _opened,
        "openat": _opened_at,
        "openat2": _opened_so,
        "creat": _created,
        "truncate": _truncated,
        **dict.fromkeys(("unlink", "rmdir"), _removed),
        "unlinkat": _removes_below,
        "rename": _renamed,
        "renameat": _renamed_at,
        "renameat2": _renamed_so,
        **dict.fromkeys(("mkdir", "mknod"), _makes),
        **dict.fromkeys(("mkdirat", "mknodat"), _makes_below),
        "symlink": _linked,
        "symlinkat": _linked_at,
        **dict.fromkeys(("chmod", "chown", "lchown", "utime", "utimes"), _changed),
        **dict.fromkeys(("fchmod", "fchown"), _changed_open),
        **dict.fromkeys(
            ("fchmodat", "fchmodat2", "fchownat", "futimesat", "utimensat"), _changed_at
        ),
        **dict.fromkeys(("setxattr", "lsetxattr", "removexattr", "lremovexattr"), _noted),
        **dict.fromkeys(("fsetxattr", "fremovexattr"), _noted_open),
    }

    def _is_local(self, name: str, process: int, words: Arguments) -> bool:
        if name == "connect":
            return _address_is_local(_memory(process, words[1], words[2] & 0xFF))
        if name == "sendto":
            return not words[4] or _address_is_local(_memory(process, words[4], words[5] & 0xFF))
        count = 1 if name == "sendmsg" else min(words[2], MESSAGES)
        each = 56 if name == "sendmsg" else 64  # struct msghdr, struct mmsghdr
        for index in range(count):
            where, length = struct.unpack("QI", _memory(process, words[1] + index * each, 12))
            if where and not _address_is_local(_memory(process, where, length & 0xFF)):
                return False
        return True


def _address_is_local(address: bytes) -> bool:
    """Return whether a socket's address is on this machine, and not a service that asks others."""
    if len(address) < 2:
        return True
    (family,) = struct.unpack_from("H", address)
    if family == socket.AF_UNIX:
        return not os.fsdecode(address[2:].split(b"\0")[0]).startswith(RESOLVERS)
    if family in (socket.AF_INET, socket.AF_INET6) and len(address) >= (
        8 if family == socket.AF_INET else 24
    ):
        (port,) = struct.unpack_from("!H", address, 2)
        raw = address[4:8] if family == socket.AF_INET else address[8:24]
        host = socket.inet_ntop(family, raw).removeprefix("::ffff:")
        return host in LOCAL and port != NAMES
    return family in (socket.AF_UNSPEC, socket.AF_NETLINK)


class _Call:
    """The arguments of a system call, and the paths that they point to."""

    def __init__(self, process: int, words: Arguments) -> None:
        self.process, self.words = process, words

    @property
    def path(self) -> str:
        """Return the path in the first argument."""
        return self.path_from(HERE, self.words[0])

    @property
    def second_path(self) -> str:
        return self.path_from(HERE, self.words[1])

    @property
    def path_below(self) -> str:
        """Return the path in the first two arguments: an open folder, and a path from there."""
        return self.path_from(*self.words[:2])

    @property
    def second_path_below(self) -> str:
        return self.path_from(*self.words[2:4])

    def path_from(self, folder: int, pointer: int) -> str:
        """Return a path from a folder that the process has open, or from its current one (HERE).
        Without a pointer it is the open file's own path."""
        name = _text(self.process, pointer) if pointer else ""
        if name.startswith(("/proc/self/", "/proc/thread-self/")):
            name = f"/proc/{self.process}/" + name.split("/", 3)[3]
        if name.startswith("/"):
            return name
        number = ctypes.c_int(folder).value
        base = "cwd" if number == HERE else f"fd/{number}"
        return os.path.join(os.readlink(f"/proc/{self.process}/{base}"), name).rstrip("/") or "/"

    def number(self, index: int) -> int:
        """Return the number in memory to which an argument points."""
        (value,) = struct.unpack("Q", _memory(self.process, self.words[index], 8))
        return int(value)


def _memory(process: int, address: int, count: int) -> bytes:
    with open(f"/proc/{process}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        return memory.read(count)


def _text(process: int, address: int) -> str:
    """Return a string in a process's memory, read page by page, as the next page may not exist."""
    text = b""
    while b"\0" not in text and len(text) <= PAGE:
        here = address + len(text)
        text += _memory(process, here, PAGE - here % PAGE)
    return os.fsdecode(text.partition(b"\0")[0])
