"""Questions of the command line, asked and answered: one, or one for each of several models, cards
or values of a setting.

    --gpu 3060 --gpu 4090     --batch-size 1,2,4,8     --quantization nf4,Q4_K_M

A comma is part of a value if the setting is a list (--lora-targets q_proj,v_proj) or a size in two
numbers (--image-size). In --gpu it is part of the value if a piece names no card: a100,8 is eight
cards.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise, product, takewhile
from typing import TYPE_CHECKING, Any

import click

from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.faces.cli.completion import COMPLETED
from weighbridge.faces.cli.options import (
    EACH,
    JOINED,
    ONCE,
    SOURCE,
    beside,
    chart_file,
    draw_reports,
    exit_code,
    judges,
    look_of,
    output_form,
    show,
    source_of,
    verdicts,
)
from weighbridge.settings.kinds import IMAGE
from weighbridge.workload import COMMON, FIT, MOST_BESIDE, TABLES, engines_of, named_task

if TYPE_CHECKING:
    from weighbridge.memory.report import Report
    from weighbridge.settings.setting import Setting
    from weighbridge.workload import Table

NUMBERS = re.compile(r"[\d\s,]*")  # "1024,768" is one size, "1024x768,512x512" are two
LISTS = ("A,B...", "WxH")  # placeholders of kinds whose values contain commas
PATHS = ("draft_model", "mmproj", "model")  # settings with file names, which may contain a comma
DEVICE = ("gpu", "gpu_memory", "ram")
# Options that may be repeated, or that raise an error if they are
REPEATED: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(DEVICE, ONCE),
    "gpu": EACH,
    "override_tensor": JOINED,
}


class LabelledQuestion(NamedTuple):
    """One of several questions on one model, with a label of the values in which it differs."""

    model: str | None
    settings: Mapping[str, Any]
    label: str


def answer(
    task: str,
    models: Sequence[str],
    settings: dict[str, Any],
    table: "Table",
    then: "Callable[[Report], int] | None" = None,
) -> int:
    """Ask `load`, `infer` or `train` about models, print the answers and return the exit code.
    `settings`: all options of the command; `table`: the settings of the task. `then` is called with
    the report, of which there must be one, and returns another exit code or 0."""
    from weighbridge.faces import api
    from weighbridge.faces.cli.progress import progress

    form = output_form(
        settings.pop("form"), as_json=settings.pop("as_json"), quiet=settings.pop("quiet")
    )
    chart, look, check = chart_file(settings), look_of(settings, form), settings.pop("check")
    judges(settings, check=check)
    typed = {name: value for name, value in settings.items() if value is not None}
    questions = cases(models, {n: v for n, v in typed.items() if n not in SOURCE}, table)
    if len(questions) > 1 and then is not None:
        raise UsageError(sentence("save", count=len(questions)))
    if len(questions) > 1:
        reports = asked(questions, source_of(settings), task, remedies=form == "json")
        beside(reports, [case.label for case in questions], form, look)
        draw_reports(chart, reports, look)
        return verdicts(reports, check=check)
    model = models[0] if models else None
    with progress(model or "the model") as callback:
        report = getattr(api, task)(model, progress=callback, **typed)
    show(report, form, look)
    draw_reports(chart, [report], look)
    code = 0 if then is None else then(report)
    return callback.code(code or exit_code(report, check=check))


def cases(
    models: Sequence[str], settings: Mapping[str, Any], table: "Table"
) -> list[LabelledQuestion]:
    """Return one question for each combination of models and values. Raises UsageError if there are
    too many to show side by side."""
    values = {name: list(_split_values(name, typed, table)) for name, typed in settings.items()}
    many = {name: choices for name, choices in values.items() if len(choices) > 1}
    named: list[str | None] = [*dict.fromkeys(models)] or [None]
    count = len(named)
    for choices in many.values():
        count *= len(choices)
    if count > MOST_BESIDE:
        names = ", ".join(_flag(name) for name in many) or "models"
        raise UsageError(sentence("beside.many", count=count, most=MOST_BESIDE, names=names))
    alone = {name: choices[0] for name, choices in values.items() if len(choices) == 1}
    if count == 1:
        return [LabelledQuestion(named[0], alone, "")]
    from weighbridge.faces.view.beside import column_head

    return [
        LabelledQuestion(
            model, {**alone, **chosen}, column_head(model if len(named) > 1 else None, chosen)
        )
        for model in named
        for chosen in (dict(zip(many, picked, strict=True)) for picked in product(*many.values()))
    ]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _split_values(name: str, typed: Any, table: "Table") -> Iterator[Any]:
    """Yield the values that the user gave for the setting `name`; a text with commas may be
    several."""
    for each in typed if isinstance(typed, tuple) else (typed,):
        if not isinstance(each, str) or "," not in each or name not in table:
            yield each
        elif name == "gpu":
            yield from _split_cards(each)
        elif table[name].kind is IMAGE and not NUMBERS.fullmatch(each):
            yield from _split_at_commas(name, each)
        elif table[name].kind.metavar in LISTS or name in PATHS or _is_single_value(name, each):
            yield each
        else:
            yield from _split_at_commas(name, each)


def _is_single_value(name: str, text: str) -> bool:
    """Return whether a text with commas is one value: the formats of a pipeline's components, as in
    `a=nf4,b=fp8`."""
    return name == "quantization" and "=" in text


def _split_at_commas(name: str, text: str) -> list[str]:
    pieces = [piece.strip() for piece in text.split(",")]
    if not all(pieces):
        raise UsageError(sentence("value.empty"), where=f"{_flag(name)} {text!r:.80}")
    return pieces


def _split_cards(text: str) -> list[str]:
    """Return the cards of a list with commas; the whole text as one entry if a piece names no
    card."""
    from weighbridge.base.errors import WeighbridgeError
    from weighbridge.machines.accelerators.names import find

    pieces = _split_at_commas("gpu", text)
    try:
        for piece in pieces:
            find(piece)
    except WeighbridgeError:
        return [text]
    return pieces


def asked(
    questions: Sequence[LabelledQuestion], source: Mapping[str, Any], task: str, **options: Any
) -> list[Any]:
    """Return the answer to each question, in order; each model is read once. `options` are passed
    to the method `task` of `Prepared`."""
    from weighbridge.faces import api
    from weighbridge.faces.cli.progress import progress

    prepared: dict[str | None, Any] = {}
    answers = []
    for case in questions:
        typed = {name: value for name, value in case.settings.items() if value is not None}
        with progress(case.model or "the model", keeps=False) as callback:
            if "command" in typed:  # a launch command may name the model
                answers.append(api.infer(case.model, progress=callback, **source, **typed))
                continue
            if case.model not in prepared:
                prepared[case.model] = api.prepare(case.model, progress=callback, **source)
            answers.append(getattr(prepared[case.model], task)(**options, **typed))
    return answers


# Commands whose options are the settings of a table, listed in sections


FEW = 25  # most settings that the help lists without --help-all
NUMBER = re.compile(r"\d+(?:\.\d+)?[kKmM]?")  # a number, not a model's size, which ends in B
EVERY = "weighbridge.every"  # key in click's context: True if help lists all settings
TYPED = "weighbridge.typed"  # key in click's context: the arguments of the command


class Sections(click.Command):
    """A click command whose help lists settings in sections. It shows those of the typed engine,
    else the common ones and those of the typed method; all of them with --help-all."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[TYPED] = list(args)
        stray = next(_spread_values(args, TABLES.get(self.name or "", FIT)), None)
        if stray is not None:
            flag, values = stray
            apart, joined = " ".join(values), ",".join(values)
            line = sentence("values_apart", flag=flag, apart=apart, model=values[1], joined=joined)
            raise UsageError(line)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        table = table_of(self.name or "")
        listed = _listed_settings(self.name or "", ctx)
        named: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            line = option.get_help_record(ctx)
            if line is None or not isinstance(option, click.Option):
                continue
            setting = table.get(option.name or "")
            if setting is None or setting.name in listed:
                named.setdefault(setting.section if setting else "Options", []).append(line)
        for title, lines in named.items():
            with formatter.section(title):
                formatter.write_dl(lines)
        left = len(table) - len(listed)
        if left:
            hint = "; --engine NAME --help shows those of one engine" if "engine" in table else ""
            formatter.write_paragraph()
            formatter.write_text(f"{left} more settings: --help-all shows them{hint}.")


def _spread_values(args: Sequence[str], table: "Table") -> Iterator[tuple[str, list[str]]]:
    """Yield (option, values) for options followed by several numbers with blanks between, of which
    click would take all but the first for models."""
    flags = {flag: one for one in table.values() for flag in (one.flag, *one.flags)}
    for index, word in enumerate(args):
        setting = flags.get(word)
        values = list(takewhile(NUMBER.fullmatch, args[index + 1 :]))
        if setting is not None and setting.kind.metavar and len(values) > 1:
            yield word, values


def _print_full_help(ctx: click.Context, option: click.Parameter, asked_for: bool) -> None:
    if asked_for and not ctx.resilient_parsing:
        ctx.meta[EVERY] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


def _listed_settings(task: str, ctx: click.Context) -> set[str]:
    """Return the names of the settings that the help of a task lists."""
    table, common = table_of(task), COMMON.get(task) or set().union(*COMMON.values())
    if ctx.meta.get(EVERY) or len(table) <= FEW:
        return set(table)
    typed = ctx.meta.get(TYPED, ())
    engine = _typed_engine(typed)
    if "engine" not in table or not engine:
        from weighbridge.workload.train import LEARNS, REWARDS, RoleSettings, RolloutSettings

        method, own = _typed_value(typed, "--method"), (RoleSettings.TITLE, RolloutSettings.TITLE)
        sections = own if method in REWARDS else own[:1] if method in LEARNS else ()
        return {name for name in table if name in common or table[name].section in sections}
    return {name for name, one in table.items() if engine in (engines_of(one) or (engine,))}


def _typed_value(typed: Sequence[str], flag: str) -> str:
    """Return the value typed for the option `flag`; "" if it was not typed."""
    words = [each for word in typed for each in word.split("=", 1)]
    return next((b for a, b in pairwise(words) if a == flag), "")


def _typed_engine(typed: Sequence[str]) -> str:
    """Return the name of the engine typed for --engine; "" if none was typed or it is unknown."""
    from weighbridge.engines.table import ENGINES, engine

    named = _typed_value(typed, "--engine")
    try:
        return engine(named).name if named else ""
    except UsageError:
        return named if named in ENGINES else ""


def table_of(task: str) -> "Table":
    """Return the settings of a task by name; those of all tasks for a run file, which may hold
    any."""
    if named_task(task) in TABLES:
        return TABLES[named_task(task)]
    return {**TABLES["image"], **TABLES["infer"], **TABLES["train"], **FIT}


def options(table: "Table") -> Iterator[click.Option]:
    """Yield one click option per setting of `table`, and --help-all if the help leaves some out."""
    for setting in table.values():
        yield _click_option(setting)
    if len(table) > FEW:
        yield click.Option(
            ["--help-all"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_full_help,
            help="Show all settings, and exit.",
        )


class SettingOption(click.Option):
    """A click option for a setting; its help text is built only when it is shown."""

    def __init__(self, setting: "Setting[Any]", names: list[str], **facts: Any) -> None:
        self.setting = setting
        super().__init__(names, **facts)

    help = property(lambda self: self.setting.help, lambda *_: None)


def _click_option(setting: "Setting[Any]") -> click.Option:
    if setting.kind.metavar:
        metavar = "|".join(setting.choices) or setting.kind.metavar
        alone = REPEATED.get(setting.name, {})
        known: dict[str, Any] = {}
        if setting.name in COMPLETED:
            known["shell_complete"] = COMPLETED[setting.name]
        names = [setting.name, setting.flag, *setting.flags]
        return SettingOption(setting, names, metavar=metavar, **alone, **known)
    plain = (
        f"{setting.flag}/--no-{setting.flag[2:]}"
        if not setting.flag.startswith("--no-")
        else setting.flag
    )
    names = [setting.name, plain, *setting.flags]
    return SettingOption(setting, names, is_flag=True, default=None)
