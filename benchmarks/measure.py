"""How long does a command take, and beside which other?

Commands take turns, A B A B ..., after one turn of each that is not counted and warms the file
cache. A command that fails, or does not print what it must, stops the benchmark: an error is fast.

    wall    from the start of the process to its end
    cpu     user and system time of the process
    rss     the largest resident set (ru_maxrss)
    ratio   of two commands, turn by turn, so that a busy moment of the machine meets both
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROUNDS = 9
NO_ENV: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """`expect` is a part of what it must print; `fresh` is a folder that is removed before."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    expect: str = ""
    fresh: Path | None = None
    exits: Sequence[int] = (0,)  # what it may end with


class Turn(NamedTuple):
    """One process: seconds, seconds, KiB, and what it printed."""

    wall: float
    cpu: float
    rss: int
    output: str


# A process is charged with the resident set of the one that starts it, until it has its own: so a
# small one starts it. Seconds of wall and CPU, KiB and the exit status go to a file of their own.
START = """
import os, sys, time
begin = time.perf_counter()
pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, use = os.wait4(pid, 0)
wall, cpu = time.perf_counter() - begin, use.ru_utime + use.ru_stime
code = os.waitstatus_to_exitcode(status)
os.write(int(sys.argv[1]), f"{wall} {cpu} {use.ru_maxrss} {code}".encode())
"""


def take(command: Command) -> Turn:
    """Run it once."""
    if command.fresh is not None:
        shutil.rmtree(command.fresh, ignore_errors=True)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as talk:
        with tempfile.TemporaryFile() as figures:
            subprocess.run(
                [sys.executable, "-ISc", START, str(figures.fileno()), *command.argv],
                stdout=out,
                stderr=talk,
                env=_environment() | command.env,
                pass_fds=(figures.fileno(),),
                check=True,
            )
            wall, cpu, rss, code = _text(figures).split()
        output, said = _text(out), _text(talk)
    if int(code) not in command.exits or command.expect not in output:
        raise SystemExit(
            f"{command.name}: exit code {code}, {command.expect!r} expected\n"
            f"$ {' '.join(command.argv)}\n{output[-2000:]}\n{said[-2000:]}"
        )
    return Turn(float(wall), float(cpu), int(rss), output)


def _environment() -> dict[str, str]:
    """Bytecode is kept, as pip leaves it for what it installs."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


def _text(file) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def side_by_side(commands: Sequence[Command], rounds: int = ROUNDS) -> dict[str, list[Turn]]:
    """The turns of each command, by its name."""
    found: dict[str, list[Turn]] = {command.name: [] for command in commands}
    for index in range(rounds + 1):
        for command in commands:
            turn = take(command)
            if index:
                found[command.name].append(turn)
    return found


class Ratio(NamedTuple):
    """How many times as long `slow` takes as `fast`: the median of the pairs, and their span."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.middle:.1f} ({self.low:.1f} to {self.high:.1f})"


def ratio(slow: Sequence[Turn], fast: Sequence[Turn]) -> Ratio:
    pairs = [a.wall / b.wall for a, b in zip(slow, fast, strict=True)]
    return Ratio(median(pairs), min(pairs), max(pairs))


def added(more: Sequence[Turn], less: Sequence[Turn]) -> float:
    """Seconds that `more` takes beyond `less`, turn by turn."""
    return median(a.wall - b.wall for a, b in zip(more, less, strict=True))


def wall(turns: Sequence[Turn]) -> float:
    return median(turn.wall for turn in turns)


def cpu(turns: Sequence[Turn]) -> float:
    return median(turn.cpu for turn in turns)


def least_cpu(turns: Sequence[Turn]) -> float:
    """Seconds of the quickest turn: other work on the machine only ever adds."""
    return min(turn.cpu for turn in turns)


def table(found: Mapping[str, Sequence[Turn]]) -> str:
    """Medians in Markdown, with the quickest and the slowest turn."""
    lines = [
        "| command | wall, s | quickest to slowest | CPU, s | peak RSS, MiB |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, turns in found.items():
        walls = [turn.wall for turn in turns]
        spent, rss = cpu(turns), median(t.rss for t in turns)
        span = f"{min(walls):.3f} to {max(walls):.3f}"
        lines.append(f"| {name} | {wall(turns):.3f} | {span} | {spent:.3f} | {rss / 1024:.0f} |")
    return "\n".join(lines)


def verdict(what: str, value: float, limit: float, *, at_least: bool = False) -> str:
    """One line of Markdown: a figure, its target, and whether it is met."""
    met = value >= limit if at_least else value <= limit
    sign = ">=" if at_least else "<="
    return f"- {what}: **{value:.3g}** (target {sign} {limit:g}: {'met' if met else 'MISSED'})"
