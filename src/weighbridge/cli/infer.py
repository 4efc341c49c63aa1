"""weighbridge infer MODEL"""

from typing import Any

import click

from weighbridge.cli.completion import model_names
from weighbridge.cli.options import (
    chart_option,
    output_options,
    source_options,
)
from weighbridge.cli.questions import Sections, answer, options
from weighbridge.workload import INFER


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
    return answer("infer", models, settings, INFER)


infer.params += options(INFER)
