"""A log as people paste it, made ready to be searched: bounded, decoded, unwrapped.

Messages come wrapped by terminals (within words), behind the prefixes of ranks, workers and
containers, within the borders of tables, or inside JSON. All whitespace is taken out of the text
that is searched, and out of the patterns: so it does not matter where a line was broken.
"""

import re
from bisect import bisect_right
from decimal import Decimal

from weighbridge.base.errors import BadFileError
from weighbridge.base.records import dataclass
from weighbridge.base.sentences import sentence
from weighbridge.base.units import MIB

MOST = 4 * MIB  # bytes of a log; the message is at its end
LONGEST_LINE = 60  # columns: a shorter line was not wrapped by a terminal (assumed)
WIDEST = 4000  # characters of one line that are searched for what a program was doing
SAMPLE = 4096  # bytes that are looked at to tell text from other files
CUT = f"longer than {MOST // MIB} MiB; give the end of the log: tail -n 2000 FILE | ... -"

MARKS = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"\xef\xbb\xbf", "utf-8"))
COLORS = re.compile(r"\x1b\[[0-9;?]{0,20}[A-Za-z]")
ESCAPED = (("\\r\\n", "\n"), ("\\n", "\n"), ("\\t", "\t"), ('\\"', '"'))  # as JSON has them
# Prefixes of a line of a message: [rank0]:, worker-5:, (EngineCore pid=316), vllm-1  |, ERROR 06-05
# 06:18:13 [core.py:390]. Each part is bounded, and none can match in two ways.
PREFIX = re.compile(
    r"[│|>]?[ \t]{0,200}(?:"
    r"\[rank\d{1,6}\]:[ \t]?|"
    r"\([A-Za-z][\w.-]{0,60}(?: [\w.]{1,30}=\d{1,9}){1,4}\)[ \t]?|"
    r"[A-Za-z][\w.-]{0,60}[ \t]{0,40}\|[ \t]|"
    r"worker-\d{1,6}: |"
    r"\d{1,4}(?:\.\d{2,3}){3} [A-Z] |"
    r"(?:ERROR|INFO|WARNING) \d\d-\d\d \d\d:\d\d:\d\d \[[\w.]{1,80}:\d{1,6}\][ \t]?"
    r"){0,6}"
)


@dataclass(frozen=True)
class Log:
    """A log: `lines` without the prefixes of loggers; `packed`: the same without whitespace."""

    lines: tuple[str, ...]
    packed: str
    starts: tuple[int, ...]  # where each line begins in `packed`

    def around(self, place: int, lines: int) -> str:
        """Return `lines` lines before and after position `place` of `packed`."""
        here = bisect_right(self.starts, place) - 1
        near = self.lines[max(here - lines, 0) : here + lines]
        return "\n".join(line[-WIDEST:] for line in near)


def decoded(raw: bytes, name: str = "the text") -> str:
    """Return `raw` as text. Raises BadFileError if it is empty, binary or too long."""
    if len(raw) > MOST:
        raise BadFileError(f"{name} is {CUT}")
    for mark, encoding in MARKS:
        if raw.startswith(mark):
            return raw[len(mark) :].decode(encoding, errors="replace")
    if b"\0" in raw[:SAMPLE]:
        raise BadFileError(sentence("oom.binary", name=name))
    if not raw.strip():
        raise BadFileError(sentence("oom.empty", name=name))
    return raw.decode("utf-8", errors="replace")


def log(text: str) -> Log:
    """Return `text` as a Log, without colours, escapes, borders and loggers' prefixes."""
    if "\x1b" in text:
        text = COLORS.sub("", text)
    for escaped, sign in ESCAPED:
        text = text.replace(escaped, sign)
    lines = [_line(line) for line in text.splitlines() if line and not line.isspace()]
    return Log(tuple(lines), *_packed(lines))


def _line(line: str) -> str:
    start = PREFIX.match(line)
    words = line[start.end() :] if start else line
    words = words.rstrip()
    return words.removesuffix("│").rstrip() if words.endswith("│") else words


def _packed(lines: list[str]) -> tuple[str, tuple[int, ...]]:
    """Return `lines` joined without whitespace, and where each begins. A line break between two
    digits stays if the line was too short to be wrapped, since these are two numbers."""
    out: list[str] = []
    starts: list[int] = []
    length, before = 0, ""
    for line in lines:
        here = "".join(line.split())
        starts.append(length)
        if before[-1:].isdigit() and here[:1].isdigit() and len(before) < LONGEST_LINE:
            here = "\n" + here
        out.append(here)
        length, before = length + len(here), here or before
    return "".join(out), tuple(starts)


# Sizes as engines print them: every unit is a power of 1024, whatever it is called.
# PyTorch's c10/core/CachingDeviceAllocator.h (format_size), MPSAllocator.mm (format_size: "GB" to
# 2.5), vllm/utils/mem_utils.py, the kernel's mm/oom_kill.c (K() of pages): powers of 1024.
POWERS = {"B": 0, "BYTES": 0, "K": 1, "M": 2, "G": 3, "T": 4}
NUMBER = r"\d{1,20}(?:[.,]\d{1,20})?"
SIZE = rf"({NUMBER}(?:[KMGT]i?B|kB|bytes|B))"
UNLIMITED = 1 << 63  # 17179869184.00 GiB is 2**64 bytes: no limit was set
_SIZE = re.compile(rf"({NUMBER})\s?([A-Za-z]{{1,5}})")


def read_size(text: str) -> int | None:
    """Return the bytes of "20.00 MiB", "1900,00 MiB", "0 bytes"; None for "no limit"."""
    match = _SIZE.fullmatch(text)
    assert match is not None, text
    unit = match[2].upper()
    power = POWERS.get(unit, POWERS.get(unit[0], 0))
    nbytes = round(Decimal(match[1].replace(",", ".")) * 1024**power)
    return nbytes if nbytes < UNLIMITED else None
