"""Shell completion: `eval "$(weighbridge completion bash)"`."""

import click


def model_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the catalogue names that begin with `incomplete`."""
    from weighbridge.models.catalogue import names

    return [name for name in names() if name.startswith(incomplete.lower())]


def gpu_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return names that begin with `incomplete`: ids of cards and machines, "local", and ends of an
    id that name exactly one card (rtx-4090)."""
    from weighbridge.machines.accelerators.parts import instances, parts

    typed = incomplete.lower()
    known = [name for name in ("local", *parts(), *instances()) if name.startswith(typed)]
    short = (end for name in parts() for end in _ends(name) if end.startswith(typed))
    return [*known, *dict.fromkeys(end for end in short if _names_a_card(end))]


def _ends(name: str) -> list[str]:
    """Return the ends of a card's id that people type: rtx-4090 and 4090 for geforce-rtx-4090."""
    words = name.split("-")
    return ["-".join(words[start:]) for start in range(1, len(words))]


def _names_a_card(name: str) -> bool:
    from weighbridge.base.errors import WeighbridgeError
    from weighbridge.machines.accelerators.names import find

    try:
        return bool(find(name).part.vendor)
    except WeighbridgeError:
        return False


def format_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the weight formats that begin with `incomplete`, in upper or lower case."""
    from weighbridge.models.quantization.schemes import NAMES

    return [name for name in NAMES if name.lower().startswith(incomplete.lower())]


def engine_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of the engines that begin with `incomplete`."""
    from weighbridge.engines.table import ENGINES

    return [name for name in ENGINES if name.startswith(incomplete.lower())]


# Settings with values that are hard to remember -> their completion
COMPLETED = {"gpu": gpu_names, "quantization": format_names, "engine": engine_names}


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands, options, models, cards and formats in SHELL.

    \b
    eval "$(weighbridge completion bash)"      in ~/.bashrc
    weighbridge completion fish | source       in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    from weighbridge.faces.cli.menu import menu

    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(menu, {}, "weighbridge", "_WEIGHBRIDGE_COMPLETE")
    click.echo(script.source())
