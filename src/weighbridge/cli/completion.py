"""Shell completion: `eval "$(weighbridge completion bash)"`."""

import click


def model_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Catalogue names that begin with what was typed."""
    from weighbridge.catalogue import names

    return [name for name in names() if name.startswith(incomplete.lower())]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands, options and catalogue names in SHELL.

    \b
    eval "$(weighbridge completion bash)"      in ~/.bashrc
    weighbridge completion fish | source       in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    from weighbridge.cli.menu import menu

    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(menu, {}, "weighbridge", "_WEIGHBRIDGE_COMPLETE")
    click.echo(script.source())
