"""weighbridge image PIPELINE, weighbridge video PIPELINE"""

from typing import Any

import click

from weighbridge.faces.cli.completion import model_names
from weighbridge.faces.cli.options import chart_option, output_options, source_options
from weighbridge.faces.cli.questions import Sections, answer, options
from weighbridge.workload import PICTURE


@click.command(cls=Sections)
@click.argument(
    "models", metavar="PIPELINE...", nargs=-1, required=True, shell_complete=model_names
)
@click.option("--check", is_flag=True, help="Exit with 1 if it does not fit, 4 if we cannot say.")
@source_options
@output_options
@chart_option
def image(models: tuple[str, ...], **settings: Any) -> int:
    """What making pictures with PIPELINE takes, stage by stage.

    PIPELINE is a name (flux.1-dev, sdxl, qwen-image), a repository, or a folder with a
    model_index.json. What is not said is the pipeline's own default.

    \b
    weighbridge image flux.1-dev --gpu 3060
    weighbridge image sdxl --size 1024x1024 --batch-size 4 --gpu 4060
    weighbridge image flux.1-dev --offload model --quantization Q6_K --gpu 3060 --ram 32GiB
    weighbridge image ./my-pipeline --vae-tiling
    """
    return answer("picture", models, settings, PICTURE)


@click.command(cls=Sections)
@click.argument(
    "models", metavar="PIPELINE...", nargs=-1, required=True, shell_complete=model_names
)
@click.option("--check", is_flag=True, help="Exit with 1 if it does not fit, 4 if we cannot say.")
@source_options
@output_options
@chart_option
def video(models: tuple[str, ...], **settings: Any) -> int:
    """What making video with PIPELINE takes, stage by stage.

    \b
    weighbridge video wan2.2-t2v-a14b --size 720p --seconds 5 --gpu 4090
    weighbridge video ltx-video --frames 161 --offload model --gpu 3060
    weighbridge video hunyuan-video --vae-tiling --quantization Q4_K_M --gpu 4090 --ram 64GiB
    """
    return answer("picture", models, settings, PICTURE)


image.params += options(PICTURE)
video.params += options(PICTURE)
