"""The command weighbridge scan, which asks the same questions of every model in a registry and
writes Parquet."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from weighbridge.base.sentences import about, sentence
from weighbridge.base.wording import counted
from weighbridge.faces.cli.options import (
    language_option,
    print_json,
    print_text,
    switch,
    talk,
    writable,
)

if TYPE_CHECKING:
    from weighbridge.faces.scan.dataset import ScanPlan
    from weighbridge.faces.scan.query import ScanView
    from weighbridge.faces.scan.running import PartDone
    from weighbridge.faces.scan.weigher import ScanLimits
    from weighbridge.memory.report.scanned import ScanSummary

F = TypeVar("F", bound=Callable[..., Any])
HERE = "here"  # name of the hidden command behind `scan SOURCE`
MOST_JOBS = 256
MOST_FAULTS = 20  # most faults that are listed one by one
FORMS = ("human", "markdown", "json", "csv")
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)


class ScanMenu(click.Group):
    """A click group in which a first word that names no command is the source to scan."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = args[0] in self.list_commands(ctx)
        return super().resolve_command(ctx, args if known else [HERE, *args])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read options before SOURCE as options of its command."""
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            args = [HERE, *args]
        return super().parse_args(ctx, args)


def _add_options(command: F, *options: Callable[[F], F]) -> F:
    for option in reversed(options):
        command = option(command)
    return command


def asking(command: F) -> F:
    """Add the options of the questions: the file, the cards, the number of parts."""
    return _add_options(
        command,
        click.option("--questions", type=FILE, metavar="FILE", help="Questions, in YAML."),
        click.option(
            "--gpu",
            "cards",
            multiple=True,
            metavar="NAME[:COUNT]",
            help="A card to ask about; may be given several times.",
        ),
        click.option("--parts", "count", type=click.IntRange(1, 10_000), help="Units of work."),
        switch("--offline", help="Fetch nothing for references."),
    )


def running(command: F) -> F:
    """Add the options of the processes that answer: their number, and the seconds and memory of
    each."""
    return _add_options(
        command,
        click.option(
            "--jobs",
            type=click.IntRange(1, MOST_JOBS),
            default=1,
            show_default=True,
            metavar="N",
            help="Processes that answer.",
        ),
        click.option(
            "--seconds",
            type=click.FloatRange(0.1),
            default=120,
            show_default=True,
            help="The longest that one config may take.",
        ),
        click.option(
            "--memory",
            default="8GiB",
            show_default=True,
            metavar="SIZE",
            help="The most that one process may ask for, where the system can bound it.",
        ),
    )


form_option = click.option(
    "--format", "form", type=click.Choice(FORMS), default="human", show_default=True
)


@click.group(cls=ScanMenu, no_args_is_help=False)
def scan() -> None:
    """Ask every model of a registry the same questions: which fit which card, and how.

    SOURCE is a folder (each config.json and .gguf below it) or its address in an object store,
    a .txt of references, .jsonl or .parquet with an id and a config in each row, or models of
    the Hub by filters. Models that memory cannot tell apart are asked once.

    \b
    weighbridge scan ./models --gpu 4090                a table of a folder
    weighbridge scan ./models --gpu 4090 --picture fits.svg
    weighbridge scan plan models.parquet ./out --gpu 4090 --gpu h100
    weighbridge scan plan 'hub:author=acme&limit=500' ./out --gpu 4090
    weighbridge scan run ./out --jobs 8                 may be killed, and run again
    weighbridge scan query ./out "select id, need from weighed where fits = 'yes'"
    """


@scan.command(HERE, hidden=True)
@click.argument("source")
@asking
@running
@click.option("--out", type=FOLDER, metavar="DIR", help="Keep the dataset there.")
@click.option("--rows", default=50, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--picture", metavar="FILE", type=click.Path(), help="Draw it: .svg, .png or .html.")
@form_option
@language_option
def here(source: str, out: Path | None, **chosen: Any) -> None:
    """Plan, run and show a scan in one go."""
    from tempfile import TemporaryDirectory

    picture = chosen["picture"]
    if picture is not None:
        from weighbridge.faces.cli.files import checked

        chosen["picture"] = checked(picture)
    chosen["place"] = out
    if out is not None:
        _scan_and_show(source, out, chosen)
        return
    with TemporaryDirectory(prefix="weighbridge-scan-") as folder:
        _scan_and_show(source, Path(folder), chosen)


def _scan_and_show(source: str, out: Path, chosen: dict[str, Any]) -> None:
    planned = _make_plan(source, out, chosen)
    _answer_parts(out, planned, chosen)
    view = _open_view(out, planned)
    summary = view.summary(planned, chosen["rows"], chosen["place"])
    _print_summary(summary, chosen["form"], chosen["lang"])
    if chosen["picture"] is not None:
        _draw_summary(summary, planned, chosen)


@scan.command()
@click.argument("source")
@click.argument("out", type=FOLDER)
@asking
def plan(source: str, out: Path, **chosen: Any) -> None:
    """Read SOURCE, and write to OUT what is to be asked.

    Without --questions each card is asked about loading, vLLM at 8K and 32K, llama.cpp Q4_K_M,
    LoRA, QLoRA and full training.
    """
    planned = _make_plan(source, out, chosen)
    of, keys = planned.counts, counted(planned.counts["keys"], "key")
    asked, parts = counted(len(planned.questions), "question"), counted(planned.parts, "part")
    models = counted(of["models"], "model")
    click.echo(f"{models}, {keys}, {of['unread']:,} not read; {asked}, {parts}")
    talk(f"`weighbridge scan run {out}` answers them")


@scan.command()
@click.argument("out", type=FOLDER)
@running
@click.option(
    "--ray",
    metavar="local|auto|ADDRESS",
    help="Answer on Ray: one of its own on this machine, the cluster that is here, or that of an "
    "address. --jobs are its actors.",
)
@click.option(
    "--parts",
    "share",
    default="0/1",
    metavar="A-B/N",
    help="A share of the parts: 0-3/8 are the first four of eight, 3/8 is the fourth.",
)
def run(out: Path, share: str, **chosen: Any) -> None:
    """Answer what OUT has planned and is not answered yet.

    It may be killed at any moment and run again; several may run at once with --parts, one for
    each task of a Slurm array or of a CI matrix.
    """
    from weighbridge.faces.scan.dataset import needed, plan_of

    needed("pyarrow")
    planned = plan_of(out)
    if _answer_parts(out, planned, {**chosen, "share": share}):
        _print_unanswered(out, planned)


@scan.command()
@click.argument("out", type=FOLDER)
def check(out: Path) -> int:
    """Check that OUT is whole: each question of each key once, checksums right.

    Ends with 0, with 1 where parts are left to answer, and with 2 where something is wrong.
    """
    from weighbridge.faces.scan.checking import check as checked
    from weighbridge.faces.scan.dataset import needed, plan_of

    needed("pyarrow")
    state = checked(out, plan_of(out))
    answers, keys = counted(state.rows, "answer"), counted(state.keys, "key")
    left = f"{state.left} of {counted(state.parts, 'part')} left" if state.left else "none is left"
    click.echo(f"{answers} about {keys}; {left} to answer")
    for fault in state.faults[:MOST_FAULTS]:
        talk(writable(fault))
    if len(state.faults) > MOST_FAULTS:
        talk(f"and {len(state.faults) - MOST_FAULTS:,} more of the kind")
    if state.left and not state.faults:
        talk(f"`weighbridge scan run {out}` goes on")
    return state.code


@scan.command()
@click.argument("out", type=FOLDER)
@click.argument("sql", required=False)
@click.option("--rows", default=50, show_default=True, type=click.IntRange(1, 10_000_000))
@form_option
@language_option
def query(out: Path, sql: str | None, rows: int, form: str, lang: str | None) -> None:
    """Ask SQL of OUT: the views `models`, `answers`, `weighed`, which is both joined, and
    `unweighed`, the models that have no answer.

    Without SQL it shows the models that are downloaded most, else the largest.

    \b
    weighbridge scan query ./out
    weighbridge scan query ./out "select gpu, count(*) from answers where fits = 'yes' group by gpu"
    """
    from weighbridge.faces.scan.dataset import plan_of

    planned = plan_of(out)
    view = _open_view(out, planned)
    if sql is None:
        _print_summary(view.summary(planned, rows, out), form, lang)
        return
    table = view.ask(sql, most=rows)
    _print_rows(table.names, table.rows, form)


@scan.command()
@click.argument("out", type=FOLDER)
@click.argument("folder", type=FOLDER)
@click.option("--title", metavar="TEXT", help="What the dataset's card is called.")
@click.option("--source", metavar="TEXT", help="Where the models are from, in words.")
@click.option("--license", "licence", metavar="ID", help="The licence that the card names.")
def publish(
    out: Path, folder: Path, title: str | None, source: str | None, licence: str | None
) -> None:
    """Write OUT into FOLDER for readers: Parquet that the page reads by ranges, and the card of a
    dataset of the Hub. No config is in it.

    \b
    weighbridge scan publish ./weighed ./registry
    weighbridge web --registry ./registry              look at it
    weighbridge web build ./site --registry ./registry
    hf upload me/weighed ./registry --repo-type dataset
    """
    from weighbridge.base.records import replace
    from weighbridge.faces.scan.card import TITLE, card
    from weighbridge.faces.scan.dataset import needed, plan_of, put
    from weighbridge.faces.scan.publishing import CARD
    from weighbridge.faces.scan.publishing import publish as published

    needed("pyarrow", "duckdb")
    planned = plan_of(out)
    done = published(out, replace(planned, source=source or planned.source), folder)
    text = card(done.told, title=title or TITLE, licence=licence)
    put(folder / CARD, text.encode())
    click.echo(f"{folder}: {done.nbytes / 1e6:.1f} MB of Parquet, {CARD}, registry.json")


@scan.command()
@click.argument("old", type=FOLDER)
@click.argument("new", type=FOLDER)
@click.option("--rows", default=50, show_default=True, type=click.IntRange(0, 10_000_000))
@switch("--check", help="End with 1 where a yes of OLD is none in NEW.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("human", "markdown", "json")),
    default="human",
    show_default=True,
)
@switch("--json", "as_json", help="Same as --format json.")
@language_option
def diff(old: Path, new: Path, **chosen: Any) -> int:
    """Tell which verdicts differ between OLD and NEW, and why: another config, other settings of
    a question, another release of an engine, other rules.

    With --check it ends with 1 where a model fitted, or was read, and is so no more; with 4 where
    a yes is open now; and else with 0.

    \b
    weighbridge scan diff ./monday ./tuesday
    weighbridge scan diff ./vllm-0.22 ./vllm-0.23 --check
    """
    from weighbridge.faces.cli.options import in_signs, language, screen_look
    from weighbridge.faces.render import draw
    from weighbridge.faces.scan.dataset import needed, plan_of
    from weighbridge.faces.scan.differing import diff as differing
    from weighbridge.faces.view.scan_diff import scan_diff

    needed("pyarrow", "duckdb")
    difference = differing((old, plan_of(old)), (new, plan_of(new)), chosen["rows"])
    form = "json" if chosen["as_json"] else chosen["form"]
    if form == "json":
        print_json(difference.to_dict())
    else:
        look = screen_look(form)._replace(lang=in_signs(chosen["lang"] or language()))
        screen = scan_diff(difference, (str(old), str(new)), look.lang)
        print_text(draw(screen, form, look), look)
    return difference.code if chosen["check"] else 0


def _make_plan(source: str, out: Path, chosen: dict[str, Any]) -> "ScanPlan":
    from weighbridge.faces.scan import asking, planning, registry
    from weighbridge.faces.scan.dataset import FETCHED, needed

    needed("pyarrow")
    file, cards = chosen["questions"], chosen["cards"]
    asked = (
        asking.default(cards) if file is None else asking.read(_read_bytes(file), str(file), cards)
    )
    registered = registry.models(source, offline=chosen["offline"], store=out / FETCHED)
    name = registry.named(source)
    return planning.plan(registered, out, asked, source=name, parts=chosen["count"])


def _read_bytes(path: Path) -> bytes:
    from weighbridge.base.cost import MOST
    from weighbridge.base.errors import NotFoundError

    if not path.is_file():
        raise NotFoundError(sentence("path.none"), where=str(path))
    with path.open("rb") as file:
        return file.read(MOST + 1)


def _answer_parts(out: Path, planned: "ScanPlan", chosen: dict[str, Any]) -> bool:
    """Answer the chosen share of the parts that are left; return whether all parts of the dataset
    are answered."""
    from weighbridge.faces.scan import running
    from weighbridge.faces.scan.dataset import put_json
    from weighbridge.faces.scan.packing import pack

    answered = _answer_function(out, planned, chosen)
    parts = running.todo(out, planned, running.share(chosen.get("share", "0/1")))
    count = counted(len(parts), "part") if parts else "nothing is left"
    talk(f"{count} to answer")
    done = rows = 0
    for part in answered(parts):
        done, rows = done + 1, rows + part.rows
        if done * 10 // len(parts) > (done - 1) * 10 // len(parts):
            of, answers = counted(len(parts), "part"), counted(rows, "answer")
            talk(f"{done} of {of}, {answers}")
    put_json(out / "manifest.json", running.manifest(out, planned))
    whole = not running.todo(out, planned)
    if whole:
        pack(out, planned)
    return whole


def _print_unanswered(out: Path, planned: "ScanPlan") -> None:
    """Print which models of a complete dataset have no answer, and the command that shows the
    answers."""
    from weighbridge.base.words import words_in
    from weighbridge.faces.view.records import Paste
    from weighbridge.faces.view.scan import unweighed

    view = _open_view(out, planned)
    for block in unweighed(view.unweighed(), str(out), words_in("en")):
        if isinstance(block, Paste):
            talk(block.heading)
        talk(writable(block.text))
    talk(f"`weighbridge scan query {out}` shows the answers")


def _answer_function(
    out: Path, planned: "ScanPlan", chosen: dict[str, Any]
) -> "Callable[[Sequence[int]], Iterator[PartDone]]":
    """Return the function that answers parts and yields each when done: by processes of this
    machine, or by Ray."""
    from weighbridge.faces.scan import running

    limits, address, jobs = _scan_limits(chosen), chosen.get("ray"), chosen["jobs"]
    if address is None:
        return lambda parts: running.run(out, planned, parts, jobs, limits)
    from weighbridge.faces.scan import on_ray

    return lambda parts: on_ray.run(out, planned, parts, on_ray.RayRun(address, jobs), limits)


def _scan_limits(chosen: dict[str, Any]) -> "ScanLimits":
    from weighbridge.base.units import MIB, parse_size
    from weighbridge.faces.scan.weigher import ScanLimits

    memory = parse_size(chosen["memory"])
    if memory < 512 * MIB:
        raise click.UsageError(about("--memory", sentence("scan.memory")))
    return ScanLimits(chosen["seconds"], memory)


def _open_view(out: Path, planned: "ScanPlan") -> "ScanView":
    from weighbridge.faces.scan.dataset import needed
    from weighbridge.faces.scan.query import ScanView

    needed("pyarrow", "duckdb")
    return ScanView(out, planned)


def _print_summary(summary: "ScanSummary", form: str, lang: str | None) -> None:
    from weighbridge.faces.cli.options import in_signs, language, screen_look
    from weighbridge.faces.render import draw
    from weighbridge.faces.view.scan import scan as screen

    if form == "json":
        print_json(summary.to_dict())
        return
    if form == "csv":
        _print_rows(*_summary_rows(summary), form)
        return
    look = screen_look(form)._replace(lang=in_signs(lang or language()))
    print_text(draw(screen(summary, look.lang), form, look), look)


def _summary_rows(summary: "ScanSummary") -> tuple[Sequence[str], list[tuple[Any, ...]]]:
    """Return the column names and the rows of a summary, one row per model, question and card;
    sizes in bytes."""
    rows = [
        (line.id, line.parameters, name, cell.gpu, cell.fits, cell.need.expected, cell.usable)
        for line in summary.lines
        for name, cells in line.answers.items()
        for cell in cells
    ]
    return ("id", "parameters", "question", "gpu", "fits", "need", "usable"), rows


def _print_rows(names: Sequence[str], rows: Sequence[Sequence[Any]], form: str) -> None:
    """Print the rows of a query as JSON, CSV or a table."""
    from weighbridge.faces.render.data import json_text

    if form == "json":
        text = json_text([dict(zip(names, row, strict=True)) for row in rows])
        click.echo(text, nl=False)
    elif form == "csv":
        import csv
        import sys

        lines = csv.writer(sys.stdout, lineterminator="\n")
        lines.writerows([names, *rows])
    else:
        from weighbridge.faces.cli.options import screen_look
        from weighbridge.faces.render import draw
        from weighbridge.faces.view.scan import plain

        look = screen_look(form)
        print_text(draw(plain(names, rows), form, look), look)


def _draw_summary(summary: "ScanSummary", planned: "ScanPlan", chosen: dict[str, Any]) -> None:
    """Draw which models fit, by the first question about serving, else by the first question, into
    the file of --picture."""
    from weighbridge.faces.charts.scanned import scanned
    from weighbridge.faces.cli.files import draw

    first = next((q for q in planned.questions if q.task == "infer"), planned.questions[0])
    draw(chosen["picture"], scanned(summary, first.label, lang=chosen["lang"] or "en"))
