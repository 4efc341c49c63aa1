"""weighbridge mcp"""

import sys
from collections.abc import Mapping
from typing import Any

import click

from weighbridge.base.sentences import sentence
from weighbridge.faces.cli.options import switch, talk

TOOLS = "fit,infer,train,load,weigh,settings,gpus,models"
WAITING = (
    "waiting for an agent, which is to start this by itself: claude mcp add weighbridge -- "
    "weighbridge mcp; Ctrl-C ends it"
)


@click.command()
@click.option(
    "--tools",
    "names",
    metavar="A,B...",
    help=f"Offer these tools alone: their schemas are read in every session. Default: {TOOLS}.",
)
@click.option("--cache-dir", type=click.Path(), help="The Hub cache to read and fill.")
@switch("--offline", help="Use nothing but the Hub cache.")
@switch(
    "--hub-only",
    help="Read the catalogue and the Hub alone: no files of this machine, no other address.",
)
@switch("--skill", help="Print SKILL.md for agents with a shell, and end.")
def mcp(names: str | None, skill: bool, **source: Any) -> None:
    """Answer coding agents: load, infer, train, fit, gpus and models as tools (stdio).

    An agent starts this program itself and speaks the Model Context Protocol with it; nothing is
    to be typed. It reads models and changes nothing. Needs `pip install 'weighbridge[mcp]'`.

    \b
    claude mcp add weighbridge -- weighbridge mcp
    codex mcp add weighbridge -- weighbridge mcp
    weighbridge mcp --skill > ~/.claude/skills/weighbridge/SKILL.md
    """
    if skill:
        from weighbridge.faces.agents import skill as skill_text

        click.echo(skill_text(), nl=False)
        return
    from weighbridge.faces.agents.answering import Answers
    from weighbridge.faces.agents.server import serve

    offered = _tool_names(names)
    if sys.stdin.isatty():
        talk(WAITING)
    serve(Answers(**source, line=_line), offered)


def _line(request: Mapping[str, Any]) -> str:
    """Return the `weighbridge` command that asks the question of `request`; shortened answers show
    it."""
    from weighbridge.faces.web.asks import AnswerView
    from weighbridge.faces.web.command import command

    return command(request, AnswerView())


def _tool_names(names: str | None) -> tuple[str, ...]:
    """Return the names of the tools in the comma-separated list `names`; () if `names` is None.
    Raises UsageError for an unknown tool."""
    if names is None:
        return ()
    known = TOOLS.split(",")
    chosen = tuple(filter(None, map(str.strip, names.split(","))))
    wrong = [name for name in chosen if name not in known]
    if wrong or not chosen:
        named = wrong[0] if wrong else names
        raise click.UsageError(sentence("mcp.tools", known=", ".join(known), names=named))
    return chosen
