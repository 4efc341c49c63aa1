"""weighbridge infer MODEL"""

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
from weighbridge.settings import INFER


@click.command(cls=Sections)
@click.argument("models", metavar="MODEL...", nargs=-1, shell_complete=model_names)
@click.option("--command", metavar="LINE", help="The engine's own command: 'vllm serve ...'.")
@click.option("--check", is_flag=True, help="Exit with 1 if it does not fit, 4 if we cannot say.")
@source_options
@output_options
@chart_option
def infer(models: tuple[str, ...], **settings: Any) -> int:
    """What serving MODEL takes, per device and phase, by the rules of one engine.

    MODEL is what `weighbridge load` takes. Only the flags of the engine that is asked about are
    accepted; what is not said is the engine's default, and printed.

    \b
    weighbridge infer llama-3.1-8b --context 32K --gpu 4090
    weighbridge infer qwen3-30b-a3b --engine vllm -tp 2 --gpu h100:2
    weighbridge infer ./model.gguf --engine llama.cpp --n-gpu-layers 20
    weighbridge infer --command 'vllm serve org/name --max-model-len 32k' --gpu a100-80gb
    """
    from weighbridge import api
    from weighbridge.cli.progress import progress

    form = output_form(
        settings.pop("form"), as_json=settings.pop("as_json"), quiet=settings.pop("quiet")
    )
    chart, look, check = chart_file(settings), look_of(settings, form), settings.pop("check")
    judges(settings, check=check)
    given = {name: value for name, value in settings.items() if value is not None}
    found = cases(models, {n: v for n, v in given.items() if n not in SOURCE}, INFER)
    if len(found) > 1:
        reports = asked(found, source_of(settings), "infer", remedies=form == "json")
        beside(reports, [case.label for case in found], form, look)
        draw_reports(chart, reports, look)
        return verdicts(reports, check=check)
    model = models[0] if models else None
    with progress(model or "the model") as callback:
        report = api.infer(model, progress=callback, **given)
    show(report, form, look)
    draw_reports(chart, [report], look)
    return exit_code(report, check=check)


infer.params += options(INFER)
