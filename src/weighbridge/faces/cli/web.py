"""weighbridge web, weighbridge web build DIR"""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from weighbridge.faces.cli.options import switch, talk

if TYPE_CHECKING:
    from weighbridge.faces.web.desks import Desks

registry_option = click.option(
    "--registry",
    "dataset",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="The dataset of the Registry tab: a folder of `scan run` or `scan publish`.",
)


@click.group(invoke_without_command=True)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="Listen on this port of 127.0.0.1; 0 is any that is free. Default: 7860.",
)
@switch("--no-open", help="Print the address and open no browser.")
@switch("--offline", help="Use nothing but the Hub cache.")
@click.option("--cache-dir", type=click.Path(), help="The Hub cache to read and fill.")
@switch("--gradio", help="Serve the page as a Space runs it: with Gradio behind it.")
@registry_option
@click.pass_context
def web(
    ctx: click.Context,
    /,
    port: int | None,
    no_open: bool,
    gradio: bool,
    dataset: Path | None,
    **hub: Any,
) -> None:
    """Open the page: the same answers in a browser, computed on this machine.

    The address that is printed holds a secret: who has it can ask. Nothing listens on the network.
    Ctrl-C ends it.

    \b
    weighbridge web
    weighbridge web --port 8000 --no-open
    weighbridge web build ./site
    weighbridge web --registry ./weighed
    weighbridge web --gradio
    """
    if ctx.invoked_subcommand is not None:
        return
    if gradio:
        import_module("weighbridge.faces.web.space.app").serve(port, not no_open)
        return
    from weighbridge.faces.web.desks import Desks, own

    with _published(dataset) as shown:
        _serve(
            Desks(partial(own, hub["cache_dir"], hub["offline"])), port, shown, open_=not no_open
        )


def _serve(desks: "Desks", port: int | None, dataset: Path, *, open_: bool) -> None:
    """Serve the page until Ctrl-C. `port` None is the default port; `dataset` is the folder of the
    Registry tab."""
    from weighbridge.faces.web.server import PORT, PageServer

    server = PageServer(PORT if port is None else port, desks, dataset=dataset)
    desks.begin()
    _announce(server.address, open_=open_)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        talk("")
    finally:
        server.server_close()
        desks.close()


@contextmanager
def _published(dataset: Path | None) -> Iterator[Path]:
    """Yield the folder that the Registry tab shows: the demonstration, a folder that `scan publish`
    wrote, or a temporary one published from the answers of `scan`."""
    from weighbridge.faces.web import registry

    if dataset is None:
        yield registry.DEMONSTRATION
    elif registry.is_published(dataset):
        yield dataset
    else:
        from weighbridge.faces.scan.dataset import needed, plan_of
        from weighbridge.faces.scan.publishing import publish

        needed("pyarrow", "duckdb")
        with TemporaryDirectory(prefix="weighbridge-registry-") as folder:
            publish(dataset, plan_of(dataset), Path(folder))
            yield Path(folder)


def _announce(address: str, *, open_: bool) -> None:
    """Print the page's address on stdout, and open it in a browser if `open_`."""
    click.echo(address)
    talk("The page is at this address until Ctrl-C.")
    if open_:
        import webbrowser

        webbrowser.open(address)


@web.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@switch("--space", help="Write the files of a Space (Gradio) instead.")
@click.option("--hub", metavar="URL", help="The Hub that the page reads. Default: the public one.")
@registry_option
def build(folder: Path, space: bool, hub: str | None, dataset: Path | None) -> None:
    """Write the page as static files for any web server.

    It needs npm and node once: they fetch Pyodide and start it.

    \b
    weighbridge web build ./site
    weighbridge web build ./site --hub https://hf-mirror.com
    weighbridge web build ./site --registry ./weighed
    weighbridge web build ./my-space --space
    """
    if space:
        import_module("weighbridge.faces.web.space.files").write(folder)
        click.echo(folder)
        return
    named = {"hub": hub} if hub else {}
    with _published(dataset) as shown:
        built = import_module("weighbridge.faces.web.build").build(folder, dataset=shown, **named)
    click.echo(built.folder)
    size = f"{len(built.files)} files, {built.nbytes / 1e6:.1f} MB"
    talk(f"{size}, version {built.version}: any web server can serve it")
    look = shlex.join(["python", "-m", "http.server", "-d", str(built.folder)])
    talk(f"Look at it: {look}, then http://localhost:8000")
