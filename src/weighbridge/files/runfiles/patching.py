"""A change of settings, written into the very file: values in their places, all else as it stands.

A YAML library that writes a file back sets it anew: quotes, blanks and breaks move. Here a value is
put where the parser found the old one, or in a line of its own after one that it knows. Then the
text is read again, and is only handed out where it asks for what was meant, and nothing else.
"""

import difflib
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from weighbridge.base.errors import WeighbridgeError
from weighbridge.base.records import NamedTuple, frozen_record, replace
from weighbridge.files.runfiles import notebook
from weighbridge.files.runfiles.diffs import as_in, encoding_of, unified
from weighbridge.files.runfiles.document import Document, Path, documents, first
from weighbridge.files.runfiles.kinds import named, read
from weighbridge.files.runfiles.limits import raised
from weighbridge.files.runfiles.record import Kind, PlannedRun, RunFile, Understood, Value
from weighbridge.files.runfiles.training.arguments import STAGE
from weighbridge.files.runfiles.training.flags import mapping
from weighbridge.files.runfiles.weighing import WeighedFile, WeighedRun
from weighbridge.memory.report.verdict import Remedy
from weighbridge.training.learning.words import follows, keyed, program_of
from weighbridge.workload.train import LEARNS

SHARED = re.compile(r":\s+([*&][\w.-]{1,60})")  # a YAML alias, or its anchor
Words = Mapping[str, Value]  # keys of a file -> values; a tuple is added to what a list holds


class Edit(NamedTuple):
    """New text for the characters from `start` to `end`."""

    start: int
    end: int
    text: str


@frozen_record
class FilePatch:
    """A file with its changes made. `remedies`: one per changed run; `encoding`: of the file's
    bytes."""

    name: str
    before: str
    after: str
    remedies: tuple[Remedy, ...]
    encoding: str = "utf-8"

    @property
    def diff(self) -> str:
        """Return the change as a unified diff, with asterisks for the file's secrets."""
        return unified(self.name, self.before, self.after).text

    @property
    def applies(self) -> bool:
        """Return whether `patch` accepts the diff: False if a changed line has a secret, or the
        file's bytes are not UTF-8."""
        diff = unified(self.name, self.before, self.after)
        same = self.encoding == "utf-8" or (self.encoding != "utf-16" and diff.text.isascii())
        return diff.applies and same

    def of(self, raw: bytes) -> "FilePatch":
        """Return the change with the byte order mark and line ends of the file's bytes `raw`."""
        before, after = as_in(raw, self.before, self.after)
        return replace(self, before=before, after=after, encoding=encoding_of(raw))


Weigh = Callable[[str], WeighedFile]


def patched(weighed_file: WeighedFile, weigh: Weigh | None = None) -> FilePatch | None:
    """Return the file with each run's first change that surely fits, or with the memory limit that
    it needs. None if a run does not fit and its file has no keys for a change; a file that fits is
    unchanged. `weigh` estimates a changed text, so that a change with further defaults of its
    program counts if it fits."""
    text, remedies = weighed_file.file.text, []
    for number, weighed in enumerate(weighed_file.runs):
        if weighed.fits == "yes":
            continue
        changed = _changed(text, weighed_file.file, number, weighed, weigh)
        changed = changed or raised(text, weighed_file.file, number, weighed)
        if changed is None:
            return None
        text, remedy = changed
        remedies.append(remedy)
    return FilePatch(
        name=weighed_file.file.name,
        before=weighed_file.file.text,
        after=text,
        remedies=tuple(remedies),
    )


def shared_value(weighed_file: WeighedFile) -> tuple[int, str] | None:
    """Return (line, name) of the YAML anchor whose value a fitting change would set, as an aliased
    value has no place of its own. None if no anchor is the obstacle."""
    for weighed in weighed_file.runs:
        remedies = weighed.report.remedies if weighed.report is not None else ()
        for remedy in remedies:
            words = in_its_words(weighed_file.file, weighed.run, remedy)
            if remedy.fits == "yes" and words:
                shared = _shared(_document(weighed_file.file.text, weighed_file.file), words)
                if shared is not None:
                    return shared
    return None


class UnsaidChange(NamedTuple):
    """A fitting change that the file has no keys for: its flags and the reason, and another change
    that can be written and may fit."""

    flags: str
    why: str
    other: str = ""


IN_A_LINE = "its launch line is put together of variables, or stands in another file"
NO_KEY = "a {} has no key for it"
OTHER_TRAINING = "it trains adapters in the place of all weights, which is for you to decide"
NO_PLACE = "no key of it can be changed alone, or its program brings other settings with it"


def unsaid(weighed_file: WeighedFile) -> UnsaidChange | None:
    """Return the first change that surely fits on the same cards but cannot be written, for a run
    that does not fit; None if there is none."""
    for number, weighed in enumerate(weighed_file.runs):
        if weighed.fits == "yes" or weighed.report is None:
            continue
        for one in weighed.report.remedies:
            if one.fits == "yes" and "gpu" not in one.change:
                return UnsaidChange(
                    one.flags or one.paste,
                    _why(weighed_file, weighed, one),
                    _writable_other_change(weighed_file, number),
                )
    return None


def in_its_words(file: RunFile, run: PlannedRun, remedy: Remedy) -> Words | None:
    """Return a remedy as keys of the file, None if the file has no keys for it. Trainings from
    rewards or preferences use their framework's keys."""
    if run.settings.get("method") in LEARNS:
        return keyed(program_of(run.settings), remedy.change)
    if run.task == "train_image":
        return _of_trainer(remedy.paste)
    change, words = dict(remedy.change), dict[str, Value]()
    for key in filter(_has_stage_in_file_name, run.understood):
        if str(change.get("shard")).startswith("zero"):
            begins, number, ends = STAGE.split(key.value, 1)
            number = key.value[len(begins) : -len(ends)][:-1] + change.pop("shard")[-1]
            words[key.key] = f"{begins}{number}{ends}"
    others = named(file.kind).written(change)
    return None if others is None else {**others, **words}


def _has_stage_in_file_name(known: Understood) -> bool:
    """Return whether a key names a DeepSpeed config with the ZeRO stage in its file name."""
    return known.setting == "shard" and STAGE.search(str(known.value)) is not None


def _of_trainer(pasted: str) -> Words | None:
    """Return a picture trainer's lines to paste (flags or JSON) as keys; None if they are for
    another file."""
    words: dict[str, Value] = {}
    for line in filter(None, pasted.splitlines()):
        if line.startswith("--"):
            flags = mapping(shlex.split(line))
            words |= {n: "" if value is True else value for n, value in flags.items()}
        elif line.startswith('"'):
            words |= _dotted(json.loads(f"{{{line}}}"))
        else:
            return None
    return words or None


def _dotted(data: Mapping[str, Any], above: str = "") -> dict[str, Value]:
    """Return nested values by dotted key."""
    values: dict[str, Value] = {}
    for name, value in data.items():
        key = f"{above}{name}"
        values |= _dotted(value, f"{key}.") if isinstance(value, dict) else {key: value}
    return values


def _why(weighed_file: WeighedFile, weighed: WeighedRun, remedy: Remedy) -> str:
    if weighed.run.command:
        return IN_A_LINE
    if in_its_words(weighed_file.file, weighed.run, remedy) is None:
        return NO_KEY.format(weighed_file.file.title)
    return OTHER_TRAINING if trains_less(weighed.run, remedy) else NO_PLACE


def _writable_other_change(weighed_file: WeighedFile, number: int) -> str:
    """Return the flags of the first change that can be written to the file and may fit; "" if
    none."""
    weighed = weighed_file.runs[number]
    for remedy in weighed.report.remedies if weighed.report is not None else ():
        if remedy.fits == "unknown":
            file, run = weighed_file.file, weighed.run
            if _said_by_keys(file.text, file, number, run, remedy, None) is not None:
                return remedy.flags
    return ""


def _shared(document: Document, words: Words) -> tuple[int, str] | None:
    for key in words if document.syntax == "yaml" else ():
        place = document.places.get(_path_of_key(document, key))
        value = SHARED.search(_line(document.text, place.line)) if place is not None else None
        if place is not None and value is not None:
            return place.line, value[1]
    return None


def _changed(
    text: str, file: RunFile, number: int, weighed: WeighedRun, weigh: Weigh | None = None
) -> tuple[str, Remedy] | None:
    """Return (text, remedy): the text with the first fitting remedy that the file has keys for.
    None without one."""
    for remedy in weighed.report.remedies if weighed.report is not None else ():
        for each in _alike(weighed.run, remedy) if remedy.fits == "yes" else ():
            after_and_change = _said_by_keys(text, file, number, weighed.run, each, weigh)
            if after_and_change is not None:
                return after_and_change
    return None


def _alike(run: PlannedRun, remedy: Remedy) -> Iterator[Remedy]:
    """Yield the remedy, and for FSDP also ZeRO-3 if the file uses DeepSpeed; nothing for a remedy
    that trains adapters instead of all weights."""
    if trains_less(run, remedy):
        return
    yield remedy
    if any(map(_has_stage_in_file_name, run.understood)) and remedy.change.get("shard") in (
        "fsdp1",
        "fsdp2",
    ):
        yield replace(remedy, change={**remedy.change, "shard": "zero3"})


def trains_less(run: PlannedRun, remedy: Remedy) -> bool:
    """Return whether a change trains adapters instead of all weights, which is advice and never
    written into a file."""
    return run.settings.get("method") == "full" and "method" in remedy.change


def _said_by_keys(
    text: str, file: RunFile, number: int, run: PlannedRun, remedy: Remedy, weigh: Weigh | None
) -> tuple[str, Remedy] | None:
    for after in _texts(text, file, run, remedy):
        if _says(after, file, number, run, remedy):
            return after, remedy
        settings_told = _weighed(after, file, number, run, remedy, weigh)
        if settings_told is not None:
            return after, settings_told
    return None


def _weighed(
    after: str, file: RunFile, number: int, run: PlannedRun, remedy: Remedy, weigh: Weigh | None
) -> Remedy | None:
    """Return a change of method or sharding with its peak, estimated with the program's further
    defaults; None if it does not surely fit."""
    if weigh is None or run.command or remedy.change.keys().isdisjoint(("method", "shard")):
        return None
    try:
        again = weigh(after).runs[number]
    except (WeighbridgeError, IndexError):
        return None
    wanted = {**run.settings, **remedy.change}
    if (
        again.report is None
        or again.fits != "yes"
        or not _differs_only_in_adapters(again.run.settings, wanted)
    ):
        return None
    return replace(remedy, peak_bytes=again.report.peak.expected)


def _differs_only_in_adapters(settings: Mapping[str, Value], wanted: Mapping[str, Value]) -> bool:
    """Return whether settings are as `wanted`, apart from further ones of adapters or ZeRO."""
    more = [name for name in settings if name not in wanted]
    same = _same({name: settings.get(name) for name in wanted}, wanted)
    return same and all(name == "dtype" or name.startswith(("lora_", "zero_")) for name in more)


def _texts(text: str, file: RunFile, run: PlannedRun, remedy: Remedy) -> Iterator[str]:
    """Yield the text with a remedy, in each way that it may be written into the file."""
    if run.command:
        yield from _of_line(text, run, remedy)
        return
    words = in_its_words(file, run, remedy)
    book = notebook.opened(text, file.name)
    if book is not None:
        yield from _in_cells(text, book, file, run, words)
        return
    try:
        document = _document(text, file) if words is not None else None
    except WeighbridgeError:
        return
    if words is None or document is None:
        return
    if document.syntax == "shell":
        from weighbridge.files.runfiles.training.flags import argued

        yield from argued(text, [one.key for one in run.understood], words)
        return
    after = applied(document, run, words)
    if after is not None:
        yield after


def _of_line(text: str, run: PlannedRun, remedy: Remedy) -> Iterator[str]:
    """Yield the text with the remedy in its launch line: changed flags, or a repository that holds
    the model in the remedy's format."""
    from weighbridge.files.runfiles.flags import flagged, of_copy, renamed

    yield from flagged(text, run, remedy.flags)
    copy = of_copy(run, remedy)
    if copy is not None and run.model:
        name, others = copy
        other = replace(run, model=name, command=renamed(run.command, run.model, name))
        after = renamed(text, run.model, name)
        yield from flagged(after, other, others.flags) if others.flags else iter((after,))


def _in_cells(
    text: str, book: notebook.Notebook, file: RunFile, run: PlannedRun, words: Words | None
) -> Iterator[str]:
    """Yield a notebook's text with keys set in its Python; each changed line must occur exactly
    once in the JSON."""
    code = next((each for each in book.codes if each.syntax == "python"), None)
    placed = named(file.kind).placed
    if code is None or placed is None or words is None:
        return
    after = applied(placed(documents(code.text, "python", file.name)[0]), run, words)
    if after is None:
        return
    before, lines = code.text.split("\n"), after.split("\n")
    for tag, i, j, k, m in difflib.SequenceMatcher(None, before, lines).get_opcodes():
        if tag == "equal":
            continue
        old, new = (
            json.dumps("\n".join(part), ensure_ascii=False)[1:-1]
            for part in (before[i:j], lines[k:m])
        )
        if j - i != 1 or text.count(old) != 1:
            return
        text = text.replace(old, new)
    yield text


def _document(text: str, file: RunFile) -> Document:
    each = named(file.kind)
    document = _of_kind(text, each, file.name) or first(text, each.syntaxes, file.name)
    return document if each.placed is None else each.placed(document)


def _of_kind(text: str, kind: Kind, name: str) -> Document | None:
    """Return a text as a document in the first syntax in which `kind` recognizes it (a script may
    be YAML); None if none."""
    for syntax in kind.syntaxes:
        try:
            each = first(text, (syntax,), name)
        except WeighbridgeError:
            continue
        if kind.tells(each):
            return each
    return None


def _says(after: str, file: RunFile, number: int, run: PlannedRun, remedy: Remedy) -> bool:
    """Return whether the text `after` reads as the same run with only the remedy changed."""
    try:
        runs = read(after, file.name, file.kind, file.folder).runs
        again = runs[number]
    except (WeighbridgeError, IndexError):
        return False
    if run.command:
        return _line_says(again, run, remedy) and _others_stay(runs, file, number)
    implied = {name for name in follows(program_of(run.settings)) if name not in run.settings}
    wanted = {**run.settings, **{k: v for k, v in remedy.change.items() if k not in implied}}
    return _same(again.settings, wanted) and again.model == run.model and again.task == run.task


def _line_says(again: PlannedRun, run: PlannedRun, remedy: Remedy) -> bool:
    """Return whether the new launch line means the old one plus a remedy, by flags or by a
    repository with the model in that format."""
    from weighbridge.files.runfiles.flags import asks_for, of_copy

    if again.model == run.model:
        return asks_for(again.command, run.command, remedy)
    copy = of_copy(run, remedy)
    if copy is None or again.model != copy[0]:
        return False
    return asks_for(again.command, run.command, copy[1])


def _others_stay(runs: Sequence[PlannedRun], file: RunFile, number: int) -> bool:
    """Return whether the launch lines after the changed one are unchanged."""
    behind = file.runs[number + 1 :]
    return [run.command for run in runs[number + 1 :]] == [run.command for run in behind]


def _same(one: Mapping[str, Value], other: Mapping[str, Value]) -> bool:
    """Return whether two mappings are the same settings; a single name equals a list of it."""

    def plain(settings: Mapping[str, Value]) -> dict[str, Any]:
        lists = {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
        return {k: v[0] if isinstance(v, list) and len(v) == 1 else v for k, v in lists.items()}

    return plain(one) == plain(other)


# Values in their places


def applied(document: Document, run: PlannedRun, words: Words) -> str | None:
    """Return the document's text with `words` (keys -> values) set; None if a key has no place."""
    if not document.text.endswith("\n"):  # a new line needs a complete one before it
        after = applied(replace(document, text=f"{document.text}\n"), run, words)
        return None if after is None else after.removesuffix("\n")
    edits: list[Edit] = []
    folded = document.syntax in ("yaml", "json")
    for key, value in (_folded(document, words) if folded else words).items():
        edit = _edit(document, run, _path_of_key(document, key), value)
        if edit is None:
            return None
        edits.append(edit)
    text = document.text
    # from the end; of keys in one place the last first, which pushes it behind the others
    places = sorted(((edit.start, n) for n, edit in enumerate(edits)), reverse=True)
    for edit in (edits[n] for _, n in places):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def _folded(document: Document, words: Words) -> Words:
    """Return YAML keys; those whose parent mapping is missing become a mapping under the nearest
    existing parent."""
    folded: dict[str, Any] = {}
    for key, value in words.items():
        path, inner = _path_of_key(document, key), value
        while len(path) > 1 and not any(
            one[: len(path) - 1] == path[:-1] for one in document.places
        ):
            path, inner = path[:-1], {path[-1]: inner}
        name = ".".join(map(str, path))
        both = isinstance(inner, dict) and isinstance(folded.get(name), dict)
        folded[name] = {**folded[name], **inner} if both else inner
    return folded


def _path_of_key(document: Document, key: str) -> Path:
    """Return the path of a key; for `a|b`, of the first that the document has, else of the last."""
    paths = [tuple(one.split(".")) for one in key.split("|")]
    return next((path for path in paths if path in document.places), paths[-1])


def _edit(document: Document, run: PlannedRun, path: Path, value: Value) -> Edit | None:
    if isinstance(value, tuple):
        return _added(document, run, path, value)
    place = document.places.get(path)
    if place is not None and place.end:
        return Edit(place.start, place.end, _written(value, document.syntax))
    return None if place is not None else _inserted(document, run, path, value)


def _added(document: Document, run: PlannedRun, path: Path, items: Sequence[str]) -> Edit | None:
    """Return an edit that adds items to a list, or adds the list; None without a place."""
    value: Any = document.data
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    listed = value if isinstance(value, list) else []
    new = [item for item in items if item not in listed]
    place = document.places.get(path)
    if not new:
        return Edit(0, 0, "")
    if not listed:
        block = "".join(f"\n  - {item}" for item in new)
        if place is not None:
            return None
        return _line_after(document, run, f"{path[-1]}:{block}")
    last = document.places[(*path, len(listed) - 1)]
    if place is not None and place.end:  # [a, b]
        return Edit(last.end, last.end, "".join(f", {item}" for item in new))
    indent = _line(document.text, last.line).partition("-")[0]
    end = _end_of(document.text, last.line)
    return Edit(end, end, "".join(f"{indent}- {item}\n" for item in new))


def _inserted(document: Document, run: PlannedRun, path: Path, value: Value) -> Edit | None:
    """Return an edit that inserts a new key next to a known one; None without a place."""
    written_value = _written(value, document.syntax)
    if document.syntax == "python":
        return _into_script(document, path, written_value)
    if document.syntax == "json":
        return _into_object(document, path, written_value)
    if document.syntax == "toml":
        table = document.places.get(path[:-1]) if len(path) > 1 else None
        if table is None:
            return None
        end = _end_of(document.text, table.line)
        return Edit(end, end, f"{path[-1]} = {written_value}\n")
    if document.syntax == "modelfile":
        return _line_after(document, run, f"PARAMETER {path[-1]} {written_value}")
    return _line_after(document, run, f"{path[-1]}: {written_value}", path[:-1])


def _into_script(document: Document, path: Path, value: str) -> Edit | None:
    """Return an edit that adds a line before the imports, or an argument after a call's last; None
    without a place."""
    from weighbridge.files.runfiles.training.script import OF_CONFIGS, TAKEN

    if "[" in str(path[-1]):
        begins = re.search(r"^(?:import|from) (?!__future__)|\Z", document.text, re.MULTILINE)
        start = begins.start() if begins else 0
        return Edit(start, start, f"import os\n\n{'.'.join(map(str, path))} = {value}\n")
    last = document.places.get(())
    if last is None or path[-1] in {*TAKEN}.difference(OF_CONFIGS):
        return None
    return Edit(last.end, last.end, _argument(document, path, value))


def _line_after(document: Document, run: PlannedRun, line: str, above: Path = ()) -> Edit | None:
    """Return an edit that adds a line after the last one-line key of the same mapping; None without
    one."""
    beside = [
        place
        for path, place in document.places.items()
        if len(path) == len(above) + 1 and path[:-1] == above and place.end
    ]
    known = {one.line for one in run.understood}
    places = [place for place in beside if place.line in known] or beside
    single = [p for p in places if "\n" not in document.text[p.start : p.end]]
    if not single:
        return None
    place = max(single, key=lambda one: one.line)
    indent = re.match(r"[ ]*", _line(document.text, place.line))
    end = _end_of(document.text, place.line)
    spaces = indent[0] if indent else ""
    return Edit(end, end, "".join(f"{spaces}{each}\n" for each in line.split("\n")))


def _argument(document: Document, path: Path, argument: str) -> str:
    """Return the text of one more argument of a call, on its own line if the one before it is."""
    start = document.places[()].start
    before = document.text[document.text.rfind("\n", 0, start) + 1 : start]
    keyword = re.fullmatch(r"([ \t]*)[A-Za-z_]\w*[ \t]*=[ \t]*", before)
    return f"{f',{chr(10)}{keyword[1]}' if keyword else ', '}{path[-1]}={argument}"


def _into_object(document: Document, path: Path, entry: str) -> Edit | None:
    holder = document.places.get(path[:-1])
    if holder is None:
        return None
    blank = re.match(r"\{(\s*)", document.text[holder.start :])
    space = blank[1] if blank else ""
    new = f"{space}{json.dumps(path[-1])}: {entry},{'' if space else ' '}"
    return Edit(holder.start + 1, holder.start + 1, new)


def _written(value: Value, syntax: str) -> str:
    """Return a value spelled in the file's syntax."""
    if syntax == "python":
        return repr(list(value) if isinstance(value, tuple) else value).replace("'", '"')
    if isinstance(value, dict) and syntax == "yaml":
        return f"{{{', '.join(f'{key}: {_written(each, syntax)}' for key, each in value.items())}}}"
    if isinstance(value, str) and syntax == "yaml" and re.fullmatch(r"[A-Za-z][\w./-]*", value):
        return value
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _line(text: str, number: int) -> str:
    return text.split("\n")[number - 1]


def _end_of(text: str, number: int) -> int:
    """Return the position where the next line begins."""
    return min(len(text), sum(len(line) + 1 for line in text.split("\n")[:number]))
