"""weighbridge image PIPELINE, weighbridge video PIPELINE, weighbridge train-image PIPELINE"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from weighbridge.base.sentences import sentence
from weighbridge.faces.cli.completion import model_names
from weighbridge.faces.cli.options import (
    ONCE,
    chart_file,
    chart_option,
    look_of,
    output_form,
    output_options,
    published_option,
    source_options,
    switch,
    talk,
)
from weighbridge.faces.cli.questions import Sections, answer, options
from weighbridge.workload import PICTURE, PICTURE_TRAINING

if TYPE_CHECKING:
    from weighbridge.workload import Table

Asked = Callable[..., int]


def _pipeline_command(settings: "Table") -> Callable[[Asked], click.Command]:
    """Return a decorator that makes a function a command about pipelines, with `settings` among its
    options."""

    def of(function: Asked) -> click.Command:
        named = click.argument(
            "models", metavar="PIPELINE...", nargs=-1, required=True, shell_complete=model_names
        )
        check = switch("--check", help="Exit with 1 if it does not fit, 4 if we cannot say.")
        shown = named(check(source_options(output_options(chart_option(function)))))
        command = click.command(cls=Sections)(shown)
        command.params += options(settings)
        return command

    return of


@_pipeline_command(PICTURE)
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
    _note_other_kind("image", models)
    return answer("image", models, settings, PICTURE)


def _note_other_kind(kind: str, models: tuple[str, ...]) -> None:
    """Print a note for each pipeline that does not make `kind` (image or video), with the command
    to use; the answer does not change."""
    from weighbridge.models.catalogue import pipelines

    for model in models:
        pipeline = pipelines.find(model) or pipelines.of_repository(model)
        if pipeline is not None and pipeline.recipe.get("kind") not in (None, kind):
            other = pipeline.recipe["kind"]
            note = sentence("picture.other_kind", name=pipeline.name, kind=other, command=kind)
            talk(note)


@_pipeline_command(PICTURE)
@click.option(
    "--smallest", type=click.Choice(["gpu"]), **ONCE, help="Solve for the smallest card that does."
)
@published_option
def fit_image(models: tuple[str, ...], smallest: str | None, **settings: Any) -> int:
    """Can I make pictures or video with PIPELINE on my GPU, and how?

    The exit code is that of the first line: 0 for yes, in whichever format and with whichever
    offloading it names, 1 for no and 4 where we cannot say.

    \b
    weighbridge fit flux.1-dev --gpu 3060 --ram 32GiB
    weighbridge fit wan2.2-t2v-a14b --smallest gpu
    """
    return _fit(models, {**settings, "smallest": smallest}, PICTURE)


@_pipeline_command(PICTURE_TRAINING)
@click.option(
    "--for", "for_", type=click.Choice(["lora", "train"]), **ONCE, help="What is trained."
)
@published_option
def fit_train_image(models: tuple[str, ...], **settings: Any) -> int:
    """Can I train PIPELINE on my GPU, and how?

    The exit code is that of the first line: 0 for yes, with whichever settings it names, 1 for no
    and 4 where we cannot say.

    \b
    weighbridge fit flux.1-dev --for lora --gpu 3090
    weighbridge fit sdxl --for train --gpu 4090
    """
    return _fit(models, settings, PICTURE_TRAINING)


def _fit(models: tuple[str, ...], settings: dict[str, Any], table: "Table") -> int:
    """Print whether pipelines fit the cards that the user named, and return the exit code. `table`:
    the settings of the question."""
    from weighbridge.faces.cli import fit  # few users need it for pipelines

    form = output_form(
        settings.pop("form"), as_json=settings.pop("as_json"), quiet=settings.pop("quiet")
    )
    chart, look = chart_file(settings), look_of(settings, form)
    settings.pop("check")
    typed = {name: value for name, value in settings.items() if value is not None}
    return fit.answer(models, typed, table, form, look, chart)


@_pipeline_command(PICTURE)
def video(models: tuple[str, ...], **settings: Any) -> int:
    """What making video with PIPELINE takes, stage by stage.

    \b
    weighbridge video wan2.2-t2v-a14b --size 720p --seconds 5 --gpu 4090
    weighbridge video ltx-video --frames 161 --offload model --gpu 3060
    weighbridge video hunyuan-video --vae-tiling --quantization Q4_K_M --gpu 4090 --ram 64GiB
    """
    _note_other_kind("video", models)
    return answer("image", models, settings, PICTURE)


@_pipeline_command(PICTURE_TRAINING)
def train_image(models: tuple[str, ...], **settings: Any) -> int:
    """What training the denoiser of PIPELINE takes on the card, phase by phase.

    PIPELINE is a name (sdxl, flux.1-dev, wan2.1-t2v-14b), a repository, or a folder with a
    model_index.json. `weighbridge train PIPELINE` is the same.

    \b
    weighbridge train-image sdxl --method lora --size 1024x1024 --gpu 3060
    weighbridge train-image flux.1-dev --framework kohya --quantization fp8 --checkpointing full
    weighbridge train-image wan2.1-t2v-14b --framework musubi --blocks-to-swap 20 --gpu 4090
    """
    return answer("train_image", models, settings, PICTURE_TRAINING)
