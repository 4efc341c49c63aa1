"""weighbridge fit MODEL..."""

from typing import TYPE_CHECKING, Any

import click

from weighbridge.cli.completion import model_names
from weighbridge.cli.options import (
    CODES,
    WHOLE,
    chart_file,
    chart_option,
    look_of,
    output_form,
    output_options,
    source_options,
    warn,
    writable,
)
from weighbridge.cli.sections import Sections, options
from weighbridge.settings import FIT

if TYPE_CHECKING:
    from weighbridge.fitted import Fit
    from weighbridge.render import Look


@click.command(cls=Sections)
@click.argument("model", required=False, shell_complete=model_names)
@click.option(
    "--for",
    "for_",
    type=click.Choice(["load", "infer", "lora", "qlora", "train"]),
    help="The question that the exit code is about. Default: infer.",
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
    help="Solve for the largest that still fits.",
)
@click.option(
    "--smallest",
    type=click.Choice(["gpu", "count", "instance"]),
    help="Solve for the smallest card, number of cards or cloud machine that does.",
)
@click.option("--check", is_flag=True, help="No change here: fit always exits with its verdict.")
@source_options
@output_options
@chart_option
def fit(model: str | None, explain_oom: str | None, **settings: Any) -> int:
    """Does MODEL fit my GPU: loading, inference, LoRA, QLoRA, full training?

    MODEL is what `weighbridge load` takes. Any setting of `infer` and `train` can be given; it
    goes to the questions that have it. The exit code is 0 where it fits, 1 where it does not and 4
    where we cannot say.

    \b
    weighbridge fit llama-3.1-8b --gpu 3060
    weighbridge fit qwen3-30b-a3b --gpu 'm3 max 64gb' --engine llama.cpp
    weighbridge fit llama-3.1-70b --gpu a100-80gb:2 --for qlora && echo "it fits"
    weighbridge fit llama-3.1-8b --explain-oom train.log
    """
    from weighbridge import api
    from weighbridge.cli.progress import progress

    form = output_form(
        settings.pop("form"), as_json=settings.pop("as_json"), quiet=settings.pop("quiet")
    )
    if explain_oom is not None:
        from weighbridge.cli import oom

        return oom.explain(explain_oom, model, settings, form=form)
    if model is None:
        raise click.UsageError("name a MODEL, or a log with --explain-oom FILE")
    chart, look = chart_file(settings), look_of(settings, form)
    settings.pop("check")
    with progress(model) as callback:
        found = api.fit(model, progress=callback, **settings)
    _show(found, form, look)
    if chart is not None:
        from weighbridge.charts.fits import fits
        from weighbridge.cli.chart import draw

        draw(chart, fits(found, unit=look.unit, lang=look.lang))
    return code(found)


def code(found: "Fit") -> int:
    """What the exit code says: of a number that was solved for, whether there is one."""
    if found.solved is None:
        return CODES[found.fits]
    if found.solved.value:
        return CODES["yes"]
    return CODES["unknown" if found.solved.value is None and found.fits != "no" else "no"]


def _show(found: "Fit", form: str, look: "Look") -> None:
    """Data to stdout, warnings to stderr."""
    from weighbridge.render import fit as renderers

    name = "as_json" if form == "json" else form
    own = (look,) if form in ("human", "markdown", "html") else ()
    click.echo(writable(getattr(renderers, name)(found, *own)), nl=False, color=look.color)
    if form not in WHOLE:
        warn(found)


fit.params += options(FIT)
