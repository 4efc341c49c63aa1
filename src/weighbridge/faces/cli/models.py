"""weighbridge models [PATTERN]"""

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.faces.cli.completion import engine_names, format_names, gpu_names
from weighbridge.faces.cli.options import (
    FORMS,
    in_signs,
    language_option,
    output_form,
    print_json,
    print_text,
    switch,
    talk,
    warn_line,
)
from weighbridge.faces.render.data import json_text
from weighbridge.models.catalogue import pipelines
from weighbridge.models.catalogue.listing import SORTS
from weighbridge.models.catalogue.uses import USES

if TYPE_CHECKING:
    from weighbridge.faces.view.records import RenderOptions
    from weighbridge.memory.report.fit import Ranking
    from weighbridge.models.catalogue import CatalogueEntry
    from weighbridge.models.catalogue.pipelines import CataloguePipeline


@click.command()
@click.argument("pattern", default="")
@click.option("--use", type=click.Choice(USES), help="Only those for it.")
@click.option("--sort", type=click.Choice(SORTS), help="Default: newest year first, in it popular.")
@language_option
@click.option("--format", "form", type=click.Choice(FORMS), default="auto", show_default=True)
@switch("--json", "as_json", help="Same as --format json.")
@switch("-q", "--quiet", help="Names only.")
@click.option(
    "--gpu",
    metavar="NAME[:COUNT]",
    shell_complete=gpu_names,
    help="Rank the models for a card: 4090, local...",
)
@click.option("--gpu-memory", metavar="SIZE", help="What a process can have of it: 24GiB.")
@click.option(
    "--for",
    "for_",
    type=click.Choice(["load", "infer", "lora", "qlora", "train"]),
    help="What it is to fit for. Default: infer.",
)
@click.option(
    "--engine",
    metavar="NAME",
    shell_complete=engine_names,
    help="Engine that serves. Default: what people use with such a card.",
)
@click.option(
    "--quantization",
    metavar="FORMAT",
    shell_complete=format_names,
    help="In this format alone. Default: the best.",
)
@click.option("--min-context", metavar="N", help="With a context of at least so many tokens: 8K.")
@click.option("--not-understood", metavar="WORDS", hidden=True)  # set for a question in words
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write the rank to FILE.csv, .json or .parquet.",
)
def models(
    pattern: str,
    form: str,
    as_json: bool,
    quiet: bool,
    output: str | None,
    lang: str | None,
    **chosen: Any,
) -> int:
    """The built-in catalogue: models that are answered without a network.

    PATTERN is part of a name, of a Hub id or of a model type.

    \b
    weighbridge models qwen3
    weighbridge models --use speech --sort size
    weighbridge models --gpu 4090 --min-context 8K
    weighbridge models --gpu 4090 --for qlora -o can-i-train-it.csv
    weighbridge models --json | jq -r '.models[].name'
    """
    from weighbridge.models.catalogue import to_dict
    from weighbridge.models.catalogue.listing import matching

    entries = matching(pattern, chosen)
    makers = pipelines.search(pattern) if chosen["use"] is None else []
    card = {name: value for name, value in chosen.items() if name not in ("use", "sort")}
    form = output_form(form, as_json=as_json, quiet=quiet)
    if not_understood := chosen.pop("not_understood"):
        from weighbridge.faces.cli.options import language

        words = sentence("rank.not_understood", words=not_understood)
        warn_line(words, in_signs(lang or language()))
    if any(value is not None for value in (output, *card.values())):
        named = [m.name for m in entries], [maker.name for maker in makers]
        return _rank_for_card(named, form, output, card, lang)
    if form == "json":
        print_json(to_dict(entries, makers))
        return 0
    if form == "quiet":
        click.echo("\n".join([*(m.name for m in entries), *(maker.name for maker in makers)]))
    else:
        _print_catalogue(entries, makers, form, lang)
    return 0


def _rank_for_card(
    names: tuple[list[str], list[str]],
    form: str,
    output: str | None,
    card: dict[str, Any],
    lang: str | None,
) -> int:
    """Rank the models for a card, print the ranking or write it to `output`, and return the exit
    code. Raises UsageError without a card."""
    if card["gpu"] is None and card["gpu_memory"] is None:
        raise click.UsageError(sentence("rank_card", how="--gpu 4090, or --gpu local"))
    from weighbridge.faces.cli.options import columns, language
    from weighbridge.faces.view.records import RenderOptions

    look = RenderOptions(lang=in_signs(lang or language()), width=columns())
    return ranked(names, card, form, look, output)[1]


def ranked(
    names: tuple[list[str], list[str]],
    card: dict[str, Any],
    form: str,
    look: "RenderOptions",
    output: str | None,
) -> tuple["Ranking", int]:
    """Rank models and pipelines for a card, and print the ranking or write it to the file `output`.
    Return the ranking, and the exit code of a search that the user stopped, else 0."""
    from weighbridge.answers.questions.fit.pipelines import FIRST, with_pipelines
    from weighbridge.answers.questions.fit.ranking import models_for
    from weighbridge.faces.cli.progress import progress

    with progress("the catalogue") as callback:
        ranking = models_for(names[0], card, shown=_shown_count(form, look, output))
        few = None if _shown_count(form, look, output) is None else FIRST
        ranking = with_pipelines(ranking, names[1], card, shown=few)
    told(ranking, form, look, output)
    return ranking, callback.code(0)


def _shown_count(form: str, look: "RenderOptions", output: str | None) -> int | None:
    """Return how many of the fitting models are shown in full; None for all."""
    if output is None and form == "quiet":
        return 0
    from weighbridge.faces.view.ranks import FIRST

    return FIRST if output is None and form == "human" and not look.details else None


def _print_catalogue(
    entries: "Sequence[CatalogueEntry]",
    makers: "Sequence[CataloguePipeline]",
    form: str,
    lang: str | None,
) -> None:
    from weighbridge.faces.cli.options import look_of
    from weighbridge.faces.render import draw
    from weighbridge.faces.view.lists import models as models_screen

    look = look_of({"unit": None, "details": False, "explain": False, "lang": lang}, form)
    print_text(draw(models_screen(entries, look.lang, makers), form, look), look)


# Output of rankings: on a screen, as JSON, or into a file


def told(ranking: "Ranking", form: str, look: "RenderOptions", output: str | None) -> None:
    """Print a ranking on stdout, or write it to the file `output`; models left out go to stderr
    with the reason."""
    for name, why in ranking.left_out.items():
        warn_line(sentence("rank.left_out", name=name, why=why), look.lang)
    if output is not None:
        written(ranking, output)
        talk(f"{output}: {len(ranking.rows):,} rows")
    elif form == "json":
        click.echo(as_json(ranking), nl=False)
    elif form == "quiet":
        key = "name" if ranking.of == "models" else "id"
        rows = *ranking.fitting, *ranking.pipelines
        click.echo("".join(f"{row[key]}\n" for row in rows if row["fits"] == "yes"), nl=False)
    else:
        from weighbridge.faces.render import draw
        from weighbridge.faces.view.ranks import ranking as rank_screen

        page = rank_screen(
            ranking, lang=look.lang, unit=look.unit, full=form != "human" or look.details
        )
        print_text(draw(page, form, look), look)


def as_json(ranking: "Ranking") -> str:
    return json_text(ranking.to_dict())


def written(ranking: "Ranking", path: str) -> None:
    """Write a ranking to `path` as CSV, JSON or Parquet, by the ending of its name. Raises
    UsageError for another ending."""
    end = os.path.splitext(path)[1].lower()
    if end not in WRITERS:
        raise UsageError(sentence("rank.ends", path=path, forms=", ".join(WRITERS)))
    WRITERS[end](ranking, path)


def _write_json(ranking: "Ranking", path: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(as_json(ranking))


def _write_csv(ranking: "Ranking", path: str) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(ranking.rows[0]))
        writer.writeheader()
        writer.writerows(ranking.rows)


def _write_parquet(ranking: "Ranking", path: str) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise UsageError(sentence("rank.pyarrow", path=path)) from None
    parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in ranking.rows]), path)


WRITERS: Mapping[str, Callable[["Ranking", str], None]] = {
    ".csv": _write_csv,
    ".json": _write_json,
    ".parquet": _write_parquet,
}
