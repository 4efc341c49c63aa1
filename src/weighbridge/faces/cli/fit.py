"""weighbridge fit MODEL..."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weighbridge.base.errors import CODES
from weighbridge.base.sentences import sentence
from weighbridge.faces.cli.completion import model_names
from weighbridge.faces.cli.options import (
    ONCE,
    SOURCE,
    WHOLE,
    beside,
    chart_file,
    chart_option,
    draw_reports,
    in_a_word,
    look_of,
    model_option,
    output_form,
    output_options,
    print_text,
    published_option,
    source_of,
    source_options,
    switch,
    talk,
    warn,
)
from weighbridge.faces.cli.questions import Sections, asked, cases, options
from weighbridge.faces.cli.references import of_file
from weighbridge.faces.render.data import json_text
from weighbridge.workload import FIT
from weighbridge.workload.train import LEARNS

if TYPE_CHECKING:
    from weighbridge.answers.questions.prepared import Prepared
    from weighbridge.faces.view.records import RenderOptions
    from weighbridge.files.oom import Oom
    from weighbridge.memory.report.fit import Fit, Ranking
    from weighbridge.workload import Table

ANY = "7B"  # the model for --max model-size, which searches the size
_NOT_OURS = """
for_ max smallest as_published check all_gpus all_catalogue layouts output chart
"""
NOT_OURS = tuple(_NOT_OURS.split())


@click.command(cls=Sections)
@click.argument("models", metavar="MODEL...", nargs=-1, shell_complete=model_names)
@click.option(
    "--for",
    "for_",
    type=click.Choice(["load", "infer", "lora", "qlora", "train", *LEARNS]),
    metavar="load|infer|lora|qlora|train|grpo|dpo|...",
    **ONCE,
    help="The question that the exit code is about. Default: infer. A method of rewards or "
    "preferences is asked beside the others.",
)
@click.option(
    "--explain-oom",
    metavar="FILE|-",
    help="Say why memory ran out, from the message or log in FILE, and what to change. "
    "With or without MODEL.",
)
@click.option(
    "--max",
    type=click.Choice(["context", "batch", "users", "lora-r", "seq-len", "model-size"]),
    **ONCE,
    help="Solve for the largest that still fits.",
)
@click.option(
    "--smallest",
    type=click.Choice(["gpu", "count", "instance"]),
    **ONCE,
    help="Solve for the smallest card, number of cards or cloud machine that does.",
)
@published_option
@switch("--all-gpus", help="Rank every card of the catalogue for MODEL.")
@switch("--all-catalogue", help="Rank every model of the catalogue for the card.")
@switch(
    "--layouts",
    help="Rank the ways to share its training out over --gpu h100:64, by Megatron or by another "
    "--framework; with --for infer those of serving it, and with --engine llama.cpp those of "
    "placing it over cards and host memory.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="With --all-gpus, --all-catalogue or --layouts: write the rank to FILE.csv, .json or "
    ".parquet.",
)
@switch("--check", help="Changes nothing: the exit code of fit is always its first line.")
@model_option
@source_options
@output_options
@chart_option
def fit(models: tuple[str, ...], explain_oom: str | None, **settings: Any) -> int:
    """Does MODEL fit my GPU: loading, inference, LoRA, QLoRA, full training?

    MODEL is what `weighbridge load` takes. Any setting of `infer` and `train` can be given; it
    goes to the questions that have it. The exit code is that of the first line: 0 for yes, in
    whichever format it names, 1 for no and 4 where we cannot say.

    \b
    weighbridge fit llama-3.1-8b --gpu 3060
    weighbridge fit qwen3-30b-a3b --gpu 'm3 max 64gb' --engine llama.cpp
    weighbridge fit llama-3.1-8b qwen3-8b --gpu 3060 --gpu 4090
    weighbridge fit llama-3.1-8b --gpu 4090 --max context
    weighbridge fit llama-3.1-8b --all-gpus --for qlora
    weighbridge fit llama-3.1-70b --gpu a100-80gb:2 --for qlora && echo "it fits"
    weighbridge fit llama-3.1-8b --explain-oom train.log
    """
    form = output_form(
        settings.pop("form"), as_json=settings.pop("as_json"), quiet=settings.pop("quiet")
    )
    if explain_oom is not None:
        if len(models) > 1:
            raise click.UsageError(sentence("oom.one_model"))
        look = look_of(settings, form)
        return explain(explain_oom, models[0] if models else None, settings, form, look)
    if of_file(models, settings):
        from weighbridge.faces.cli.runfile import answer as weigh

        shown = {"form": form, "as_json": False, "quiet": False, "check": True}
        return weigh(models[0], {**settings, **shown})
    chart, look = chart_file(settings), look_of(settings, form)
    settings.pop("check")
    output = settings.pop("output")
    rank = _typed_ranking(settings)
    if rank is not None:
        named = models if rank is _rank_catalogue else _named_models(models, settings)
        return rank(named, settings, form, look, output, chart)
    models = _named_models(models, settings)
    if output is not None:
        raise click.UsageError(sentence("output.of_ranks"))
    return answer(models, settings, FIT, form, look, chart)


def answer(
    models: tuple[str, ...],
    settings: dict[str, Any],
    table: "Table",
    form: str,
    look: "RenderOptions",
    chart: str | None,
) -> int:
    """Print and draw the answers about models, or about one model in several cases; return the exit
    code. `table`: the settings of the question."""
    answers, stopped = _ask_and_print(models, settings, table, form, look)
    if chart is not None:
        _draw(chart, answers, look)
    return stopped or worst(answers)


def _named_models(models: tuple[str, ...], settings: dict[str, Any]) -> tuple[str, ...]:
    """Return the models that the user named, or one bare size for --max model-size. Raises
    UsageError if none is named."""
    if not models and settings["max"] == "model-size":
        return (ANY,)
    if not models:
        raise click.UsageError(sentence("name_model"))
    return models


def _draw(chart: str, answers: list["Fit"], look: "RenderOptions") -> None:
    """Draw the questions of a single answer, or for several answers the question of --for, into the
    file `chart`."""
    if len(answers) > 1:
        known = [a.report for a in answers if a.report is not None]
        return draw_reports(chart if known else None, known, look)
    from weighbridge.faces.charts.fits import fits
    from weighbridge.faces.cli.files import draw

    return draw(chart, fits(answers[0], unit=look.unit, lang=look.lang))


def _ask_and_print(
    models: tuple[str, ...],
    settings: dict[str, Any],
    table: "Table",
    form: str,
    look: "RenderOptions",
) -> tuple[list["Fit"], int]:
    """Ask about one model, or several cases side by side, and print the answers. Return them and an
    exit code: that of a search the user stopped, else 0."""
    questions = cases(models, {n: v for n, v in settings.items() if n not in SOURCE}, table)
    if len(questions) > 1:
        answers = asked(questions, source_of(settings), "fit")
        beside(answers, [case.label for case in questions], form, look)
        return answers, 0
    from weighbridge.faces import api
    from weighbridge.faces.cli.progress import progress

    with progress(models[0]) as callback:
        found = api.fit(models[0], progress=callback, **settings)
    _show(found, form, look)
    return [found], callback.code(0)


def _rank_gpus(
    models: tuple[str, ...],
    settings: dict[str, Any],
    form: str,
    look: "RenderOptions",
    output: str | None,
    chart: str | None,
) -> int:
    """Rank every card of the catalogue for one model, print the ranking, and return the exit
    code."""
    _refuse_chart(chart)
    if len(models) > 1:
        raise click.UsageError(sentence("gpus.one_model"))
    return _rank(models[0], settings, form, look, output, lambda found: found.gpus(**settings))


def _rank_layouts(
    models: tuple[str, ...],
    settings: dict[str, Any],
    form: str,
    look: "RenderOptions",
    output: str | None,
    chart: str | None,
) -> int:
    """Rank the layouts of a training run or a server over cards, print them, draw those that fit,
    and return the exit code."""
    if len(models) > 1:
        raise click.UsageError(sentence("layouts.one_model"))
    about = settings.pop("for_") or ("infer" if settings.get("engine") else "train")
    if about not in ("train", "infer"):
        raise click.UsageError(sentence("layouts.for"))
    if settings["max"] or settings["smallest"]:
        raise click.UsageError(sentence("layouts.apart"))
    asked = {
        n: v for n, v in settings.items() if n not in (*SOURCE, "max", "smallest", "as_published")
    }
    asked = {n: v[0] if isinstance(v, tuple) and len(v) == 1 else v for n, v in asked.items()}
    asked = {n: v for n, v in asked.items() if v != ()}
    several = next((n for n, v in asked.items() if isinstance(v, tuple)), None)
    if several is not None:
        raise click.UsageError(sentence("layouts.one", flag=several.replace("_", "-")))
    every = look.details

    def ask(prepared: "Prepared") -> "Ranking":
        ranking = prepared.layouts(for_=about, every=every, **asked)
        if chart is not None and not ranking.fitting:
            talk(f"{chart}: no layout fits, so there is no picture")
        elif chart is not None:
            from weighbridge.faces.charts.layouts import layouts
            from weighbridge.faces.cli.files import draw

            draw(chart, layouts(ranking, every=every, unit=look.unit, lang=look.lang))
        return ranking

    return _rank(models[0], settings, form, look, output, ask)


def _rank(
    model: str,
    settings: dict[str, Any],
    form: str,
    look: "RenderOptions",
    output: str | None,
    ask: "Callable[[Prepared], Ranking]",
) -> int:
    """Open a model, print the ranking that `ask` returns for it, and return the exit code."""
    from weighbridge.faces import api
    from weighbridge.faces.cli.models import told
    from weighbridge.faces.cli.progress import progress

    with progress(model) as callback:
        ranking = ask(api.prepare(model, progress=callback, **source_of(settings)))
    told(ranking, form, look, output)
    return callback.code(CODES[ranking.fits])


def _rank_catalogue(
    models: tuple[str, ...],
    settings: dict[str, Any],
    form: str,
    look: "RenderOptions",
    output: str | None,
    chart: str | None,
) -> int:
    """Rank every model of the catalogue for one card as `weighbridge models --gpu` does, print the
    ranking, and return the exit code."""
    _refuse_chart(chart)
    if models:
        raise click.UsageError(sentence("catalogue.no_model"))
    from weighbridge.faces.cli.models import ranked
    from weighbridge.models import catalogue

    typed = {n: v for n, v in settings.items() if n not in SOURCE and v is not None}
    ranking, stopped = ranked((catalogue.names(), []), typed, form, look, output)
    return stopped or CODES["yes" if ranking.fitting else "no"]


RANKS: Mapping[str, Callable[..., int]] = {
    "all_gpus": _rank_gpus,
    "all_catalogue": _rank_catalogue,
    "layouts": _rank_layouts,
}


def _typed_ranking(settings: dict[str, Any]) -> Callable[..., int] | None:
    """Return the function for the ranking flag that the user typed (--all-gpus, --all-catalogue,
    --layouts); None without one. Raises UsageError for two."""
    ranks = [rank for name, rank in RANKS.items() if settings.pop(name)]
    if len(ranks) > 1:
        raise click.UsageError(sentence("ranks.apart"))
    return ranks[0] if ranks else None


def _refuse_chart(chart: str | None) -> None:
    if chart is not None:
        raise click.UsageError(sentence("chart.of_few"))


def worst(answers: list["Fit"]) -> int:
    """Return the worst exit code of several answers: 1 (does not fit) before 4 (unknown) before
    0."""
    codes = {code(answer) for answer in answers}
    return next(n for n in (1, 4, 0) if n in codes)


def code(answer: "Fit") -> int:
    """Return the exit code of an answer: its verdict, or with --max or --smallest whether a value
    was found."""
    if answer.solved is None or answer.workload.get("not_understood"):
        return CODES[answer.fits]
    if answer.solved.value:
        return CODES["yes"]
    return CODES["unknown" if answer.solved.value is None and answer.fits != "no" else "no"]


def _show(answer: "Fit", form: str, look: "RenderOptions") -> None:
    """Print an answer of `fit` on stdout, and its warnings on stderr if the form does not include
    them."""
    from weighbridge.faces.render import render

    print_text(render(answer, form, look), look)
    if form not in WHOLE:
        warn(answer, look.lang)


in_a_word(fit)
fit.params += options(FIT)


# `weighbridge fit [MODEL] --explain-oom FILE|-`: why memory ran out, and what to change


def explain(
    path: str, model: str | None, settings: Mapping[str, Any], form: str, look: "RenderOptions"
) -> int:
    """Print why memory ran out, from the log at `path` or on stdin for "-". Return the exit code:
    0, or 130 after Ctrl-C."""
    from weighbridge.faces.api import explain_oom
    from weighbridge.faces.cli.progress import progress

    if settings.get("chart") is not None:
        raise click.UsageError(sentence("chart.of_estimate"))
    log = _read_log(path)
    with progress(model or "the log") as callback:
        oom = explain_oom(log, model, progress=callback, **_run_settings(settings))
    print_text(_render_oom(oom, form, look), look)
    if form not in WHOLE:
        warn(oom, look.lang)
    return callback.code(0)


def _run_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the run: those of `infer` and `train` that the user typed, and the
    task or method of --for. Raises UsageError for repeated values."""
    typed = {k: v for k, v in settings.items() if v is not None and v is not False and v != ()}
    known = {name: value for name, value in typed.items() if name not in NOT_OURS}
    for name, value in known.items():
        if isinstance(value, tuple):
            if len(value) > 1:
                raise click.UsageError(sentence("oom.one_run", flag=name))
            known[name] = value[0]
    about = settings.get("for_")
    if about:
        from weighbridge.memory.report.fit import question_of

        task, method = question_of(about)
        known.setdefault("method", method) if method else known.update(task=task)
    return known


def _read_log(path: str) -> "bytes | Path":
    from weighbridge.files.oom.text import MOST

    if path != "-":
        return Path(path)
    if sys.stdin.isatty():
        talk("paste the message, then Ctrl-D")
    return sys.stdin.buffer.read(MOST + 1)


def _render_oom(answer: "Oom", form: str, look: "RenderOptions") -> str:
    if form == "json":
        return json_text(answer.to_dict())
    if form == "quiet":
        return f"{answer.cause or 'unknown'}\n"
    from weighbridge.faces.render import draw as draw_screen
    from weighbridge.faces.texts.oom import view

    return draw_screen(view(answer, look), form, look)
