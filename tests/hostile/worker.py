"""One process that answers cases: the command line in it, its memory and its time measured.

Lines `TARGET SEED` come in, a line of JSON goes out for each. Memory is the peak of what lay in RAM
while the case ran (VmHWM, set back before), less what lay there before; time is the processor's,
since other processes are no fault of the case, and where a case waits, the clock's.
"""

import contextlib
import io
import json
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

ADDRESS_SPACE = 4 << 30  # turns greed into a MemoryError before it hurts the machine
LONGEST = 300  # characters of an error
BROKEN = {
    "this is a defect": "defect",
    "could not be followed": "unforeseen",
    "Traceback (most recent": "traceback",
    ": MemoryError": "out of memory",
}
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]")


def resident(key="VmHWM"):
    """Bytes of this process in RAM: now (VmRSS), or at most (VmHWM)."""
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) << 10


def forget_peak():
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def run(case):
    """What the case did to a process: its exit code, its words, its cost, and what was wrong."""
    from weighbridge.faces.cli.menu import run as command_line

    out, err = io.StringIO(), io.StringIO()
    before = resident("VmRSS")
    forget_peak()
    clock, cpu = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), given(case.stdin):
        if case.act is None:
            code = command_line(case.arguments)
        else:
            code, said = case.act()
            out.write(said)
    seconds = time.perf_counter() - clock if case.waits else time.process_time() - cpu
    result = {"code": code, "seconds": round(seconds, 3), "bytes": resident() - before}
    result["wrong"] = list(wrong(case, code, out.getvalue(), err.getvalue()))
    result["said"] = err.getvalue()[:400]
    return result


@contextlib.contextmanager
def given(stdin):
    if stdin is None:
        yield
        return
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(stdin))
    try:
        yield
    finally:
        sys.stdin = before


def wrong(case, code, out, err):
    """Each thing that no answer may be."""
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    yield from (what for words, what in BROKEN.items() if words in err + out)
    if code not in case.codes:
        yield f"exit code {code}"
    if len(errors) > 1 or (errors and len(err.splitlines()) > 1 and case.alone):
        yield "more than one line of error"
    if any(len(line) > LONGEST for line in errors):
        yield "a line over 300 characters"
    if (
        errors
        and case.named
        and "--" not in errors[0]
        and not any(name in errors[0] for name in case.named)
    ):
        yield "an error that does not name its input"
    if CONTROLS.search(out) or CONTROLS.search(err):
        yield "control characters"
    if case.says and not err.strip():
        yield "a contradiction that nobody is told of"
    yield from hidden(case, out + err)
    yield from answers(case, code, out)


def hidden(case, said):
    for secret in case.secrets:
        if secret in said:
            yield "a secret in plain sight"


def answers(case, code, out):
    """The laws of every report in the output."""
    if case.form != "json" or code not in (0, 1, 4):
        return
    from tests.hostile.laws import broken

    for line in out.splitlines() if case.stdin is not None else [out]:
        report = json.loads(line)
        if "error" in report:
            message = report["error"]["message"]
            if len(message) > LONGEST:
                yield "a message over 300 characters"
        elif "devices" in report:
            yield from broken(report)


def main():
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    talk = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    folder = Path(tempfile.mkdtemp(prefix="hostile"))
    from tests.hostile.cases import Place, targets

    try:
        with Place(folder) as place:
            for line in sys.stdin:
                target, _, seed = line.strip().partition(" ")
                case = targets()[target](random.Random(f"{target} {seed}"), place)
                result = run(case)
                place.clear()
                print(json.dumps(result), file=talk, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
