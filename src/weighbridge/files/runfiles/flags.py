"""Flags of a launch line, changed where they stand: in a script, in YAML's text, its lists or its
keys."""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.records import replace
from weighbridge.engines.launch import parse
from weighbridge.files.runfiles.record import PlannedRun
from weighbridge.files.runfiles.serving.charts import changed
from weighbridge.memory.report.verdict import Remedy


def settings_of(command: str) -> Mapping[str, Any]:
    """Return the settings in a launch line; {} if it cannot be parsed."""
    try:
        return dict(parse(command).settings)
    except UsageError:
        return {}


def asks_for(command: str, before: str, remedy: Remedy) -> bool:
    """Return whether `command` means `before` plus a remedy's flags, as the engine parses both.
    False if the engine lacks a flag for a change."""
    meant = settings_of(f"{before.rstrip()} {remedy.flags}")
    known = meant.keys() | settings_of(before).keys()
    return settings_of(command) == meant != {} and remedy.change.keys() <= known


def asking(command: str, model: str, settings: Mapping[str, Any], engine: str) -> str:
    """Return a launch line with flags for `settings`, in its engine's spelling. Settings without a
    flag are left out, and so is a format that the engine does not make itself."""
    from weighbridge.engines.table import record
    from weighbridge.workload.flags import flags

    run, kind = PlannedRun(task="infer", model=model, command=command), record(engine)
    for name, value in settings.items():
        meant = value
        if name == "quantization":
            value = kind.written.get(str(value), value)
            meant = kind.makes(str(value))
        change = flags({name: value}, engine)
        both = _in_text(command, run, list(_pairs(shlex.split(change)))), f"{command} {change}"
        wanted = {**settings_of(run.command), name: meant}
        command = next((way for way in both if _states_exactly(way, wanted)), command)
        run = replace(run, command=command)
    return command


def _states_exactly(command: str, wanted: Mapping[str, Any]) -> bool:
    """Return whether a line states exactly these settings, however values are spelled."""
    asked = settings_of(command)
    return asked.keys() == wanted.keys() and all(
        str(asked[name]) == str(value) for name, value in wanted.items()
    )


def of_copy(run: PlannedRun, remedy: Remedy) -> tuple[str, Remedy] | None:
    """Return (repository, remedy): the one with the model in the remedy's format, if the engine
    cannot make that format, and the remedy's other changes; None otherwise."""
    from weighbridge.engines.table import record
    from weighbridge.workload.flags import flags

    form = remedy.change.get("quantization")
    try:
        launch, judged = parse(run.command), parse(remedy.paste.rpartition("\n")[2])
    except UsageError:
        return None
    if form is None or record(launch.engine).written.get(str(form)) or judged.model == run.model:
        return None
    others = {name: value for name, value in remedy.change.items() if name != "quantization"}
    return judged.model, replace(remedy, change=others, flags=flags(others, launch.engine))


def renamed(text: str, old: str, new: str) -> str:
    """Return a text with the model `old` renamed to `new`, wherever it is a whole word."""
    return re.sub(rf"(?<![\w./-]){re.escape(old)}(?![\w./-])", lambda _: new, text)


def flagged(text: str, run: PlannedRun, flags: str) -> Iterator[str]:
    """Yield the text with changed flags, one way after another: first as a YAML list or keys, then
    as plain text. The caller reads each again to find the right one."""
    try:
        wanted = list(_pairs(shlex.split(flags)))
    except ValueError:
        return
    ways = (_in_items, _in_list, _in_flow, _in_keys, _in_text, _behind_program, changed)
    yield from filter(None, (way(text, run, wanted) for way in ways))


def _pairs(words: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (flag, value); the value of a switch is ""."""
    for word, after in zip(words, [*words[1:], "-"], strict=True):
        if word.startswith("-"):
            name, _, value = word.partition("=")
            yield name, value or ("" if after.startswith("-") else after)


def _in_text(text: str, run: PlannedRun, wanted: list[tuple[str, str]]) -> str:
    """Return the text with flags of a shell line changed; new ones come after the run's model."""
    return _in_line(text, wanted, lambda text: _behind_model(text, run))


def _behind_program(text: str, run: PlannedRun, wanted: list[tuple[str, str]]) -> str:
    """Return the text with flags of a script changed; new ones come after the program's name."""
    try:
        program = r"[ \t]+".join(map(re.escape, parse(run.command).program.split()))
    except UsageError:
        return ""
    launch = re.compile(rf"(?<!\w){program}(?=[ \t\\\n])")

    def behind(text: str) -> int:
        match = launch.search(text)
        return match.end() if match is not None else 0

    return _in_line(text, wanted, behind)


def _in_line(text: str, wanted: list[tuple[str, str]], behind: Callable[[str], int]) -> str:
    """Return the text with flags changed at their places, and new ones inserted at position
    `behind(text)`."""
    for name, value in wanted:
        stands = re.search(
            rf"(?<![\w-]){_spelled(name)}(?:(?:[ \t]+|=)(\"[^\"]*\"|[^\s\"']+))?", text
        )
        if stands is None:
            end = behind(text)
            text = f"{text[:end]} {name}{f' {value}' if value else ''}{text[end:]}" if end else text
        elif value and stands[1] and not stands[1].startswith("-"):
            text = text[: stands.start(1)] + value + text[stands.end(1) :]
    return text


def _behind_model(text: str, run: PlannedRun) -> int:
    """Return where the word that names the model ends; 0 if it is not in the text."""
    words = [word for word in shlex.split(run.command.replace("\\\n", " ")) if run.model in word]
    for named in (*words, run.model):
        place = text.find(named)
        if place >= 0:
            end = re.compile(r"[^\s]*").match(text, place)
            return end.end() if end else 0
    return 0


def _spelled(name: str) -> str:
    return re.escape(name).replace(r"\-", "[-_]") if name.startswith("--") else re.escape(name)


# The model as an item of a YAML list, alone or with its flag
MODEL_ITEM = (
    r"(?m)^([ \t]*)- *[\"']?(--model(?:[-_]path)?=)?{model}[\"']?[ \t]*(?:#[^\n]*)?(?:\n|\Z)"
)
JOINED = r"(?m)^[ \t]*- *[\"']?{flag}=([^\s\"'#]+)"  # a flag and its value as one item


def _in_items(text: str, run: PlannedRun, wanted: list[tuple[str, str]]) -> str:
    """Return the text with flags changed that are items of the YAML list with the model, joined to
    their values or not; "" if there is no such list."""
    model = re.search(MODEL_ITEM.replace("{model}", re.escape(run.model)), text)
    if model is None or not run.model:
        return ""
    start, end = _list_around(text, model.start(), model[1])
    for name, value in wanted:
        part, model_end = text[start:end], model.end() - start
        new = _item(part, model_end, model[1], (name, value), joined=model[2] is not None)
        text, end = text[:start] + new + text[end:], end + len(new) - len(part)
    return text


def _list_around(text: str, place: int, indent: str) -> tuple[int, int]:
    """Return (start, end) of the YAML list that has the item at `place`: lines of its indent, or
    deeper."""
    inner = re.compile(rf"{indent}(?:- |[ \t]+|#)|[ \t]*\n")
    start = place
    while start and inner.match(text, text.rfind("\n", 0, start - 1) + 1):
        start = text.rfind("\n", 0, start - 1) + 1
    end = place
    while end < len(text) and inner.match(text, end):
        end = text.find("\n", end) + 1 or len(text)
    return start, end


def _item(part: str, model_end: int, indent: str, flag: tuple[str, str], *, joined: bool) -> str:
    """Return the items of a YAML list with a flag changed, or inserted at `model_end`."""
    name, value = flag
    whole = re.search(JOINED.replace("{flag}", _spelled(name)), part)
    if whole is not None:
        return part[: whole.start(1)] + value + part[whole.end(1) :] if value else part
    apart = re.search(ITEM.replace("{flag}", _spelled(name)), part)
    item = re.compile(r"[ \t]*- *([^\s#]+)").match(part, apart.end()) if apart else None
    if apart is not None:
        if not value or item is None:
            return part
        return part[: item.start(1)] + _quoted(value) + part[item.end(1) :]
    new = [f"{name}={value}"] if joined and value else [name, *([_quoted(value)] if value else [])]
    break_ = "" if part[:model_end].endswith("\n") else "\n"
    return (
        part[:model_end]
        + break_
        + "".join(f"{indent}- {each}\n" for each in new)
        + part[model_end:]
    )


ITEM = r"(?m)^([ \t]*)- *([\"']?){flag}\2[ \t]*\n"


def _in_list(text: str, run: PlannedRun, wanted: list[tuple[str, str]]) -> str:
    """Return the text with flags changed that are items of a YAML list, one per line; "" if they
    are not."""
    if not re.search(r"(?m)^[ \t]*- *[\"']?--\w", text):
        return ""
    for name, value in wanted:
        stands = re.search(ITEM.replace("{flag}", _spelled(name)), text)
        if stands is not None and value:
            item = re.compile(r"[ \t]*- *(.*)").match(text, stands.end())
            if item is None:
                return ""
            text = f"{text[: item.start(1)]}{_quoted(value)}{text[item.end(1) :]}"
        elif stands is None:
            last = [*re.finditer(r"(?m)^([ \t]*)- *[\"']?--[\w-]+[\"']?[ \t]*\n", text)]
            if not last:
                return ""
            first, indent = last[0], last[0][1]
            new = f"{indent}- {name}\n" + (f"{indent}- {_quoted(value)}\n" if value else "")
            text = text[: first.start()] + new + text[first.start() :]
    return text


FLOW = r"\[(?:[^\[\]\"'\n]|\"[^\"\n]*\"|'[^'\n]*'|\n){1,20000}\]"
WORD = r"([\"']?){word}\1[ \t]*,\s*"  # an item of a flow list, with its comma


def _in_flow(text: str, run: PlannedRun, wanted: list[tuple[str, str]]) -> str:
    """Return the text with flags changed in brackets, ["--model", "x"]; "" if the model is not in
    such a list."""
    lists = (listing for listing in re.finditer(FLOW, text) if "--" in listing[0])
    whole = next((listing for listing in lists if run.model and run.model in listing[0]), None)
    if whole is None:
        return ""
    inside = whole[0]
    for name, value in wanted:
        inside = _in_brackets(inside, name, value)
        if not inside:
            return ""
    return text[: whole.start()] + inside + text[whole.end() :]


def _in_brackets(inside: str, name: str, value: str) -> str:
    """Return a bracketed list with a flag set; "" if the flag's value cannot be parsed."""
    stands = re.search(WORD.replace("{word}", _spelled(name)), inside)
    if stands is None:
        new = "".join(f', "{word}"' for word in (name, value) if word)
        return f"{inside[:-1].rstrip()}{new}]"
    if not value:
        return inside
    item = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'|[^\s,\]]+").match(inside, stands.end())
    return "" if item is None else f'{inside[: item.start()]}"{value}"{inside[item.end() :]}'


def _in_keys(text: str, run: PlannedRun, wanted: list[tuple[str, str]]) -> str:
    """Return the text with flags changed that are keys of a server's config; "" if no key names the
    model."""
    model = re.search(rf"(?m)^model(?:[-_]path)?:[ \t]*[\"']?{re.escape(run.model)}", text)
    if model is None or not run.model:
        return ""
    for name, value in wanted:
        key = re.escape(name.removeprefix("--")).replace(r"\-", "[-_]")
        stands = re.search(rf"(?m)^{key}:[ \t]*([^\s#]+)", text)
        word = value or "true"
        if stands is not None:
            text = text[: stands.start(1)] + word + text[stands.end(1) :]
        else:
            end = text.find("\n", model.start()) + 1 or len(text)
            start = "" if text[end - 1 : end] == "\n" else "\n"
            text = f"{text[:end]}{start}{name.removeprefix('--')}: {word}\n{text[end:]}"
    return text


def _quoted(value: str) -> str:
    return f'"{value}"' if re.fullmatch(r"[\d.]+|true|false|auto", value) else value
