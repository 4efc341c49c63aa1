"""weighbridge run FILE|-: requests in, reports out, one JSON object a line."""

import json
from typing import IO

import click


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--cache-dir", type=click.Path(), help="The Hub cache to read and fill.")
@click.option("--offline", is_flag=True, help="Use nothing but the Hub cache.")
def run(file: IO[bytes], cache_dir: str | None, offline: bool) -> None:
    """Answer every request of FILE (- for stdin) with one line, in order.

    \b
    {"task": "load", "model": "llama-3.1-8b", "workload": {"dtype": "float16"}}
    {"task": "load", "model": {"config": {"model_type": "llama", ...}}}

    A request that fails is answered in its place with {"error": {"code": 2, "message": "..."}};
    the others go on.
    """
    from weighbridge.requests import answer

    for line in file:
        if line.strip():
            click.echo(json.dumps(answer(line, cache_dir=cache_dir, offline=offline)))
