"""weighbridge train PIPELINE, weighbridge train-image PIPELINE"""

from typing import Any

import click

from weighbridge.faces.cli.completion import model_names
from weighbridge.faces.cli.options import chart_option, output_options, source_options
from weighbridge.faces.cli.questions import Sections, answer, options
from weighbridge.workload import PICTURE_TRAINING


@click.command(cls=Sections)
@click.argument(
    "models", metavar="PIPELINE...", nargs=-1, required=True, shell_complete=model_names
)
@click.option("--check", is_flag=True, help="Exit with 1 if it does not fit, 4 if we cannot say.")
@source_options
@output_options
@chart_option
def train_image(models: tuple[str, ...], **settings: Any) -> int:
    """What training the denoiser of PIPELINE takes on the card, phase by phase.

    PIPELINE is a name (sdxl, flux.1-dev, wan2.1-t2v-14b), a repository, or a folder with a
    model_index.json. `weighbridge train PIPELINE` is the same.

    \b
    weighbridge train-image sdxl --method lora --size 1024x1024 --gpu 3060
    weighbridge train-image flux.1-dev --framework kohya --quantization fp8 --checkpointing full
    weighbridge train-image wan2.1-t2v-14b --framework musubi --blocks-to-swap 20 --gpu 4090
    """
    return answer("picture_training", models, settings, PICTURE_TRAINING)


train_image.params += options(PICTURE_TRAINING)
