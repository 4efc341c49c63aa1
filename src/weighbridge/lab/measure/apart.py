"""A function in a process of its own: no cache, context or counter of another run is in it.

The function is named ("module:function"), so that the caller need not import what it imports. A
process for a golden program starts from one that has torch imported and has done nothing with it
(multiprocessing's fork server), one for a script from nothing.
"""

import os
import sys
from importlib import import_module
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from typing import Any

from weighbridge.errors import UnsupportedError, WeighbridgeError

WARM = ["torch", "transformers"]
LIMIT = 600  # seconds


def apart(function: str, *arguments: Any, warm: bool = False) -> Any:
    """Return what `function` gives. Raises what it raised, if that is an error of ours."""
    receive, process = _started(function, arguments, warm)
    try:
        if not receive.poll(LIMIT):
            raise UnsupportedError(f"no answer within {LIMIT} seconds")
        value = receive.recv()
    except EOFError:
        process.join()
        raise UnsupportedError(f"the process ended with exit status {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
    if isinstance(value, WeighbridgeError):
        raise value
    return value


def _started(function: str, arguments: tuple[Any, ...], warm: bool) -> tuple[Connection, Any]:
    served = warm and "forkserver" in get_all_start_methods()
    context: Any = get_context("forkserver" if served else "spawn")
    if served:
        context.set_forkserver_preload(WARM)
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(send, function, arguments), daemon=True)
    process.start()
    send.close()
    return receive, process


def _answer(send: Connection, function: str, arguments: tuple[Any, ...]) -> None:
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the program prints is talk
    value: Any
    try:
        module, _, name = function.partition(":")
        value = getattr(import_module(module), name)(*arguments)
    except WeighbridgeError as error:
        value = error
    except ModuleNotFoundError as error:
        value = UnsupportedError(f"{error.name} is not installed: pip install {error.name}")
    except Exception as error:
        value = UnsupportedError(f"{type(error).__name__}: {error}")
    send.send(value)
