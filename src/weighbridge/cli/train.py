"""weighbridge train MODEL"""

from typing import Any

import click

from weighbridge.cli.completion import model_names
from weighbridge.cli.options import (
    SOURCE,
    beside,
    chart_file,
    chart_option,
    draw_reports,
    exit_code,
    judges,
    look_of,
    output_form,
    output_options,
    show,
    source_of,
    source_options,
    verdicts,
)
from weighbridge.cli.sections import Sections, options
from weighbridge.cli.several import asked, cases
from weighbridge.settings import TRAIN


@click.command(cls=Sections)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, shell_complete=model_names)
@click.option("--check", is_flag=True, help="Exit with 1 if it does not fit, 4 if we cannot say.")
@source_options
@output_options
@chart_option
def train(models: tuple[str, ...], **settings: Any) -> int:
    """What fine-tuning or training MODEL takes on each device, phase by phase.

    MODEL is what `weighbridge load` takes. What is not said is the framework's default, and
    printed.

    \b
    weighbridge train llama-3.1-8b --method lora --lora-r 16 --gpu 4090
    weighbridge train qwen3-0.6b --batch-size 4 --checkpointing full --optimizer adamw_8bit
    weighbridge train llama-3.1-8b --shard fsdp2 --gpu h100:8
    """
    from weighbridge import api
    from weighbridge.cli.progress import progress

    form = output_form(
        settings.pop("form"), as_json=settings.pop("as_json"), quiet=settings.pop("quiet")
    )
    chart, look, check = chart_file(settings), look_of(settings, form), settings.pop("check")
    judges(settings, check=check)
    given = {name: value for name, value in settings.items() if value is not None}
    found = cases(models, {n: v for n, v in given.items() if n not in SOURCE}, TRAIN)
    if len(found) > 1:
        reports = asked(found, source_of(settings), "train", remedies=form == "json")
        beside(reports, [case.label for case in found], form, look)
        draw_reports(chart, reports, look)
        return verdicts(reports, check=check)
    with progress(models[0]) as callback:
        report = api.train(models[0], progress=callback, **given)
    show(report, form, look)
    draw_reports(chart, [report], look)
    return exit_code(report, check=check)


train.params += options(TRAIN)
