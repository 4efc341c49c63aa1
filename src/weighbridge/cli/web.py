"""weighbridge web, weighbridge web build DIR"""

import shlex
from functools import partial
from importlib import import_module
from pathlib import Path

import click


@click.group(invoke_without_command=True)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="Listen on this port of 127.0.0.1; 0 is any that is free. Default: 7860.",
)
@click.option("--no-open", is_flag=True, help="Print the address and open no browser.")
@click.option("--offline", is_flag=True, help="Use nothing but the Hub cache.")
@click.option("--cache-dir", type=click.Path(), help="The Hub cache to read and fill.")
@click.option("--gradio", is_flag=True, help="Serve the Gradio edition, as a Space runs it.")
@click.pass_context
def web(
    ctx: click.Context,
    port: int | None,
    no_open: bool,
    offline: bool,
    cache_dir: str | None,
    gradio: bool,
) -> None:
    """Open the page: the same answers in a browser, computed on this machine.

    The address that is printed holds a secret: who has it can ask. Nothing listens on the network.
    Ctrl-C ends it.

    \b
    weighbridge web
    weighbridge web --port 8000 --no-open
    weighbridge web build ./site
    weighbridge web --gradio
    """
    if ctx.invoked_subcommand is not None:
        return
    if gradio:
        import_module("weighbridge.web.space.app").serve(port, not no_open)
        return
    from weighbridge.web.desks import Desks, own
    from weighbridge.web.server import PORT, PageServer

    desks = Desks(partial(own, cache_dir, offline))
    server = PageServer(PORT if port is None else port, desks)
    desks.begin()
    _announced(server.address, open_=not no_open)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        click.echo("", err=True)
    finally:
        server.server_close()
        desks.close()


def _announced(address: str, *, open_: bool) -> None:
    """The address on stdout, and in a browser."""
    click.echo(address)
    click.echo("The page is at this address until Ctrl-C.", err=True)
    if open_:
        import webbrowser

        webbrowser.open(address)


@web.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--space", is_flag=True, help="Write the files of a Space (Gradio) instead.")
@click.option("--hub", metavar="URL", help="The Hub that the page reads. Default: the public one.")
def build(folder: Path, space: bool, hub: str | None) -> None:
    """Write the page as static files for any web server.

    It needs npm and node once: they fetch Pyodide and start it.

    \b
    weighbridge web build ./site
    weighbridge web build ./site --hub https://hf-mirror.com
    weighbridge web build ./my-space --space
    """
    if space:
        import_module("weighbridge.web.space.files").write(folder)
        click.echo(folder)
        return
    made = import_module("weighbridge.web.build").build(folder, **({"hub": hub} if hub else {}))
    click.echo(made.folder)
    size = f"{len(made.files)} files, {made.nbytes / 1e6:.1f} MB"
    click.echo(f"{size}, version {made.version}: any web server can serve it", err=True)
    look = shlex.join(["python", "-m", "http.server", "-d", str(made.folder)])
    click.echo(f"Look at it: {look}, then http://localhost:8000", err=True)
