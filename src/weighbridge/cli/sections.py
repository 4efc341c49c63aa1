"""Commands whose options are settings of the table, listed in its sections."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from weighbridge.cli.completion import COMPLETED
from weighbridge.cli.options import EACH, ONCE
from weighbridge.settings import FIT, INFER, TRAIN, Setting, Table

DEVICE = ("gpu", "gpu_memory", "ram")
TABLES: Mapping[str, Table] = {"infer": INFER, "train": TRAIN, "fit": FIT}


class Sections(click.Command):
    """A command whose settings are listed by their sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        table = TABLES[self.name or ""]
        named: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            line = option.get_help_record(ctx)
            if line is not None and isinstance(option, click.Option):
                setting = table.get(option.name or "")
                named.setdefault(setting.section if setting else "Options", []).append(line)
        for title, lines in named.items():
            with formatter.section(title):
                formatter.write_dl(lines)


def options(table: Table) -> Iterator[click.Option]:
    """One option a setting; values are read by the table, which says what is wrong with them."""
    for setting in table.values():
        yield _option(setting)


def _option(s: Setting[Any]) -> click.Option:
    if s.kind.metavar:
        metavar = "|".join(s.choices) or s.kind.metavar
        alone = EACH if s.name == "gpu" else ONCE if s.name in DEVICE else {}
        known: dict[str, Any] = {}
        if s.name in COMPLETED:
            known["shell_complete"] = COMPLETED[s.name]
        return click.Option(
            [s.name, s.flag, *s.flags], metavar=metavar, help=s.help, **alone, **known
        )
    plain = f"{s.flag}/--no-{s.flag[2:]}" if not s.flag.startswith("--no-") else s.flag
    return click.Option([s.name, plain, *s.flags], is_flag=True, default=None, help=s.help)
