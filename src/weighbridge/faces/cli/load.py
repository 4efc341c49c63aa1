"""weighbridge load MODEL"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from weighbridge.base.errors import WeighbridgeError
from weighbridge.base.sentences import sentence
from weighbridge.faces.cli.completion import format_names, model_names
from weighbridge.faces.cli.options import (
    SOURCE,
    chart_file,
    chart_option,
    device_options,
    in_signs,
    language,
    output_options,
    source_options,
    switch,
)
from weighbridge.faces.cli.questions import answer, cases
from weighbridge.workload import INFER, LOAD, TRAIN

if TYPE_CHECKING:
    from weighbridge.answers.questions.prepared import Prepared
    from weighbridge.memory.report import Report


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, shell_complete=model_names)
@click.option("--dtype", metavar="DTYPE", help="Load in this dtype: bfloat16, float16, float32...")
@click.option(
    "--quantization",
    metavar="FORMAT",
    shell_complete=format_names,
    help="Load in this format: nf4, gptq-4bit-g128, Q4_K_M...",
)
@click.option("--engine-version", metavar="V", help="Version of transformers that loads (4.40).")
@click.option(
    "--device-map", type=click.Choice(["auto", "cuda"]), help="Load straight to the device."
)
@switch("--base-model", help="The headless class, without lm_head.")
@device_options
@source_options
@output_options
@chart_option
@click.option(
    "--chart-of",
    type=click.Choice(["memory", "quality", "tasks"]),
    default="memory",
    help="What --chart draws: memory; published losses of quality against size; or loading, "
    "training and inference as three bars.",
)
def load(models: tuple[str, ...], chart_of: str, **settings: Any) -> int:
    """What the weights of MODEL take in each format, and what loading them allocates.

    MODEL is a catalogue name, a Hub id (org/name, org/name@revision, org/name:Q4_K_M), a URL,
    a folder, or a .safetensors, .gguf, .bin or config.json file.

    \b
    weighbridge load llama-3.1-70b --explain
    weighbridge load Qwen/Qwen3-8B --quantization nf4
    weighbridge load llama-3.1-70b --gpu '2x RTX 4090' --check
    weighbridge load llama-3.1-8b --chart quality.svg --chart-of quality
    weighbridge load llama-7b llama-13b llama-30b llama-65b --chart q.svg --chart-of quality
    weighbridge load gpt2 --chart bars.svg --chart-of tasks
    weighbridge load ./config.json --json | jq .model.parameters
    """
    if chart_of == "quality":
        _draw_quality(models, settings)
    if chart_of == "tasks":
        _draw_tasks(models, settings)
    return answer("load", models, settings, LOAD)


def _draw_quality(models: tuple[str, ...], settings: dict[str, Any]) -> None:
    """Draw the chart of quality before the answer is printed; it raises an error if no figure is
    published. Sets `chart` in `settings` to None."""
    from weighbridge.faces import api
    from weighbridge.faces.charts.quality import beside, figure
    from weighbridge.faces.cli.files import draw

    chart, settings["chart"] = chart_file(settings), None
    if chart is None:
        raise click.UsageError(sentence("chart.quality"))
    origin = {name: settings[name] for name in SOURCE}
    lang = in_signs(settings["lang"] or language())
    loads = [api.prepare(model, **origin).load for model in dict.fromkeys(models)]
    drawn = beside(loads, settings, lang) if len(loads) > 1 else figure(loads[0], settings, lang)
    draw(chart, drawn)


def _draw_tasks(models: tuple[str, ...], settings: dict[str, Any]) -> None:
    """Draw the chart of loading, training and inference before the answer is printed. Sets `chart`
    in `settings` to None."""
    from weighbridge.faces import api
    from weighbridge.faces.charts.tasks import tasks
    from weighbridge.faces.cli.files import draw

    chart, settings["chart"] = chart_file(settings), None
    if chart is None:
        raise click.UsageError(sentence("chart.tasks"))
    origin = {name: settings[name] for name in SOURCE}
    typed = {n: v for n, v in settings.items() if v is not None and n in LOAD}
    first, *others = cases(models, typed, LOAD)
    if others:
        raise click.UsageError(sentence("chart.tasks_one"))
    known, refused = answers(api.prepare(first.model, **origin), first.settings)
    lang = in_signs(settings["lang"] or language())
    draw(chart, tasks(known, refused, unit=settings["unit"], lang=lang))


METHODS = {"train": "full", "qlora": "qlora", "lora": "lora"}  # question -> method, in order


def answers(
    model: "Prepared", settings: Mapping[str, Any]
) -> "tuple[dict[str, Report], dict[str, str]]":
    """Return reports by question (load, infer, and train, lora or qlora), and the reasons by
    question of those refused. If full training is refused, adapters are tried. Raises
    WeighbridgeError if the model cannot be loaded."""
    known = {"load": model.load(remedies=False, **settings)}
    refused: dict[str, str] = {}
    trains = {n: v for n, v in settings.items() if n in TRAIN}
    for name, method in METHODS.items():
        try:
            known[name] = model.train(remedies=False, method=method, **trains)
        except WeighbridgeError as error:
            refused.setdefault("train", error.line)
        else:
            refused.clear()
            break
    serves = {n: v for n, v in settings.items() if n in INFER}
    if "engine_version" in serves:
        serves["engine"] = "transformers"
    try:
        known["infer"] = model.infer(remedies=False, **serves)
    except WeighbridgeError as error:
        refused["infer"] = error.line
    return known, refused
