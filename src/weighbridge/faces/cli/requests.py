"""The command weighbridge run FILE|-: reads requests and writes reports, one JSON object per
line."""

import json
from collections.abc import Iterable, Iterator
from typing import IO

import click

from weighbridge.base.errors import UsageError
from weighbridge.faces.cli.options import switch

MOST_JOBS = 256
SAID = ("task", "model")  # keys that a question in words sets, and its request may not


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--cache-dir", type=click.Path(), help="The Hub cache to read and fill.")
@switch("--offline", help="Use nothing but the Hub cache.")
@switch("--keep-going", help="End with 0 though requests failed.")
@click.option(
    "--jobs",
    type=click.IntRange(1, MOST_JOBS),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes that answer; answers keep their order.",
)
def run(file: IO[bytes], cache_dir: str | None, offline: bool, keep_going: bool, jobs: int) -> None:
    """Answer every request of FILE (- for stdin) with one line, in order.

    \b
    {"task": "load", "model": "llama-3.1-8b", "workload": {"dtype": "float16"}}
    {"task": "load", "model": {"config": {"model_type": "llama", ...}}}
    {"question": "can I run qwen3-32b on two 3090s with 32k context?"}

    A request that fails is answered in its place with {"error": {"code": 2, "message": "..."}};
    the others go on. Then the exit code is 2, or 0 with --keep-going.
    """
    from weighbridge.answers.questions.requests import FAILED, MAX_LINE

    asked = map(meant, filter(bytes.strip, lines(file, MAX_LINE)))
    failed = False
    for reply in answers(asked, jobs, cache_dir=cache_dir, offline=offline):
        failed |= reply.startswith(FAILED)
        click.echo(reply)
    if failed and not keep_going:
        click.get_current_context().exit(2)


def meant(line: bytes) -> bytes:
    """Return the JSON request that a line `{"question": "..."}` means, with the settings of its
    `workload` added; any other line unchanged."""
    if b'"question"' not in line:
        return line
    from weighbridge.files.runfiles.asked import read

    try:
        request = json.loads(line)
        question = read(request.pop("question"))
        if question is None or not request.keys().isdisjoint(SAID):
            return line
        meant_request = question.request(request.pop("workload", None))
        return json.dumps({**meant_request, **request}).encode()
    except (ValueError, KeyError, TypeError, AttributeError, UsageError):
        return line


def answers(
    asked: Iterable[bytes], jobs: int, *, cache_dir: str | None, offline: bool
) -> Iterator[str]:
    """Yield one line of JSON per request, in order, answered by this process or by `jobs`
    processes."""
    if jobs > 1:
        from weighbridge.answers.questions import (
            jobs as processes,
        )  # imported here, as it imports multiprocessing

        yield from processes.answers(asked, jobs, cache_dir=cache_dir, offline=offline)
        return
    from weighbridge.answers.questions.requests import Requests

    requests = Requests(cache_dir=cache_dir, offline=offline)
    for line in asked:
        yield json.dumps(requests.answer(line))


def lines(file: IO[bytes], limit: int) -> Iterator[bytes]:
    """Yield the lines of `file`, each cut one byte after `limit` bytes. It stops after a longer
    line without an end, as /dev/zero has."""
    while line := file.readline(limit + 1):
        line_end = b"" if line.endswith(b"\n") or len(line) <= limit else line
        skipped = 0
        while line_end and not line_end.endswith(b"\n"):
            if skipped > limit:
                yield line
                return
            line_end = file.readline(1 << 20)
            skipped += len(line_end)
        yield line
