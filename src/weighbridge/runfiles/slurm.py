"""Batch scripts of Slurm: the cards and the memory that a job asks for, beside what its run takes.

Source: https://slurm.schedmd.com/sbatch.html (--gres, --gpus, --gpus-per-node, --gpus-per-task,
--mem, --mem-per-gpu, --mem-per-cpu, --nodes). Sizes are powers of 1024, MiB where no unit stands.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.errors import UsageError
from weighbridge.records import NamedTuple
from weighbridge.report import Report
from weighbridge.runfiles.weighing import Answer
from weighbridge.units import GIB, KIB, MIB, ceil_div, human

LINE = re.compile(r"(?m)^#SBATCH[ \t]+([^\n#]{1,400})")
OPTION = re.compile(r"(?:^|\s)(--?[A-Za-z][\w-]*)(?:=|[ \t]+)?([^\s-]\S*)?")
SHORT = {"-N": "--nodes", "-G": "--gpus", "-n": "--ntasks", "-c": "--cpus-per-task"}
CARDS = re.compile(r"(?:gpu:)?(?:(?P<card>[A-Za-z][\w.-]*):)?(?P<count>\d{1,4})")
SIZES = {"K": KIB, "M": MIB, "G": GIB, "T": 1024 * GIB}
ANY = "100TB"  # of RAM, where a job does not say: what is needed is counted, and fits


class SlurmJob(NamedTuple):
    """What a job asks for: `cards` on each of `nodes` machines, the kind that it names, and bytes
    of memory on each; None where it does not say."""

    cards: int | None = None
    card: str = ""
    nodes: int = 1
    memory: int | None = None

    def settings(self, gpu: str | None) -> dict[str, str]:
        """Return the cards and the memory as settings of a question; `gpu` is a kind that was
        named. Raises UsageError where nobody says the kind."""
        kind = gpu or self.card
        if not kind:
            raise UsageError("the job names no kind of card: --gpu 4090, --gpu a100-80gb says it")
        count = (self.cards or 1) * self.nodes
        gpus = kind if ":" in kind or count == 1 else f"{kind}:{count}"
        return {"gpu": gpus, "ram": f"{self.memory}B" if self.memory else ANY}


class SlurmAdvice(NamedTuple):
    """Whether a job asks for enough, and the lines that it should have instead."""

    fits: Answer
    needed_memory: int  # bytes of each machine, at worst
    lines: tuple[str, ...]


def asked(text: str) -> SlurmJob:
    """Return what the #SBATCH lines of a script ask for. Raises UsageError where it has none."""
    given = dict(_options(text))
    if not given:
        raise UsageError("no line of it begins with #SBATCH; weighbridge FILE weighs other scripts")
    nodes = _count(given.get("--nodes", "1").partition("-")[0])
    cards, card = _cards(given)
    if cards is not None and "--gpus" in given and "--gres" not in given:
        cards = ceil_div(cards, nodes)  # of the whole job
    return SlurmJob(cards, card, nodes, _memory(given, cards))


def _options(text: str) -> Iterator[tuple[str, str]]:
    for line in LINE.finditer(text):
        for option in OPTION.finditer(line[1]):
            yield SHORT.get(option[1], option[1]), option[2] or ""


def _cards(given: Mapping[str, str]) -> tuple[int | None, str]:
    for name in ("--gres", "--gpus-per-node", "--gpus-per-task", "--gpus"):
        said = next((s for s in given.get(name, "").split(",") if CARDS.fullmatch(s)), "")
        match = CARDS.fullmatch(said)
        if match is not None:
            tasks = _count(given.get("--ntasks-per-node", "1")) if "task" in name else 1
            return int(match["count"]) * tasks, match["card"] or ""
        if given.get(name) == "gpu":
            return 1, ""
    return None, ""


def _memory(given: Mapping[str, str], cards: int | None) -> int | None:
    if "--mem" in given:
        return _size(given["--mem"]) or None  # 0 is all of the machine
    if "--mem-per-gpu" in given and cards:
        return _size(given["--mem-per-gpu"]) * cards
    if "--mem-per-cpu" in given:
        tasks = _count(given.get("--ntasks-per-node", "1"))
        return _size(given["--mem-per-cpu"]) * _count(given.get("--cpus-per-task", "1")) * tasks
    return None


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise UsageError(f"{text!r:.40} is no number of an #SBATCH line that is read here")
    return int(text)


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d{1,9})([KMGT]?)B?", text.upper())
    if match is None:
        raise UsageError(f"{text!r:.40} is no size of Slurm; write it as 64G")
    return int(match[1]) * SIZES[match[2] or "M"]


def advice(job: SlurmJob, report: Report) -> SlurmAdvice:
    """Say whether a job asks for enough for a run, with the lines that it lacks."""
    verdict = report.verdict
    assert verdict is not None  # a card was named
    needed = verdict.host.needed if verdict.host is not None else None
    worst = needed.high if needed is not None else 0
    lines = []
    if job.memory is None or job.memory < worst:
        lines.append(f"#SBATCH --mem={ceil_div(worst, GIB)}G")
    if verdict.fits != "yes":
        more = (r for r in report.remedies if set(r.change) == {"gpu"} and r.fits == "yes")
        count = next((str(r.change["gpu"]) for r in more), "").partition(":")[2]
        if count.isdecimal():
            name = f"{job.card}:" if job.card else ""
            lines.insert(0, f"#SBATCH --gres=gpu:{name}{ceil_div(int(count), job.nodes)}")
    return SlurmAdvice(verdict.fits, worst, tuple(lines))


def told(job: SlurmJob, report: Report, found: SlurmAdvice) -> Iterator[str]:
    """Yield the answer about one run as lines: the verdict, what it needs, what to write."""
    verdict = report.verdict
    assert verdict is not None
    signs: Mapping[Any, str] = {"yes": "enough", "no": "not enough", "unknown": "cannot say"}
    yield f"{report.model.name} on {verdict.times}{verdict.accelerator}: {signs[found.fits]}"
    yield verdict.reason.partition("; runs like")[0]
    memory = "no memory is asked for" if job.memory is None else f"{human(job.memory)} is asked for"
    yield f"RAM of each machine: at worst {human(found.needed_memory)}; {memory}"
    if found.lines:
        yield "write:"
        yield from found.lines
