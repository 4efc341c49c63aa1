"""The command weighbridge FILE|-, which estimates the runs of a run file, a command or a log."""

from typing import TYPE_CHECKING, Any

import click

from weighbridge.base.errors import UsageError, WeighbridgeError
from weighbridge.base.sentences import sentence
from weighbridge.base.units import human
from weighbridge.base.wording import LONGEST, clipped, one_line, printable
from weighbridge.faces.cli.emit import emit, emit_option
from weighbridge.faces.cli.options import (
    SOURCE,
    WHOLE,
    in_a_word,
    language_of,
    look_of,
    model_option,
    output_form,
    output_options,
    print_text,
    source_options,
    switch,
    talk,
    warn,
    writable,
)
from weighbridge.faces.cli.questions import Sections, options, table_of
from weighbridge.faces.cli.references import STDIN, given_text
from weighbridge.faces.cli.saving import BOTH, checked, save_of_file, save_option

WORSE = (0, 1, 4, 3, 2)  # exit codes, the worst last
OTHERWISE = (
    "patch does not take this diff, since it shows a line otherwise than the file has it (a secret "
    "in it, or another encoding than UTF-8): --fix --write makes the change"
)

if TYPE_CHECKING:
    from weighbridge.files.runfiles.patching import FilePatch, Weigh
    from weighbridge.files.runfiles.weighing import WeighedFile


@click.command("FILE", cls=Sections)
@click.argument("files", metavar="FILE|-...", nargs=-1, required=True)
@click.option("--as", "kind", metavar="KIND", help="What FILE is, whatever is in it: axolotl...")
@model_option
@switch("--fix", help="Print the change that makes it fit, as a diff.")
@switch("--write", help="With --fix: make the change in FILE.")
@save_option
@emit_option
@switch("--check", help="Exit with 1 if it does not fit, 4 if we cannot say.")
@source_options
@output_options
def runfile(files: tuple[str, ...], **settings: Any) -> int:
    """Weigh the run that FILE starts: a config, a command or a log that you have (- for stdin).

    What kind of file it is, its content tells. Any setting that is typed wins over the file's own.
    Several files are weighed one after the other; the exit code is that of the worst.

    \b
    weighbridge run.yaml --gpu 4090
    weighbridge run.yaml --gpu 4090 --fix --write
    weighbridge run.yaml --emit llama-factory > other.yaml
    weighbridge configs/*.yaml --gpu 4090 --check
    weighbridge compose.yaml --gpu l40s:2
    weighbridge train.sh --gpu a100-80gb:8 --as trl
    pbpaste | weighbridge -
    """
    if len(files) > 1:
        return _answer_each(files, settings)
    file, kind = files[0], settings.pop("emit")
    if kind and (settings.pop("fix") or settings.pop("write")):
        raise UsageError(sentence("fix.or_emit"))
    if kind and settings.pop("save") is not None:
        raise UsageError(BOTH)
    if kind:
        settings.pop("write", None)
        return emit(kind, None, (), settings, given_text(file))
    return answer(file, settings)


def _answer_each(files: tuple[str, ...], settings: dict[str, Any]) -> int:
    """Estimate several files and return the worst exit code; an error in one file is printed, and
    the next files go on."""
    from weighbridge.base.words import words_in

    if settings.pop("emit") or settings.pop("save") or files.count(STDIN) > 1:
        raise UsageError(sentence("files.one"))
    codes = []
    plain = settings.get("quiet") or settings.get("as_json") or settings.get("form")
    for number, file in enumerate(files):
        click.echo("\n" if number and not plain else "", nl=False)
        try:
            codes.append(answer(file, dict(settings)))
        except WeighbridgeError as error:
            words = words_in(settings.get("lang") or "en", "errors")
            complaint = words("error", message=one_line(words.told(error.sentence)))
            talk(clipped(printable(complaint), LONGEST))
            codes.append(error.code)
    return max(codes, key=WORSE.index)


def answer(file: str, settings: dict[str, Any], *, task: str | None = None) -> int:
    """Estimate the runs of a file, print the answer and return the exit code. `settings`: all
    options of the command; `task`: the task that the file must be about, None for any."""
    from weighbridge.faces import api
    from weighbridge.faces.cli.progress import progress

    form = output_form(
        settings.pop("form"), as_json=settings.pop("as_json"), quiet=settings.pop("quiet")
    )
    path = settings.pop("save", None)
    if path is not None and settings.get("fix"):
        raise UsageError(sentence("fix.or_save"))
    checked(path)
    text, name = given_text(file)
    settings["lang"] = settings["lang"] or _text_language(text, file)
    look, check = look_of(settings, form), settings.pop("check")
    typed = {n: one(n, v) for n, v in settings.items() if n in SOURCE or v not in (None, (), False)}
    fix, write = typed.pop("fix", False), typed.pop("write", False)
    if write and (not fix or file == STDIN):
        raise UsageError(sentence("fix.write"))
    with progress(name or file) as callback:
        weighed = api.weigh(text, name=name, task=task, progress=callback, **typed)
    if fix:

        def weigh(after: str) -> "WeighedFile":
            return api.weigh(after, name=weighed.file.name, task=task, **typed)

        return callback.code(_print_fix(weighed, file, form, write=write, weigh=weigh))
    _print_answer(weighed, form, look, task)
    if path is not None and weighed.answered:
        return callback.code(save_of_file(weighed, path))
    return callback.code(weighed.code(check=check))


def _text_language(text: "str | bytes", file: str) -> str | None:
    """Return the language of a pasted text ("zh" or "en"); None for a file, which gets the
    terminal's."""
    from weighbridge.files.runfiles.fences import without

    pasted = file == STDIN and isinstance(text, str)
    return language_of(without(str(text))) if pasted else None


def _print_fix(
    weighed: "WeighedFile", path: str, form: str, *, write: bool, weigh: "Weigh | None" = None
) -> int:
    """Print the change that makes a file fit as a unified diff, or inside the JSON answer, and
    write it into the file if `write`. Return 0, or 1 without a change."""
    from weighbridge.files.runfiles.patching import patched

    name = printable(weighed.file.name)
    if not weighed.answered:
        raise UsageError(f"{name}: {next(run.why for run in weighed.runs)}")
    if all(run.report is None or run.report.verdict is None for run in weighed.runs):
        raise UsageError(sentence("fix.no_card"))
    patch = patched(weighed, weigh)
    if patch is not None and path != STDIN:
        patch = patch.of(_raw(path, patch.before))
    _show_patch(weighed, patch, form)
    if patch is None:
        talk(_why_no_patch(weighed, name))
        return 1
    if patch.after == patch.before:
        talk(f"{name} fits as it is: nothing is changed")
        return 0
    _print_costs(name, patch)
    if write:
        _write_patch(path, patch)
    elif not patch.applies:
        talk(f"{name}: {OTHERWISE}")
    return 0


def _print_costs(name: str, patch: "FilePatch") -> None:
    """Print the bytes that each changed run takes, and what the change costs."""
    for remedy in patch.remedies:
        peak = human(remedy.peak_bytes)
        talk(f"{name}: it takes about {peak} then; {printable(remedy.cost)}")


def _write_patch(file: str, patch: "FilePatch") -> None:
    """Write a change into its file. Raises UsageError if the file cannot be written or has
    changed."""
    from weighbridge.faces.cli.files import writable as may_be_written
    from weighbridge.faces.cli.files import write

    may_be_written("--write", file)
    _raw(file, patch.before)
    write(file, patch.after.encode(patch.encoding))
    talk(f"{printable(patch.name)} is written")


def _show_patch(weighed: "WeighedFile", patch: "FilePatch | None", form: str) -> None:
    """Print a change as a unified diff, or inside the JSON answer, where `patch` is "" if the file
    fits unchanged and null without a change."""
    from weighbridge.faces.render.data import json_text

    diff = None if patch is None else patch.diff
    if form == "json":
        click.echo(writable(json_text({**weighed.to_dict(), "patch": diff})), nl=False)
    elif diff:
        click.echo(writable(diff), nl=False)


def _why_no_patch(weighed: "WeighedFile", name: str) -> str:
    """Return a message on why no patch makes the file fit."""
    from weighbridge.files.runfiles.patching import shared_value, unsaid

    shared = shared_value(weighed)
    if shared is None:
        change = unsaid(weighed)
        if change is None:
            return f"{name}: no patch: no change was found that surely fits"
        flags, other = printable(change.flags), printable(change.other)
        more = f"; {other} can be, and may fit" if other else ""
        return (
            f"{name}: no patch: {flags} fits, and cannot be written into this file: "
            f"{change.why}{more}"
        )
    line, value = shared
    return (
        f"{name}:{line}: no patch: YAML's aliases share this value ({printable(value)}), so that "
        "it cannot change alone; write the value itself in each place"
    )


def _raw(file: str, before: str) -> bytes:
    """Return the bytes of a file whose text was `before` when it was read. Raises UsageError if the
    text has changed."""
    from weighbridge.base.cost import MOST
    from weighbridge.files.runfiles.document import decoded

    with open(file, "rb") as opened:
        raw = opened.read(MOST + 1)
    if decoded(raw, file) != before.removeprefix("\ufeff").replace("\r\n", "\n"):
        raise UsageError(sentence("fix.changed", name=printable(file)))
    return raw


def one(name: str, value: Any) -> Any:
    """Return the only value of a setting, None for an empty tuple. Raises UsageError for several,
    as a file is one question."""
    if not isinstance(value, tuple):
        return value
    if len(value) > 1:
        raise UsageError(sentence("file.one_run", flag=name.replace("_", "-")))
    return value[0] if value else None


def _print_answer(weighed: "WeighedFile", form: str, look: Any, task: str | None) -> None:
    """Print the answer about a file. With -q that is its verdict in one word or, with `task`, the
    peak bytes of each run."""
    from weighbridge.faces.render import DATA, draw, render
    from weighbridge.faces.render.data import json_text
    from weighbridge.faces.texts.runfile import view

    if form in DATA:
        reports = [run.report for run in weighed.runs]
        peaks = "".join("unknown\n" if r is None else render(r, "quiet") for r in reports)
        quiet = f"{weighed.fits}\n" if task is None else peaks
        shown = json_text(weighed.to_dict()) if form == "json" else quiet
        click.echo(writable(shown), nl=False)
        return
    page = view(weighed, look)
    print_text(draw(page, form, look), look)
    if form not in WHOLE:
        warn(page, look.lang)


in_a_word(runfile)
runfile.params += options(table_of("FILE"))
