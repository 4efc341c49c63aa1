"""Advice where a program stopped: one line for the commonest first errors of a repository.

It comes of the kind of an error and of its message; of the program's source only what an `assert`
compares is read.
"""

import ast
import linecache
import os
import re
import sys

from weighbridge.base.sentences import Sentence, sentence
from weighbridge_lab.trace import places
from weighbridge_lab.trace.patches.missing import reads_samples
from weighbridge_lab.trace.patches.outside import NoNetworkError
from weighbridge_lab.trace.stubs import CompiledExtensionError

HUB = "huggingface.co"
UNREACHED = re.compile(r"couldn't (?:reach|connect)|couldn't find them in the cached|offline", re.I)
USAGE = 2  # exit code of argparse
ABOVE = 4  # folders above a script that may have its packages
ABSENT = re.compile(r"not found|does(?:n't| not) exist|no such file|couldn't find|no images", re.I)
MIXED = re.compile(r"same device|different devices|type .* and .* type .* should be the same", re.I)
COUNTED = re.compile(r"device_count|world_size|\bn(?:um)?_?gpus?\b|\bgpus\b|\bdevices\b", re.I)
NEEDED = re.compile(
    r"(\d{1,4})\s*(?:x\s*)?(?:gpus?|devices?|cards?|ranks?|processes)\b"
    r"|(?:device_count|world_size|n_gpus?|num_gpus|gpus|devices)\W+(?:[a-z]+\s+){0,4}\W*(\d{1,4})\b",
    re.IGNORECASE,
)
SEVERAL = re.compile(
    r"(?:multiple|several|more than one|at least two|two or more)\s+(?:gpus|devices)", re.IGNORECASE
)
ORDINAL = re.compile(r"invalid device ordinal \(cuda:(\d+)\)")
RELEASE = re.compile(r"\bversion\b", re.I)
COMPARED = re.compile(r"\bversion\b|[<>=]=?\s*\d+\.\d+", re.I)  # what an import is about
LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
UNLAUNCHED = re.compile(rf"environment variable (?:{'|'.join(LAUNCHED)}) expected")
ALLOCATOR = "DefaultCPUAllocator"  # torch's words, where the host has no room
CHECKS = (AssertionError, RuntimeError, ValueError, ImportError)
MANY = 8  # devices, where nobody says how many


def advice(error: BaseException, card: str) -> Sentence | str:
    """Return what the user should do next; "" if the error gives no hint."""
    if isinstance(error, SystemExit):
        return sentence("trace.next.arguments") if error.code == USAGE else ""
    causes = list(places.causes(error))
    asked = next((one for one in causes if isinstance(one, NoNetworkError)), None)
    if asked is not None:
        return sentence("trace.next.network", host=asked.host)
    return next(filter(None, (_of(one, card) for one in causes)), "")


def _of(cause: BaseException, card: str) -> Sentence | str:
    if isinstance(cause, MemoryError) or ALLOCATOR in str(cause):
        return sentence("trace.next.host_memory")
    asked = _package, _launcher, _hub, _file, _mixed
    answers = (*(ask(cause) for ask in asked), _devices(cause, card))
    return next(filter(None, answers), "") or _version(cause)


def _package(cause: BaseException) -> Sentence | str:
    if isinstance(cause, CompiledExtensionError):
        return sentence("trace.next.extension", name=cause.name or "")
    if not isinstance(cause, ModuleNotFoundError) or not cause.name:
        return ""
    package = cause.name.partition(".")[0]
    folder = _above(package)
    if folder:
        return sentence("trace.next.folder", package=package, folder=folder)
    return sentence("trace.next.package", package=package)


def _above(package: str) -> str:
    """Return the folder above the script that holds a package of its repository; "" for other
    packages."""
    folder = os.path.abspath(sys.path[0])
    for _ in range(ABOVE):
        folder = os.path.dirname(folder)
        path = os.path.join(folder, package)
        if os.path.isfile(f"{path}.py") or (os.path.isdir(path) and len(folder) > 1):
            return os.path.relpath(folder)
    return ""


def _launcher(cause: BaseException) -> Sentence | str:
    """Return advice on a missing environment variable: a launcher's, or the user's own; "" for
    other errors."""
    name = str(cause.args[0])[:80] if isinstance(cause, KeyError) and cause.args else ""
    if name in LAUNCHED or UNLAUNCHED.search(str(cause)):
        return sentence("trace.next.launcher")
    return sentence("trace.next.variable", name=name) if name.isupper() else ""


def _hub(cause: BaseException) -> Sentence | str:
    """Return advice if a library caught the refused connection and raised its own error; else
    ""."""
    offline = isinstance(cause, OSError | RuntimeError) and UNREACHED.search(str(cause))
    return sentence("trace.next.network", host=HUB) if offline else ""


def _file(cause: BaseException) -> Sentence | str:
    missing = isinstance(cause, FileNotFoundError)
    if not missing and not (isinstance(cause, CHECKS) and ABSENT.search(str(cause))):
        return ""
    if reads_samples(cause):
        return sentence("trace.next.data")
    name = getattr(cause, "filename", None)
    return sentence("trace.next.file", file=str(name or "what it looks for")[:120])


def _mixed(cause: BaseException) -> Sentence | str:
    """Return advice on a tensor left on the host, the most common first error; "" for other
    errors."""
    mixed = isinstance(cause, RuntimeError) and MIXED.search(str(cause))
    return sentence("trace.next.mixed") if mixed else ""


def _devices(cause: BaseException, card: str) -> Sentence | str:
    """Return advice on a missing device, or on a check that counts devices; "" for other errors."""
    ordinal = ORDINAL.search(str(cause))
    count = int(ordinal[1]) + 1 if ordinal else _wanted(cause)
    if not count:
        return ""
    return sentence("trace.next.devices", gpu=f"{count}x{re.sub(r'^[0-9]+x', '', card)}")


def _wanted(cause: BaseException) -> int:
    """Return the number of devices that a check requires, by its message or by what its `assert`
    compares; 0 for other errors."""
    asserted = _asserted(cause)
    if asserted is not None and COUNTED.search(ast.unparse(asserted)):
        numbers = (n.value for n in ast.walk(asserted) if isinstance(n, ast.Constant))
        return max((n for n in numbers if type(n) is int and n > 1), default=MANY)
    if not isinstance(cause, CHECKS) or isinstance(cause, ImportError):
        return 0
    needed = NEEDED.search(str(cause))
    if needed is None:
        return MANY if SEVERAL.search(str(cause)) else 0
    return max(int(needed[1] or needed[2]), 2)


def _version(cause: BaseException) -> Sentence | str:
    asserted = _asserted(cause)
    text = f"{cause} {ast.unparse(asserted) if asserted else ''}"
    pattern = COMPARED if isinstance(cause, ImportError | AssertionError) else RELEASE
    wants = isinstance(cause, CHECKS) and pattern.search(text)
    return sentence("trace.next.release") if wants else ""


def _asserted(cause: BaseException) -> ast.expr | None:
    """Return the condition of the program's own failed `assert`; None for other errors."""
    place = places.ended(cause.__traceback__) if isinstance(cause, AssertionError) else None
    if place is None:
        return None
    try:
        statement = ast.parse(linecache.getline(place.path, place.line).strip()).body[0]
    except (SyntaxError, IndexError):  # several lines
        return None
    return statement.test if isinstance(statement, ast.Assert) else None


def of_unused(path: str) -> Sentence | str:
    """Return how to run a net that a file defines but does not run; "" for a file without one."""
    try:
        with open(path, "rb") as file:
            body = ast.parse(file.read()).body
    except (OSError, SyntaxError, ValueError):
        return ""
    nets = [
        node.name
        for node in body
        if isinstance(node, ast.ClassDef) and any("Module" in ast.unparse(b) for b in node.bases)
    ]
    return sentence("trace.next.net", path=path, name=nets[-1]) if nets else ""
