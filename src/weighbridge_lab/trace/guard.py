"""Answers to torch's C++ before it differentiates CUDA tensors, on a machine without a GPU.

Two objects stand in the way (torch 2.10 to 2.15):

    device guard    a CPU wheel registers none for CUDA, and aborts. A stand-in is registered, which
                    `_ensureCUDADeviceGuardSet` then replaces by c10's own NoOpDeviceGuardImpl
    CUDA hooks      `isBuilt` must say yes, `hasPrimaryContext` no: then CUDA is the accelerator
                    for the engine, which finds no stream of it to stash

The hooks object is given a copy of its own table of virtual functions with two of them replaced,
and its old one back at the end. Their places are read from the header that torch ships
(ATen/detail/AcceleratorHooksInterface.h), so another order is noticed and not guessed. This is a
private interface: `why_not` tries it in a child process first, once for each build of torch.

A trial starts a process, which imports torch again where this one has threads. So builds that have
passed are stamped: one small file each in the user's cache folder, which holds as long as all
`facts` do. Only what works is written down, and a folder that cannot be written is as if there were
none.
"""

import ctypes
import functools
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.sentences import sentence
from weighbridge_lab import cache

CUDA = 1  # c10::DeviceType::CUDA
GUARDS = "_ZN3c104impl26device_guard_impl_registryE"
REGISTER = "_ZN3c104impl19registerDeviceGuardENS_10DeviceTypeEPKNS0_24DeviceGuardImplInterfaceE"
HOOKS = "_ZN2at6detail12getCUDAHooksEv"
DESTRUCTORS = 2  # slots of a virtual destructor, in the Itanium C++ ABI
HEAD = 2  # words before a table's first function: offset to top, type information
SLOTS = 96  # more than the interface has functions
TRIAL = """
import torch
from weighbridge_lab.trace.guard import guarded
from torch._subclasses.fake_tensor import FakeTensorMode
with guarded(), FakeTensorMode():
    layer = torch.nn.Linear(4, 4, device="cuda:0")
    layer(torch.empty(2, 4, device="cuda:0")).sum().backward()
    assert layer.weight.grad.device.type == "cuda"
import os
os._exit(0)
"""
KEPT: list[Any] = []  # objects that C++ points to
# A thread of the engine drops its modes after backward has returned, and needs the interpreter for
# that: one that ends at once would abort the process
SETTLE = 0.01  # seconds
PATIENCE = 1000  # times that; the trial takes a few
TIMEOUT = 120  # seconds; importing torch from a cold disk takes a while


@functools.cache
def why_not() -> str:
    """Return why fake CUDA tensors cannot be differentiated here; "" if they can."""
    facts = _facts()
    if facts is not None and passed(facts):
        return ""
    reason = _tried()
    if facts is not None and not reason:
        stamp(facts)
    return reason


def _facts() -> Mapping[str, str] | None:
    """Return what a trial's outcome depends on; None if unknown, so that a trial must be made."""
    import torch

    folder = os.path.join(os.path.dirname(torch.__file__), "lib")
    try:
        return {
            "python": f"{sys.executable} {sys.version}",
            "torch": f"{torch.__version__} {torch.version.git_version}",
            "core": build_stamp(os.path.join(folder, "libtorch_cpu.so")),
            "c10": build_stamp(os.path.join(folder, "libc10.so")),
            "guard": digest(__file__),
            "gpu": str(torch.cuda.is_available()),
        }
    except OSError:
        return None


def _tried() -> str:
    if sys.platform == "linux" and threading.active_count() == 1 and _works_in_a_copy():
        return ""
    done = subprocess.run(
        [sys.executable, "-c", TRIAL], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    if done.returncode == 0:
        return ""
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return f"fake CUDA tensors do not work with this torch on {sys.platform}: {last}"


def _works_in_a_copy() -> bool:
    """Return whether the trial works, in a fork of this process, which need not import torch again.
    If torch's own threads prevent that, or it fails, a fresh process decides."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():  # imports what the copy would import, and we need as well
        torch.empty(1)
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            exec(TRIAL, {})
        finally:
            os._exit(1)
    for _ in range(PATIENCE):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(SETTLE)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


@contextmanager
def guarded() -> Iterator[None]:
    """Make backward of fake CUDA tensors work inside the block; everything is restored
    afterwards."""
    import torch

    if torch.cuda.is_available():  # a real GPU answers by itself
        yield
        return
    folder = os.path.join(os.path.dirname(torch.__file__), "lib")
    _guard(torch, folder)
    with _hooks(torch, folder):
        try:
            yield
        finally:
            time.sleep(SETTLE)


@functools.cache
def _guard(torch: Any, folder: str) -> None:
    """Register a device guard that does nothing, where a CPU wheel would abort. It stays for the
    life of the process, as the engine's threads call it when they end."""
    c10 = ctypes.CDLL(os.path.join(folder, "libc10.so"))
    table = (ctypes.c_void_p * 32).in_dll(c10, GUARDS)
    zero = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(lambda _: 0)
    word = ctypes.cast(zero, ctypes.c_void_p).value
    functions = (ctypes.c_void_p * SLOTS)(*[word] * SLOTS)
    standin = (ctypes.c_void_p * 1)(ctypes.addressof(functions))
    if not table[CUDA]:
        register = c10[REGISTER]
        register.argtypes, register.restype = [ctypes.c_int8, ctypes.c_void_p], None
        register(CUDA, ctypes.addressof(standin))
    torch._C._ensureCUDADeviceGuardSet()
    KEPT.extend((zero, functions, standin))


@contextmanager
def _hooks(torch: Any, folder: str) -> Iterator[None]:
    core = ctypes.CDLL(os.path.join(folder, "libtorch_cpu.so"))
    get = core[HOOKS]
    get.restype = ctypes.c_void_p
    pointer = ctypes.c_void_p.from_address(get())
    before = pointer.value
    assert before is not None
    words = SLOTS + HEAD
    start = before - HEAD * ctypes.sizeof(ctypes.c_void_p)
    copy = (ctypes.c_void_p * words)(*list((ctypes.c_void_p * words).from_address(start)))
    says = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)
    yes, no = says(lambda _: True), says(lambda _: False)
    names = _virtuals(os.path.dirname(torch.__file__))
    for name, answer in (("isBuilt", yes), ("hasPrimaryContext", no)):
        copy[HEAD + DESTRUCTORS + names.index(name)] = ctypes.cast(answer, ctypes.c_void_p).value
    pointer.value = ctypes.addressof(copy) + HEAD * ctypes.sizeof(ctypes.c_void_p)
    try:
        yield
    finally:
        pointer.value = before


@functools.cache
def _virtuals(package: str) -> list[str]:
    """Return the names of the interface's virtual functions in order, without the destructor."""
    path = os.path.join(package, "include", "ATen", "detail", "AcceleratorHooksInterface.h")
    try:
        with open(path, encoding="utf-8") as header:
            text = header.read()
    except OSError:
        raise UnsupportedError(sentence("torch.headers", path=path)) from None
    names = re.findall(r"^\s*virtual\s+(?!~)[^(;]*?(\w+)\(", text, re.MULTILINE)
    if not {"isBuilt", "hasPrimaryContext"} <= set(names):
        raise UnsupportedError(sentence("torch.hooks"))
    return names


# Stamps of builds that have passed the trial


def passed(facts: Mapping[str, str]) -> bool:
    try:
        with open(_path(facts), encoding="utf-8") as file:
            return file.read() == _written(facts)
    except (OSError, ValueError):
        return False


def stamp(facts: Mapping[str, str]) -> None:
    with suppress(OSError):
        cache.write(_path(facts), _written(facts))


def build_stamp(library: str) -> str:
    """Return a stamp of a shared library; another build has another size or time."""
    status = os.stat(library)
    return f"{library} {status.st_size} {status.st_mtime_ns}"


def digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _written(facts: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\n" for name, value in facts.items())


def _path(facts: Mapping[str, str]) -> str:
    return cache.path(f"fake-cuda-{hashlib.sha256(_written(facts).encode()).hexdigest()[:16]}")
