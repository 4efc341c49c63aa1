"""weighbridge train MODEL"""

from typing import Any

import click

from weighbridge.cli.completion import model_names
from weighbridge.cli.options import (
    chart_option,
    output_options,
    source_options,
)
from weighbridge.cli.questions import Sections, answer, options
from weighbridge.workload import TRAIN


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
    return answer("train", models, settings, TRAIN)


train.params += options(TRAIN)
