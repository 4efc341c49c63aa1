"""weighbridge infer MODEL"""

from typing import Any

import click

from weighbridge.base.errors import CODES, UsageError
from weighbridge.base.sentences import sentence
from weighbridge.faces.cli.completion import model_names
from weighbridge.faces.cli.emit import emit, emit_option
from weighbridge.faces.cli.options import (
    WHOLE,
    chart_option,
    look_of,
    model_option,
    output_form,
    output_options,
    print_text,
    source_options,
    switch,
    warn,
)
from weighbridge.faces.cli.questions import Sections, answer, options
from weighbridge.faces.cli.references import ALONE, given_file, of_file
from weighbridge.workload import INFER


@click.command(cls=Sections)
@click.argument("models", metavar="MODEL...", nargs=-1, shell_complete=model_names)
@click.option("--command", metavar="LINE", help="The engine's own command: 'vllm serve ...'.")
@switch("--check", help="Exit with 1 if it does not fit, 4 if we cannot say.")
@switch("--together", help="All MODELs at once on the same cards.")
@emit_option
@model_option
@source_options
@output_options
@chart_option
def infer(models: tuple[str, ...], **settings: Any) -> int:
    """What serving MODEL takes, per device and phase, by the rules of one engine.

    MODEL is what `weighbridge load` takes, or a run file that names one. Only the flags of the
    engine that is asked about are accepted; what is not said is the engine's default, and printed.

    \b
    weighbridge infer llama-3.1-8b --context 32K --gpu 4090
    weighbridge infer qwen3-30b-a3b --engine vllm -tp 2 --gpu h100:2
    weighbridge infer ./model.gguf --engine llama.cpp --n-gpu-layers 20
    weighbridge infer qwen3-8b --gpu l40s:2 --emit compose > compose.yaml
    weighbridge infer qwen3:14b bge-m3 --together --gpu 3060
    weighbridge infer --command 'vllm serve org/name --max-model-len 32k' --gpu a100-80gb
    """
    kind, together = settings.pop("emit"), settings.pop("together")
    if kind and together:
        raise UsageError(sentence("together.emit"))
    if kind:
        return emit(kind, "infer", models, settings, given_file(models, settings))
    filed = not together and settings["command"] is None and of_file(models, settings)
    if not filed and settings.pop("model", None) is not None:
        raise UsageError(ALONE)
    if together:
        return _together(models, settings)
    if filed:
        from weighbridge.faces.cli.runfile import answer as weigh

        return weigh(models[0], settings, task="infer")
    return answer("infer", models, settings, INFER)


def _together(models: tuple[str, ...], settings: dict[str, Any]) -> int:
    """Print whether several models fit the same cards at the same time, and return the exit
    code."""
    from weighbridge.faces import api
    from weighbridge.faces.cli.progress import progress
    from weighbridge.faces.render import render

    form = output_form(
        settings.pop("form"), as_json=settings.pop("as_json"), quiet=settings.pop("quiet")
    )
    look, check = look_of(settings, form), settings.pop("check")
    if settings.pop("chart", None) or settings.pop("command", None):
        raise UsageError(sentence("together.alone"))
    typed = {name: one(value) for name, value in settings.items() if value not in (None, ())}
    with progress("the models") as callback:
        services = api.together(models, progress=callback, **typed)
    print_text(render(services, form, look), look)
    if form not in WHOLE:
        warn(services, look.lang)
    return CODES[services.fits] if check else 0


def one(value: Any) -> Any:
    """Return the only value of a setting. Raises UsageError if its option was given several
    times."""
    if not isinstance(value, tuple):
        return value
    if len(value) > 1:
        raise UsageError(sentence("together.one"))
    return value[0]


infer.params += options(INFER)
