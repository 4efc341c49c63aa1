"""A change of a file as a unified diff that `patch -p1` takes: with the ends of lines that the file
has, and without its secrets.

The format: GNU diffutils' manual, "Detailed Description of Unified Format"; a name with a blank
ends at a tab (GNU patch, src/util.c: fetchname), and a last line without its end is marked.
"""

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from weighbridge.base.records import NamedTuple
from weighbridge.base.wording import printable, unsecret

CONTEXT = (3, 2, 1, 0)  # lines around a change: fewer if a secret is near
UNENDED = "\\ No newline at end of file\n"
MARK = "\ufeff"
Hunk = Sequence[tuple[str, int, int, int, int]]


class FileDiff(NamedTuple):
    """A unified diff. `applies`: `patch` accepts it; False if a line is not shown as in the
    file."""

    text: str
    applies: bool


def unified(name: str, before: str, after: str) -> FileDiff:
    """Return the diff of a file. Context lines with a secret are left out; secrets in changed lines
    become asterisks."""
    old, new = lines_of(before), lines_of(after)
    shown = _shown(before, old), _shown(after, new)
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    groups = [list(matcher.get_grouped_opcodes(n)) for n in CONTEXT]
    hunks = next((each for each in groups if _are_shown_unchanged(each, old, shown[0])), groups[0])
    applies = _are_shown_unchanged(hunks, old, shown[0]) and _are_shown_unchanged(
        hunks, new, shown[1], new=True
    )
    if not hunks:
        return FileDiff("", applies)
    path = name.lstrip("/")
    end = "\t\n" if " " in path else "\n"
    head = f"--- a/{printable(path)}{end}+++ b/{printable(path)}{end}"
    return FileDiff(head + "".join(part for one in hunks for part in _hunk(one, *shown)), applies)


def lines_of(text: str) -> list[str]:
    """Return the lines of a text with their ends. Only a line feed ends a line, as for `patch`."""
    return [line for line in text.replace("\n", "\n\0").split("\0") if line]


def _shown(text: str, lines: Sequence[str]) -> list[str]:
    """Return the lines without secrets and without terminal control characters."""
    safe = lines_of(unsecret(text.replace("\r\n", "\n")))
    if len(safe) != len(lines):  # a secret of several lines
        safe = [unsecret(line) for line in lines]
    return [_line(plain, line) for plain, line in zip(safe, lines, strict=True)]


def _line(safe: str, line: str) -> str:
    """Return the text `safe` with `line`'s line end and byte order mark."""
    end = "\r\n" if line.endswith("\r\n") else "\n" if line.endswith("\n") else ""
    mark = MARK if line.startswith(MARK) else ""
    text = safe.removeprefix(MARK).removesuffix("\n").removesuffix("\r")
    return mark + "\t".join(map(printable, text.split("\t"))) + end


def _are_shown_unchanged(
    hunks: Sequence[Hunk], lines: Sequence[str], shown: Sequence[str], *, new: bool = False
) -> bool:
    """Return whether all lines of the hunks are shown unchanged."""
    ranges = ((k, m) if new else (i, j) for hunk in hunks for _, i, j, k, m in hunk)
    return all(lines[start:end] == shown[start:end] for start, end in ranges)


def _hunk(hunk: Hunk, old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    first, last = hunk[0], hunk[-1]
    yield f"@@ -{_range(first[1], last[2])} +{_range(first[3], last[4])} @@\n"
    for tag, i, j, k, m in hunk:
        if tag == "equal":
            yield from map(" {}".format, map(_ended, old[i:j]))
            continue
        yield from map("-{}".format, map(_ended, old[i:j]))
        yield from map("+{}".format, map(_ended, new[k:m]))


def _ended(line: str) -> str:
    return line if line.endswith("\n") else f"{line}\n{UNENDED}"


def _range(start: int, end: int) -> str:
    """Return a hunk's range of lines as in its header, counted from 1; without lines, it is the
    line before."""
    count = end - start
    if count == 1:
        return str(start + 1)
    return f"{start + 1 if count else start},{count}"


# The file's own form of a text: our readers drop byte order marks and carriage returns


def encoding_of(raw: bytes) -> str:
    """Return the encoding of a file's bytes."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        raw.decode()
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def as_in(raw: bytes, before: str, after: str) -> tuple[str, str]:
    """Return `before` and `after` with the byte order mark and line ends of the file's bytes `raw`;
    new lines end as most do."""
    was = lines_of(raw.decode(encoding_of(raw)))
    old, new = lines_of(before), lines_of(after)
    many = sum(line.endswith("\r\n") for line in was) * 2 > len(was)
    after_lines: list[str] = []
    for tag, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            after_lines += was[i:j]
        else:
            after_lines += [line.replace("\n", "\r\n") if many else line for line in new[k:m]]
    text = "".join(after_lines)
    marked = was and was[0].startswith(MARK) and not text.startswith(MARK)
    return "".join(was), f"{MARK}{text}" if marked else text
