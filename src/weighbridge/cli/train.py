"""weighbridge train MODEL"""

import os
from typing import TYPE_CHECKING, Any

import click

from weighbridge.cli.completion import model_names
from weighbridge.cli.emit import emit, emit_option
from weighbridge.cli.options import (
    chart_option,
    output_options,
    source_options,
)
from weighbridge.cli.questions import Sections, answer, options
from weighbridge.cli.references import given_file, of_file
from weighbridge.errors import UsageError
from weighbridge.wording import printable
from weighbridge.workload import TRAIN

if TYPE_CHECKING:
    from weighbridge.report import Report

FILE = "train.py"  # as scripts call themselves


@click.command(cls=Sections)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, shell_complete=model_names)
@click.option("--check", is_flag=True, help="Exit with 1 if it does not fit, 4 if we cannot say.")
@click.option(
    "--save",
    metavar="FILE",
    type=click.Path(),
    help="Write the script that trains it so, which runs as it is: train.py.",
)
@emit_option
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
            raise UsageError("--save and --emit write two files; leave one of them out")
        return emit(kind, "train", models, settings, given_file(models))
    if path is None and of_file(models):
        from weighbridge.cli.runfile import answer as weigh

        return weigh(models[0], settings, task="train")
    if path is None:
        return answer("train", models, settings, TRAIN)
    from weighbridge.cli.files import writable

    writable("--save", path)
    return answer("train", models, settings, TRAIN, then=lambda report: _save(report, path))


def _save(report: "Report", path: str) -> int:
    """Write the script of an answer, and say on stderr what starts it. Returns 0, 1 where what was
    asked does not fit and 2 where nothing can write it."""
    from weighbridge.cli.files import write
    from weighbridge.view.scripts import start

    script = report.derived.get("launch")
    if script:
        named = script.replace(FILE, os.path.basename(path))
        write(path, named.encode())
        click.echo(f"{path} is written; start it with: {start(named)}", err=True)
        return 0
    usable = (r.flags for r in report.remedies if r.fits == "yes" and r.paste)
    flags = next(usable, "")
    why = report.derived.get("launch_note") or "what was asked does not fit"
    what = f"; with {flags} it does" if flags else ""
    click.echo(f"error: {path} is not written: {printable(why + what)}", err=True)
    return 2 if report.derived.get("launch_note") else 1


train.params += options(TRAIN)
