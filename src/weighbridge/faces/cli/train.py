"""weighbridge train MODEL"""

from typing import Any

import click

from weighbridge.base.errors import UsageError
from weighbridge.faces.cli.completion import model_names
from weighbridge.faces.cli.emit import emit, emit_option
from weighbridge.faces.cli.options import (
    chart_option,
    model_option,
    output_options,
    source_options,
    switch,
)
from weighbridge.faces.cli.questions import Sections, answer, options
from weighbridge.faces.cli.references import given_file, of_file
from weighbridge.faces.cli.saving import BOTH, checked, save, save_option
from weighbridge.workload import TRAIN


@click.command(cls=Sections)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, shell_complete=model_names)
@switch("--check", help="Exit with 1 if it does not fit, 4 if we cannot say.")
@save_option
@emit_option
@model_option
@source_options
@output_options
@chart_option
def train(models: tuple[str, ...], **settings: Any) -> int:
    """What fine-tuning or training MODEL takes on each device, phase by phase.

    MODEL is what `weighbridge load` takes, or a run file that names one. What is not said is the
    framework's default, and printed.

    \b
    weighbridge train llama-3.1-8b --method lora --lora-r 16 --gpu 4090
    weighbridge train qwen3-0.6b --batch-size 4 --checkpointing full --optimizer adamw_8bit
    weighbridge train llama-3.1-8b --shard fsdp2 --gpu h100:8
    weighbridge train llama-3.1-8b --method qlora --gpu 3060 --save train.py
    weighbridge train llama-3.1-8b --method qlora --emit axolotl > run.yaml
    weighbridge train run.yaml --gpu 4090
    """
    path: str | None = settings.pop("save")
    if kind := settings.pop("emit"):
        if path is not None:
            raise UsageError(BOTH)
        return emit(kind, "train", models, settings, given_file(models, settings))
    if of_file(models, settings):
        from weighbridge.faces.cli.runfile import answer as weigh

        return weigh(models[0], {**settings, "save": path}, task="train")
    if path is None:
        return answer("train", models, settings, TRAIN)
    checked(path)
    return answer("train", models, settings, TRAIN, then=lambda report: save(report, path))


train.params += options(TRAIN)
