"""Options that several commands share, and the only functions that print a report."""

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from weighbridge.base.errors import CODES
from weighbridge.base.sentences import sentence
from weighbridge.base.units import SHOWN
from weighbridge.faces.cli.completion import gpu_names
from weighbridge.faces.render import RENDERERS

if TYPE_CHECKING:
    from weighbridge.faces.view.records import RenderOptions, Screen
    from weighbridge.files.oom.record import Oom
    from weighbridge.memory.report import Report
    from weighbridge.memory.report.fit import Fit
    from weighbridge.memory.report.together import Services

F = TypeVar("F", bound=Callable[..., Any])
ASCII = str.maketrans(dict.fromkeys("┌┐└┘├┤┬┴┼", "+") | {"─": "-", "│": "|", "·": "-"})
CHINESE = "显存"
WIDTH = 80  # columns of a screen without a terminal
FORMS = ("auto", "human", "json", "markdown", "quiet")  # output forms of every command
SCREENS = ("auto", *RENDERERS)  # output forms of commands that print a screen


def _add_options(command: F, options: list[Callable[[F], F]]) -> F:
    for option in reversed(options):
        command = option(command)
    return command


def once(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> str | None:
    """Return the value of an option, None if it was not typed. Raises UsageError if it was typed
    more than once."""
    if len(values) > 1:
        flag, joined = option.opts[0], ", ".join(values)
        line = sentence("option.twice", flag=flag, count=len(values), values=joined)
        raise click.UsageError(line, ctx)
    return values[0] if values else None


ONCE: Mapping[str, Any] = {"multiple": True, "callback": once}


def gathered(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> Any:
    """Return the values of a repeatable option: None without one, the value itself for one, a tuple
    for several."""
    return values if len(values) > 1 else values[0] if values else None


EACH: Mapping[str, Any] = {"multiple": True, "callback": gathered}


def joined(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> str | None:
    """Return the lists of a repeatable option, joined by commas; None without one."""
    return ",".join(values) if values else None


JOINED: Mapping[str, Any] = {"multiple": True, "callback": joined}


def talk(text: str) -> None:
    """Print a line that is not part of the answer, on stderr."""
    click.echo(text, err=True)


def switch(*names: str, **settings: Any) -> Callable[[F], F]:
    """Return a decorator that adds an option without a value, on or off; `settings` are click's."""
    return click.option(*names, is_flag=True, **settings)


def published_option(command: F) -> F:
    return switch(
        "--as-published",
        help="Ask about the weights as they are published alone: no other format answers then.",
    )(command)


def source_options(command: F) -> F:
    """Add the options for where a model comes from: revision, token, cache, offline, remote
    code."""
    trust = switch(
        "--trust-remote-code",
        help="Let a library run the repository's code. Never needed for our tables.",
    )
    return distrusting_source_options(trust(command))


def distrusting_source_options(command: F) -> F:
    """Add the options for where a model comes from, without the one that runs the repository's
    code."""
    return _add_options(
        command,
        [
            click.option("--revision", metavar="REV", help="Branch, tag or commit on the Hub."),
            click.option(
                "--token",
                metavar="TOKEN",
                help="Hub token. It lands in the shell's history: prefer HF_TOKEN or a login.",
            ),
            click.option("--cache-dir", type=click.Path(), help="The Hub cache to read and fill."),
            switch("--offline", help="Use nothing but the Hub cache."),
        ],
    )


def device_options(command: F) -> F:
    """Add the options for the devices and memory that the verdict is about, and --check."""
    return _add_options(
        command,
        [
            click.option(
                "--gpu",
                metavar="NAME[:COUNT]",
                shell_complete=gpu_names,
                **EACH,
                help="Say whether it fits: 4090, a100-80gb:8, '2x RTX 4090', '4090+3090', "
                "p5.48xlarge, local (what is here)...",
            ),
            click.option(
                "--gpu-memory",
                metavar="SIZE",
                **ONCE,
                help="What a process can have of that device, or of any: 24GiB. With local: total, "
                "as if nobody else used it; default free.",
            ),
            click.option(
                "--headroom",
                metavar="SIZE",
                help="What is to stay free on each device: 1GiB or 10%. Default: nothing.",
            ),
            click.option(
                "--ram",
                metavar="SIZE",
                **ONCE,
                help="Host memory that processes can have: 64GiB, or local. Default: stated, not "
                "judged.",
            ),
            click.option(
                "--platform",
                type=click.Choice(("linux", "windows")),
                help="System of the machine: Windows moves to RAM what a card has no room for, and "
                "the run goes on, slowly. Default: linux, or this machine's with --gpu local.",
            ),
            switch("--check", help="Exit with 1 if it does not fit, 4 if we cannot say."),
        ],
    )


def judges(settings: Mapping[str, Any], *, check: bool) -> None:
    """Check that --check has a device or a memory size to compare with; raise UsageError if not."""
    if check and all(settings[name] is None for name in ("gpu", "gpu_memory", "ram")):
        raise click.UsageError(sentence("check.no_card"))


def exit_code(report: "Report", *, check: bool) -> int:
    """Return 0, or with --check the code of the report's verdict, that of "unknown" without one. A
    question not fully understood also returns its code."""
    judged = check or "not_understood" in report.workload
    return CODES[report.fits] if judged else 0


def model_option(command: F) -> F:
    """Add --model, which names the model of a run file that does not."""
    help_text = "The model of a run FILE that does not name it."
    return click.option("--model", metavar="MODEL", help=help_text)(command)


def output_options(command: F) -> F:
    """Add the options for how an answer is printed: unit, details, language and format."""
    return _add_options(
        command,
        [
            click.option("--unit", type=click.Choice(SHOWN), help="One unit for all sizes."),
            switch("--details", help="All components, levels, phases and formats."),
            switch("--explain", help="Show each number's arithmetic."),
            click.option(
                "--lang",
                type=click.Choice(["en", "zh"]),
                help="Language of the screen. Default: of LANG on a terminal, or of a pasted text; "
                "else en.",
            ),
            click.option(
                "--format", "form", type=click.Choice(SCREENS), default="auto", show_default=True
            ),
            switch("--json", "as_json", help="Same as --format json."),
            switch("-q", "--quiet", help="One number: the peak in bytes."),
        ],
    )


def in_a_word(command: click.Command) -> None:
    """Change a command's help text of -q: it prints one word, the verdict."""
    option = next(one for one in command.params if one.name == "quiet")
    assert isinstance(option, click.Option)
    option.help = "One word: whether it fits."


def language_option(command: F) -> F:
    """Add --lang, for a command that has no other options of a screen."""
    choices = click.Choice(["en", "zh"])
    return click.option("--lang", type=choices, help="Default: that of LANG.")(command)


def chart_option(command: F) -> F:
    """Add --chart, which draws the answer into a file."""
    option = click.option(
        "--chart",
        metavar="FILE",
        type=click.Path(),
        help="Draw the answer too: FILE ends in .svg, .png or .html.",
    )
    return option(command)


def tasks_option(command: F) -> F:
    """Add --chart-of, which chooses what the chart of a script's run shows."""
    option = click.option(
        "--chart-of",
        type=click.Choice(["memory", "tasks"]),
        default="memory",
        help="What --chart draws: memory, or loading, training and inference as three bars.",
    )
    return option(command)


def chart_file(settings: dict[str, Any]) -> str | None:
    """Take --chart out of `settings` and return its file as an absolute path, None without one.
    Raises an error if it cannot be written."""
    path: str | None = settings.pop("chart")
    if path is None:
        return None
    from weighbridge.faces.cli.files import checked

    return checked(path)


def draw_reports(path: str | None, reports: "Sequence[Report]", look: "RenderOptions") -> None:
    """Draw one report, or several side by side, into the file `path`; nothing if `path` is None."""
    if path is not None:
        from weighbridge.faces.cli import files

        files.reports(path, reports, unit=look.unit, lang=look.lang)


def output_form(form: str, *, as_json: bool, quiet: bool) -> str:
    if as_json and form not in ("auto", "json"):
        raise click.UsageError(sentence("form.two", form=form))
    if as_json:
        return "json"
    if quiet:
        return "quiet"
    return "human" if form == "auto" else form


def look_of(settings: dict[str, Any], form: str) -> "RenderOptions":
    """Take the options of the screen (unit, details, explain, lang) out of `settings` and return
    how to draw it."""
    look = screen_look(form)
    return look._replace(
        unit=settings.pop("unit"),
        details=settings.pop("details"),
        explain=settings.pop("explain"),
        lang=in_signs(settings.pop("lang") or look.lang),
    )


def screen_look(form: str) -> "RenderOptions":
    """Return how to draw on stdout: language, width in columns, color, and plain ASCII if it has no
    box characters."""
    from weighbridge.faces.view.records import RenderOptions

    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return RenderOptions(
        lang=language(),
        width=columns(),
        color=sys.stdout.isatty() and not plain,
        plain=form == "human" and not _has_signs(),
    )


def show(report: "Report", form: str, look: "RenderOptions") -> None:
    """Print a report on stdout, and its warnings on stderr if the form does not include them."""
    from weighbridge.faces.render import DATA, draw, render

    if form in DATA:
        click.echo(writable(render(report, form)), nl=False)
        if form not in WHOLE:
            warn(report, look.lang)
        return
    from weighbridge.faces.view import screen

    page = screen(
        report, lang=look.lang, unit=look.unit, details=look.details, explain=look.explain
    )
    print_text(draw(page, form, look), look)
    if form not in WHOLE:
        warn(page, look.lang)


def verdicts(reports: "Sequence[Report]", *, check: bool) -> int:
    """Return the worst exit code of several reports: 1 (does not fit) before 4 (unknown) before
    0."""
    codes = {exit_code(report, check=check) for report in reports}
    return next(code for code in (1, 4, 0) if code in codes)


def beside(
    answers: "Sequence[Any]", labels: "Sequence[str]", form: str, look: "RenderOptions"
) -> None:
    """Print several answers side by side on stdout, and each distinct warning once on stderr."""
    from weighbridge.faces.render import beside as render

    print_text(render(answers, labels, form, look), look)
    if form not in WHOLE:
        for line in dict.fromkeys(line for answer in answers for line in answer.warnings):
            warn_line(line, look.lang)


def source_of(settings: dict[str, Any]) -> dict[str, Any]:
    """Take the options for where a model comes from out of `settings` and return them by name."""
    return {name: settings.pop(name) for name in SOURCE if name in settings}


SOURCE = ("revision", "token", "cache_dir", "offline", "trust_remote_code")
LEAST_SIGNS = 8  # Chinese characters that make a text Chinese (assumed)
WHOLE = ("json", "markdown", "html")  # forms of output that include the warnings


def language() -> str:
    """Return the language of the terminal, "zh" or "en"; "en" if stdout is no terminal."""
    named = (os.environ.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    first = next(filter(None, named), "")
    return in_signs("zh" if sys.stdout.isatty() and first.lower().startswith("zh") else "en")


def language_of(text: str, least: int = LEAST_SIGNS) -> str:
    """Return the language to answer a pasted text in, "zh" or "en": "zh" if the text is Chinese and
    the environment names no other language, else the terminal's. `least`: the text needs more
    Chinese characters than this."""
    named = (os.environ.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    first = next(filter(None, named), "").lower()
    free = first.startswith("zh") or first.partition(".")[0] in ("", "c", "posix")
    return in_signs("zh") if free and _is_chinese(text, least) else language()


def _is_chinese(text: str, least: int) -> bool:
    """Return whether a text has more than `least` Chinese characters, and at least as many as Latin
    words."""
    signs = len(re.findall(r"[\u4e00-\u9fff]", text))
    return signs > least and signs >= len(re.findall(r"[A-Za-z]{2,}", text))


def in_signs(lang: str) -> str:
    """Return `lang`, or "en" if stdout cannot encode Chinese characters."""
    return lang if lang == "en" or _can_write(CHINESE) else "en"


def _can_write(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _has_signs() -> bool:
    """Return whether stdout can encode the special characters of a screen; a Windows console may
    not."""
    from weighbridge.faces.render.terminal import SIGNS

    return _can_write(SIGNS)


def columns() -> int:
    """Return the terminal's width in columns; 80 if unknown. It avoids shutil, whose import is
    slow."""
    named = os.environ.get("COLUMNS", "")
    if named.isdecimal() and int(named):
        return int(named)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or WIDTH  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):
        return WIDTH


def warn(report: "Report | Fit | Services | Screen | Oom", lang: str = "en") -> None:
    """Print the warnings of an answer on stderr, in the language `lang`."""
    for line in report.warnings:
        warn_line(line, lang)


def warn_line(line: str, lang: str = "en") -> None:
    """Print one warning on stderr, in the language `lang`."""
    from weighbridge.base.wording import printable, redacted
    from weighbridge.base.words import words_in

    words = words_in(lang, "errors")
    warning = words("warning", message=redacted(words.told(line)))
    talk(printable(warning))


def print_text(text: str, look: "RenderOptions") -> None:
    """Print a drawn screen on stdout."""
    click.echo(writable(text), nl=False, color=look.color)


def print_json(body: Any) -> None:
    """Print a JSON document on stdout."""
    from weighbridge.faces.render.data import json_text

    click.echo(json_text(body), nl=False)


def writable(text: str) -> str:
    """Return `text` in characters that stdout can encode; boxes become ASCII, other characters
    "?"."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(ASCII).encode(encoding, "replace").decode(encoding)
    return text
