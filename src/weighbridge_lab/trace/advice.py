"""Advice where a program stopped: one line for the commonest first errors of a repository."""

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
COUNTED = re.compile(r"device_count|world_size|\bgpus?\b|\bdevices\b", re.I)
ORDINAL = re.compile(r"invalid device ordinal \(cuda:(\d+)\)")
RELEASE = re.compile(r"\bversion\b|[<>=]=?\s*\d+\.\d+", re.I)
LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
UNLAUNCHED = re.compile(rf"environment variable (?:{'|'.join(LAUNCHED)}) expected")
ALLOCATOR = "DefaultCPUAllocator"  # torch's words, where the host has no room
CHECKS = (AssertionError, RuntimeError, ValueError, ImportError)
MANY = 8  # devices, where nobody says how many


def advice(error: BaseException, card: str) -> Sentence | str:
    """Return what to do next; "" where nobody can say."""
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
    answers = _package(cause), _launcher(cause), _hub(cause), _file(cause), _devices(cause, card)
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
    """Return the folder above the script that has a package of its repository; "" of any other."""
    folder = os.path.abspath(sys.path[0])
    for _ in range(ABOVE):
        folder = os.path.dirname(folder)
        path = os.path.join(folder, package)
        if os.path.isfile(f"{path}.py") or (os.path.isdir(path) and len(folder) > 1):
            return os.path.relpath(folder)
    return ""


def _launcher(cause: BaseException) -> Sentence | str:
    """Tell of a variable of the environment: a launcher's, or the user's own."""
    name = str(cause.args[0])[:80] if isinstance(cause, KeyError) and cause.args else ""
    if name in LAUNCHED or UNLAUNCHED.search(str(cause)):
        return sentence("trace.next.launcher")
    return sentence("trace.next.variable", name=name) if name.isupper() else ""


def _hub(cause: BaseException) -> Sentence | str:
    """Tell of a library that caught the refusal of its connection, and raised its own error."""
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


def _devices(cause: BaseException, card: str) -> Sentence | str:
    """Tell of a device that is not there, or of a check that counts them."""
    ordinal = ORDINAL.search(str(cause))
    text = "" if ordinal else f"{cause} {_line(cause)}"
    if ordinal:
        count = int(ordinal[1]) + 1
    elif isinstance(cause, CHECKS) and COUNTED.search(text):
        count = max((int(n) for n in re.findall(r"\b\d{1,2}\b", text)), default=0)
        count = count if count > 1 else MANY
    else:
        return ""
    return sentence("trace.next.devices", gpu=f"{count}x{re.sub(r'^[0-9]+x', '', card)}")


def _version(cause: BaseException) -> Sentence | str:
    if isinstance(cause, CHECKS) and RELEASE.search(f"{cause} {_line(cause)}"):
        return sentence("trace.next.release")
    return ""


def _line(cause: BaseException) -> str:
    """Return the text of the program's own line that an error came from."""
    place = places.ended(cause.__traceback__)
    return linecache.getline(place.path, place.line) if place else ""


def of_unused(path: str) -> Sentence | str:
    """Return how a net is run that a file defines, and does not run; "" of a file without one."""
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
