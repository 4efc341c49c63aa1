"""The command weighbridge sbatch FILE: whether a Slurm job asks for enough cards and memory."""

from typing import TYPE_CHECKING, Any

import click

from weighbridge.base.errors import CODES, UsageError
from weighbridge.base.sentences import Sentence, sentence
from weighbridge.base.wording import printable
from weighbridge.faces.cli.options import (
    model_option,
    source_of,
    source_options,
    switch,
    talk,
    writable,
)
from weighbridge.faces.cli.references import given_text

if TYPE_CHECKING:
    from weighbridge.files.runfiles.slurm import SlurmAdvice, SlurmJob
    from weighbridge.files.runfiles.weighing import WeighedFile


@click.command()
@click.argument("file", metavar="FILE|-")
@click.option("--gpu", metavar="NAME", help="The kind of card, where no #SBATCH line names it.")
@model_option
@switch("--json", "as_json", help="Print JSON (docs/report.md).")
@source_options
def sbatch(file: str, gpu: str | None, model: str | None, *, as_json: bool, **settings: Any) -> int:
    """Weigh the run of a Slurm script, and say whether --gres and --mem are enough for it.

    Ends with 0 where the job asks for enough, 1 where it does not and 4 where we cannot say.

    \b
    weighbridge sbatch train.sbatch
    weighbridge sbatch serve.sbatch --gpu h100
    """
    from weighbridge.faces import api
    from weighbridge.faces.render.data import json_text
    from weighbridge.files.runfiles.kinds import text_of
    from weighbridge.files.runfiles.slurm import advice, asked, lines_of

    source, called = given_text(file)
    text, name = text_of(source, called)
    job = asked(text)
    typed = source_of(settings)
    asks: list[dict[str, Any]] = [
        {**job.settings(kind), **typed} for kind in _possible_cards(job, gpu)
    ]
    files = [api.weigh(source, name=called, model=model, **each) for each in asks]
    runs = [run.report for weighed in files for run in weighed.runs if run.report is not None]
    if not runs:
        code, why = files[0].code(check=True), f"{name}: {files[0].runs[0].why}"
        if code == CODES["unknown"]:
            talk(f"cannot say: {printable(why)}")
            return code
        raise UsageError(why)
    answers = [(report, advice(job, report)) for report in runs]
    doubt = _card_doubt(job, gpu)
    same = all([r.fits for r in f.runs] == [r.fits for r in files[0].runs] for f in files)
    alike = same and _has_equal_gres([advice for _, advice in answers], len(files))
    if as_json:
        click.echo(json_text(_json_body(name, job, answers, doubt)).rstrip())
    else:
        shown = answers[: len(files[0].runs)] if alike else answers
        lines = [line for report, each in shown for line in lines_of(job, report, each)]
        if doubt:
            key = "which_card.same" if alike else "which_card"
            lines.insert(len(lines) if alike else 0, sentence(key, **doubt.values))
        lines += _few_card_reasons(files[0], lines)
        click.echo(writable("\n".join(map(printable, lines))))
    return max(CODES[each.fits] for _, each in answers) if same else CODES["unknown"]


def _few_card_reasons(file: "WeighedFile", lines: list[str]) -> list[str]:
    """Return the reasons why the job asks for too few cards for its command, without those already
    in `lines`."""
    from weighbridge.files.runfiles.record import FEW_CARDS

    unread = (each for run in file.runs for each in run.run.unread if each.key == FEW_CARDS)
    return [why for why in dict.fromkeys(each.why for each in unread) if why not in lines]


def _has_equal_gres(jobs: "list[SlurmAdvice]", cards: int) -> bool:
    """Return whether the --gres lines to write are equal for each of the `cards` that the job may
    mean."""
    each = max(1, len(jobs) // cards)
    gres = [[line for line in one.lines if "--gres" in line] for one in jobs]
    return all(gres[i : i + each] == gres[:each] for i in range(0, len(gres), each))


def _possible_cards(job: "SlurmJob", gpu: str | None) -> list[str | None]:
    """Return the cards to judge a job by: every card that its kind may mean. If the kind means one
    card or is missing, that is `gpu`, None to use the job's."""
    from weighbridge.files.runfiles.slurm import could_be, times

    kind = gpu or job.card
    if not kind:
        return [None]  # the job's settings raise the error
    parts = could_be(kind)
    if len(parts) == 1:
        return [gpu]
    count = kind.partition(":")[2]
    return [f"{part.id}:{count}" if count else times(part.id, job.on_all) for part in parts]


def _card_doubt(job: "SlurmJob", gpu: str | None) -> Sentence | None:
    """Return a sentence on the cards that a job's kind may mean; None if it means only one."""
    from weighbridge.files.runfiles.slurm import could_be, several

    kind = gpu or job.card
    parts = could_be(kind)
    return several("which_card.any", kind, parts) if len(parts) > 1 else None


def _json_body(name: str, job: "SlurmJob", answers: list[Any], doubt: str | None) -> dict[str, Any]:
    from weighbridge.base._version import __version__

    return {
        "schema": "weighbridge.sbatch/1",
        "version": __version__,
        "file": name,
        "asked": {
            "cards": job.cards,
            "card": job.card or None,
            "nodes": job.nodes,
            "memory_bytes": job.memory,
            "cores_per_task": job.cores,
            "doubt": doubt,
        },
        "runs": [
            {
                "fits": each.fits,
                "memory_bytes": each.needed_memory,
                "lines": list(each.lines),
                "note": each.note or None,
                "report": report.to_dict(),
            }
            for report, each in answers
        ],
    }
