"""weighbridge sbatch FILE: whether a Slurm job asks for enough cards and memory."""

from typing import Any

import click

from weighbridge.cli.options import CODES, source_of, source_options, writable
from weighbridge.cli.references import given_text
from weighbridge.errors import UsageError
from weighbridge.wording import printable


@click.command()
@click.argument("file", metavar="FILE|-")
@click.option("--gpu", metavar="NAME", help="The kind of card, where no #SBATCH line names it.")
@click.option("--model", metavar="MODEL", help="The model, where FILE does not name it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON (docs/report.md).")
@source_options
def sbatch(file: str, gpu: str | None, model: str | None, *, as_json: bool, **settings: Any) -> int:
    """Weigh the run of a Slurm script, and say whether --gres and --mem are enough for it.

    Ends with 0 where the job asks for enough, 1 where it does not and 4 where we cannot say.

    \b
    weighbridge sbatch train.sbatch
    weighbridge sbatch serve.sbatch --gpu h100
    """
    from weighbridge import api
    from weighbridge.render.data import json_text
    from weighbridge.runfiles.kinds import text_of
    from weighbridge.runfiles.slurm import advice, asked, told

    text, name = text_of(*given_text(file))
    job = asked(text)
    given: dict[str, Any] = {**job.settings(gpu), **source_of(settings)}
    found = api.weigh(text, name=name, model=model, **given)
    runs = [run.report for run in found.runs if run.report is not None]
    if not runs:
        raise UsageError(f"{name}: {found.runs[0].why}")
    answers = [(report, advice(job, report)) for report in runs]
    if as_json:
        click.echo(json_text(_data(name, job, answers)).rstrip())
    else:
        for report, each in answers:
            click.echo(writable("\n".join(printable(line) for line in told(job, report, each))))
    return max(CODES[each.fits] for _, each in answers)


def _data(name: str, job: Any, answers: list[Any]) -> dict[str, Any]:
    from weighbridge._version import __version__

    return {
        "schema": "weighbridge.sbatch/1",
        "version": __version__,
        "file": name,
        "asked": {
            "cards": job.cards,
            "card": job.card or None,
            "nodes": job.nodes,
            "memory_bytes": job.memory,
        },
        "runs": [
            {
                "fits": each.fits,
                "memory_bytes": each.needed_memory,
                "lines": list(each.lines),
                "report": report.to_dict(),
            }
            for report, each in answers
        ],
    }
