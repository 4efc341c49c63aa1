"""The option --save FILE, which writes the script that runs the estimated training."""

import os
from typing import TYPE_CHECKING

import click

from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import printable
from weighbridge.faces.cli.options import talk

if TYPE_CHECKING:
    from weighbridge.files.runfiles.weighing import WeighedFile
    from weighbridge.memory.report import Report

BOTH = "--save and --emit write two files; leave one of them out"
FILE = "train.py"  # the file name that generated scripts contain
save_option = click.option(
    "--save",
    metavar="FILE",
    type=click.Path(),
    help="Write the script that trains it so, which runs as it is: train.py.",
)


def checked(path: str | None) -> None:
    """Check that a script can be written to `path`; raise UsageError if not."""
    from weighbridge.faces.cli.files import writable

    writable("--save", path)


def save(report: "Report", path: str) -> int:
    """Write the training script of a report to `path`, and print on stderr how to start it. Return
    the exit code: 0; 1 if the run does not fit, 2 if no script can express it."""
    from weighbridge.faces.cli.files import write
    from weighbridge.faces.view.scripts import is_script, start

    script = report.derived.get("launch")
    if script:
        named = script.replace(FILE, os.path.basename(path))
        write(path, named.encode())
        begins = start(named) if is_script(named) else f"bash {os.path.basename(path)}"
        talk(f"{path} is written; start it with: {begins}")
        return 0
    usable = (r.flags for r in report.remedies if r.fits == "yes" and r.paste)
    flags = next(usable, "")
    why = report.derived.get("launch_note") or "what was asked does not fit"
    what = f"; with {flags} it does" if flags else ""
    talk(f"error: {path} is not written: {printable(why + what)}")
    return 2 if report.derived.get("launch_note") else 1


def save_of_file(weighed: "WeighedFile", path: str) -> int:
    """Write the training script of a run file's only training to `path`, and return the exit code
    of `save`. Raises UsageError if the file starts no training, or several."""
    reports = [run.report for run in weighed.runs if run.run.task == "train" and run.report]
    if len(reports) > 1:
        raise UsageError(sentence("save", count=len(reports)))
    if not reports:
        raise UsageError(sentence("save.none", name=weighed.file.name))
    return save(reports[0], path)
