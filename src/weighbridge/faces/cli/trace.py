"""weighbridge trace SCRIPT [ARGS]..."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from weighbridge.base.errors import UsageError, WeighbridgeError
from weighbridge.base.records import replace
from weighbridge.base.sentences import about, sentence
from weighbridge.base.units import SHOWN, parse_size
from weighbridge.base.wording import printable
from weighbridge.base.words import Words, words_in
from weighbridge.faces import cli
from weighbridge.faces.cli.files import writable, write
from weighbridge.faces.cli.options import (
    FORMS,
    ONCE,
    chart_file,
    chart_option,
    language_option,
    output_form,
    print_text,
    screen_look,
    switch,
    talk,
    tasks_option,
)
from weighbridge.faces.cli.options import writable as terminal_text

if TYPE_CHECKING:
    from weighbridge_lab.trace.report import TraceReport

CANNOT_SAY = 4  # exit code for an unknown answer
NET_OPTIONS = ("train", "loss", "bf16", "checkpoint")
RUNS = ("torch", "weighbridge", "weighbridge_lab")  # the modules that a trace itself runs in


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--gpu", metavar="NAME[:COUNT]", **ONCE, help="The card that stands in: t4, a100-80gb:2..."
)
@click.option("--gpu-memory", metavar="SIZE", **ONCE, help="What a process can have of it: 24GiB.")
@click.option("--torch-version", metavar="V", help="Whose workspaces, allocator and kernels: 2.5.")
@click.option("--world-size", metavar="N", type=int, help="One process of N, as launchers start.")
@click.option("--rank", metavar="R", type=int, help="Which of them; 0 where it is left out.")
@click.option(
    "--assume",
    metavar="NAME=VALUE",
    multiple=True,
    help="A value that the script looks at: loss=1.0, train.py:31=0.5.",
)
@click.option(
    "--steps",
    metavar="N|all",
    **ONCE,
    help="Rounds of each loop that trains; else until they are alike in memory.",
)
@click.option(
    "--time-limit", metavar="SECONDS", type=click.FloatRange(1), help="How long it may run."
)
@click.option("--host-memory", metavar="SIZE", help="What it may have of the machine's memory.")
@switch("--network", help="Let the script ask other machines.")
@click.option("--stub", metavar="NAME,...", help="Packages that are not here: stand-ins.")
@click.option("--data", metavar="SHAPES", help="A sample of data that are not here: 3x224x224,int.")
@click.option(
    "--input", "inputs", metavar="SHAPES", multiple=True, help="What goes into net.py:Net."
)
@click.option("--train", metavar="OPTIMIZER", help="Train the net: adamw, sgd...")
@click.option("--loss", type=click.Choice(["ce", "mse", "sum"]), help="Of the net's training.")
@switch("--bf16", help="Its products in bfloat16.")
@switch("--checkpoint", help="Its blocks are computed again in backward.")
@click.option("--fit", type=click.Choice(["batch"]), help="The largest batch that fits the card.")
@click.option("--alloc-conf", metavar="CONF", help="PYTORCH_CUDA_ALLOC_CONF of the run.")
@click.option(
    "--timeline", metavar="FILE", type=click.Path(), help="Memory over time: .html, .json."
)
@click.option(
    "--snapshot", metavar="FILE", type=click.Path(), help="For PyTorch's memory viewer: .pickle."
)
@click.option(
    "--against", metavar="FILE", type=click.Path(), help="An earlier --json, to compare with."
)
@chart_option
@tasks_option
@language_option
@click.option("--unit", type=click.Choice(SHOWN), help="One unit for all sizes.")
@click.option("--format", "form", type=click.Choice(FORMS), default="auto", show_default=True)
@switch("--json", "as_json", help="Same as --format json.")
@switch("-q", "--quiet", help="One number: the peak in bytes.")
@switch("-m", "--module", help="SCRIPT is a module's name, as of python -m.")
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def trace(script: str, arguments: tuple[str, ...], **options: Any) -> int:
    """Run SCRIPT unmodified on a simulated GPU, and report its peak memory.

    SCRIPT is a Python file, or file.py:function for one function of it; what follows it is its
    own. It runs as `python SCRIPT` would, on fake tensors: quickly, without a GPU, without
    weights. torch.cuda answers as the card would. The report follows its output; with --json, -q
    or --format markdown the script's stdout goes to stderr. The exit code is the script's.

    A loop that trains is left when its rounds are alike in memory, which is said; the script goes
    on behind it.

    --torch-version chooses the rules of workspaces, allocator and kernels; the code that runs is
    the installed torch's. Without --gpu memory has no end, and the kernels are an A100's.

    SCRIPT may also be a class or a function that returns a module (net.py:Net, with --input), a
    notebook, or a folder: of a repository it says what its README starts, and runs nothing.

    It may also be the launcher's line: python, torchrun or accelerate launch with what follows
    them. Of many processes one is traced; the others are not run.

    \b
    weighbridge trace train.py --batch-size 8
    weighbridge trace --gpu t4 --torch-version 2.5 measure.py adam
    weighbridge trace --gpu 4090 --timeline memory.html train.py:step
    weighbridge trace --gpu 4060 --input 8x3x224x224 --train adamw --fit batch net.py:Net
    weighbridge trace --gpu t4 --chart bars.svg --chart-of tasks train.py
    weighbridge trace --gpu h100 torchrun --nproc-per-node 8 train.py
    """
    if os.path.isdir(script):
        form = output_form(options["form"], as_json=options["as_json"], quiet=options["quiet"])
        click.echo(terminal_text(_repository_text(script, options["lang"], form)), nl=False)
        return 0
    run = _net_run(options)
    if options["fit"]:
        from weighbridge.faces.cli.trace_fit import fit_batch

        text, code = fit_batch([script, *arguments], options, run)
        click.echo(terminal_text(text), nl=False)
        return code
    return _trace([script, *arguments], options, run)


def _trace(words: Sequence[str], options: dict[str, Any], run: Any) -> int:
    """Trace a program, or the network `run`, and print its report. Return the program's exit code;
    4 if that is 0 and code that trains more never ran."""
    from weighbridge_lab.trace import differences, launchers
    from weighbridge_lab.trace import script as scripts
    from weighbridge_lab.trace.keeping.apart import apart
    from weighbridge_lab.trace.program import request
    from weighbridge_lab.trace.render import remarks, render

    if options["against"] is not None:
        differences.against(options["against"], 0, ())  # raises its errors before anything runs
    form = output_form(options["form"], as_json=options["as_json"], quiet=options["quiet"])
    _timeline_writer(options["timeline"])
    for name in ("timeline", "snapshot"):
        writable(f"--{name}", options[name])
    chart = chart_file(options)
    launch = launchers.read(words, module=options["module"])
    settings = replace(_gpu_settings(options, launch), second=_second_rank_cards(words, options))
    then = None if run is None else _net_driver(run, launch)
    asked = request(launch.program, launch.arguments, module=launch.module, then=then)
    code = apart() if cli.ALONE else None
    if code is not None:  # the script ran in its own process, which has printed everything
        return code
    with contextlib.nullcontext() if form == "human" else stdout_to_stderr():
        report, gpu = scripts.trace(asked, settings)
    report = _with_advice(report, gpu, settings)
    if options["against"] is not None:
        top = report.fullest.allocated
        comparison = differences.against(options["against"], top.allocated, top.tensors)
        report = replace(report, against=comparison)
    _write_files(options, chart, report, gpu)
    sys.stdout.flush()
    look = screen_look(form)
    look = look._replace(lang=options["lang"] or look.lang)
    text = render(report, form, unit=options["unit"], look=look)
    print_text(text, look)
    remark = remarks(report, look.lang) if form == "quiet" else ""
    if remark:
        talk(terminal_text(f"warning: {remark}"))
    return report.program.exit_code or CANNOT_SAY * report.open


def _second_rank_cards(
    words: Sequence[str], options: Mapping[str, Any]
) -> Callable[[], Sequence[int]]:
    """Return a function that traces rank 1 in another process and returns the indices of the cards
    it allocates on; () if that fails."""

    def used() -> Sequence[int]:
        from weighbridge.faces.cli.trace_fit import passed
        from weighbridge_lab.trace.fit_batch import runner

        options_there = {**options, "rank": 1, "steps": 1}
        try:
            report = runner(list(passed(options_there)), lambda _: words)(1)
        except WeighbridgeError:
            return ()
        return [device["index"] for device in report["devices"] if device["allocations"]]

    return used


def _with_advice(report: "TraceReport", gpu: Any, card: Any) -> "TraceReport":
    """Return the report with the changes that `train` suggests, if a single process trained with a
    Trainer and does not surely fit; else the report unchanged."""
    run = gpu.trained.run
    if run is None or gpu.world is not None or report.verdict is None:
        return report
    if report.verdict.fits == "yes":
        return report
    from weighbridge.faces import api
    from weighbridge.workload.flags import flags
    from weighbridge_lab.trace.trainers import KEPT, TrainingAdvice, TrainingChange

    asked = {"gpu": card.gpu, "gpu_memory": card.gpu_memory, "torch_version": card.torch_version}
    try:
        answer = api.prepare(dict(run.config)).train(pinned=KEPT, **run.settings, **asked)
    except WeighbridgeError:  # a model or arguments that `train` does not know
        return report
    changes = tuple(
        TrainingChange(flags=r.flags, peak_bytes=r.peak_bytes, fits=r.fits, cost=r.cost)
        for r in answer.remedies
    )
    typed = flags(run.settings, run.settings["framework"])
    advice = TrainingAdvice(flags=typed, needs=answer.peak, changes=changes)
    return replace(report, advice=advice) if changes else report


def _repository_text(folder: str, lang: str | None, form: str) -> str:
    """Return the text on what a repository's README starts, as lines to type; only those lines if
    `form` is quiet."""
    from weighbridge.faces.render.data import json_text
    from weighbridge_lab.trace.repository import read

    repository = read(folder)
    if form == "json":
        return json_text(repository.to_dict())
    if form == "quiet":
        lines = [start.trace for start in repository.starts]
    else:
        lines = list(_repository_lines(repository, words_in(lang or "en")))
    return "".join(f"{printable(line)}\n" for line in lines)


def _repository_lines(repository: Any, words: Words) -> Iterator[str]:
    """Yield lines on the programs that a README starts, the packages and files missing here, and
    the memory that it states."""
    key = "trace.repository" if repository.starts else "trace.repository.none"
    known = {"count": repository.total, "example": repository.example}
    yield words(key, folder=repository.folder, **known)
    for start in repository.starts:
        yield words("trace.repository.start", place=start.place, line=start.trace)
        for kind, names in (("packages", start.packages), ("files", start.files)):
            if names:
                yield words(f"trace.repository.{kind}", names=", ".join(names))
    for place, line in repository.stated:
        yield words("trace.repository.stated", place=place, line=line)


def _net_run(options: Mapping[str, Any]) -> Any:
    """Return the inputs and settings with which a network runs, a `NetRun`; None for a script.
    Raises UsageError for options of a network without --input."""
    of_net = {name: options[name] for name in NET_OPTIONS if options[name]}
    if not options["inputs"]:
        if of_net:
            flag = f"--{next(iter(of_net))}"
            raise UsageError(sentence("trace.needs_input", flag=flag))
        return None
    from weighbridge_lab.trace import inputs

    read = tuple(one for text in options["inputs"] for one in inputs.of_net(text))
    from weighbridge_lab.trace.net import NetRun

    train = options["train"] and options["train"].lower()
    others = {name: options[name] for name in NET_OPTIONS[1:]}
    return NetRun(inputs=read, optimizer=train, **others)


def _net_driver(run: Any, launch: Any) -> Callable[[Any], None]:
    """Return the function that runs a network. Raises UsageError for words after its name."""
    from weighbridge_lab.trace.net import NetDriver

    if launch.arguments:
        words = " ".join(launch.arguments)
        raise UsageError(sentence("trace.behind_net", name=launch.program, words=words))
    return NetDriver(run, launch.program)


def _gpu_settings(options: Mapping[str, Any], launch: Any) -> Any:
    """Return the settings of the fake GPU, from the options and the launcher's command line."""
    from weighbridge_lab.trace import inputs
    from weighbridge_lab.trace.script import FakeGpuSettings

    settings = FakeGpuSettings(
        gpu=options["gpu"],
        gpu_memory=options["gpu_memory"],
        torch_version=options["torch_version"],
        alloc_conf=options["alloc_conf"],
        history=options["snapshot"] is not None,
        world_size=options["world_size"],
        rank=options["rank"],
        processes=launch.processes,
        nodes=launch.nodes,
        node=launch.node,
        variables=launch.variables,
        assume=dict(map(_parse_assumption, options["assume"])),
        steps=_parse_steps(options["steps"]),
        seconds=options["time_limit"],
        host_memory=options["host_memory"] and parse_size(options["host_memory"]),
        notes=launch.notes,
        network=options["network"],
        stubs=_parse_stubs(options["stub"] or ""),
        sample=inputs.read(options["data"], "--data") if options["data"] else (),
    )
    if settings.rank is not None and settings.world_size is None and settings.processes is None:
        raise click.UsageError(about(f"--rank {settings.rank}", sentence("trace.rank")))
    return settings


def _write_files(options: Mapping[str, Any], chart: str | None, report: Any, gpu: Any) -> None:
    """Write memory over time to the files of --timeline, --chart and --snapshot, each in its
    format."""
    from weighbridge.faces.cli.files import draw

    if chart is not None and options["chart_of"] == "tasks":
        draw(chart, _tasks_figure(report, gpu, options["unit"]))
        chart = None
    drawn = _timeline_writer(options["timeline"])
    if drawn is not None or chart is not None:
        from weighbridge_lab.trace.timeline import timeline

        course = timeline(report, gpu.tapes)
        if drawn is not None:
            write(options["timeline"], drawn(course).encode())
        if chart is not None:
            from weighbridge.faces.charts.tapes import tapes

            draw(chart, tapes(course, unit=options["unit"]))
    if options["snapshot"] is not None:
        from weighbridge_lab.trace.timeline import snapshot

        write(options["snapshot"], snapshot(gpu.tape))


def _tasks_figure(report: "TraceReport", gpu: Any, unit: str | None) -> Any:
    """Return the figure of loading, training and inference peaks on the fullest card. `unit`: the
    unit of sizes, None to choose one."""
    from weighbridge.faces.charts.tasks import traced
    from weighbridge_lab.trace.tasks import peaks

    tape = gpu.tapes[report.fullest.index]
    program = " ".join([report.program.script, *report.program.arguments])
    return traced(list(peaks(tape)), program, report.gpu.name, unit=unit)


def _parse_stubs(text: str) -> tuple[str, ...]:
    names = tuple(filter(None, text.split(",")))
    for name in names:
        if name in (*RUNS, *sys.stdlib_module_names):
            raise UsageError(sentence("trace.stub"), where=f"--stub {name}")
    return names


def _parse_steps(text: str | None) -> int | None:
    from weighbridge_lab.trace.script import ALL

    if text is None or text == "all":
        return None if text is None else ALL
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise click.UsageError(about(f"--steps {text}", sentence("trace.steps")))
    return int(text)


def _parse_assumption(text: str) -> tuple[str, float]:
    name, equals, value = text.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        number = None
    if not equals or not name.strip() or number is None:
        raise click.UsageError(about(f"--assume {text}", sentence("trace.assume")))
    return name.strip(), number


def _timeline_writer(path: str | None) -> Callable[[Mapping[str, Any]], str] | None:
    """Return the function that writes a timeline in the format of the ending of `path`; None
    without a path. Raises UsageError for an unknown ending."""
    from weighbridge_lab.trace.timeline import FORMS as KINDS

    if path is None:
        return None
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in KINDS:
        raise click.UsageError(about(f"--timeline {path}", sentence("trace.timeline")))
    return KINDS[suffix]


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Redirect stdout to stderr inside this block: Python's, and that of programs and libraries a
    script starts."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
