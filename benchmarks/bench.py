"""What every benchmark is given."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.measure import NO_ENV, Command
from benchmarks.peers import Peers

BASE = "{}, base"  # the name of a command of the other weighbridge


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    rounds: int
    folder: Path  # for models, and for the homes of clients
    peers: Peers
    base: str = ""  # another weighbridge, which is asked the same: its interpreter, or its checkout

    def weighbridge(
        self, name: str, *arguments: str, env: Mapping[str, str] = NO_ENV, expect: str = ""
    ) -> Command:
        """The installed command itself, which ends with 1 where something does not fit."""
        script = str(Path(sys.executable).parent / "weighbridge")
        argv = [script, *arguments]
        return Command(name=name, argv=argv, env=env, expect=expect, exits=(0, 1))

    def python(self, name: str, code: str, *arguments: str) -> Command:
        return Command(name=name, argv=[sys.executable, "-c", code, *arguments])

    def beside_base(self, *commands: Command) -> list[Command]:
        """Each command, and the same one of the other weighbridge, where one was named."""
        if not self.base:
            return list(commands)
        here, there = Path(sys.executable), Path(self.base)
        return [c for one in commands for c in (one, _moved(one, here, there))]

    def peer(
        self, tool: str, argv: Sequence[str], *, env: Mapping[str, str] = NO_ENV, expect: str = ""
    ) -> list[Command]:
        """The other tool's command, where it is installed."""
        if not self.peers.has(tool):
            return []
        name = f"{tool} {self.peers.versions[tool]}"
        return [Command(name=name, argv=argv, env=env, expect=expect)]

    def missing(self, *tools: str) -> str:
        absent = [tool for tool in tools if not self.peers.has(tool)]
        return f"\nnot installed: {', '.join(absent)}" if absent else ""


def _moved(command: Command, here: Path, there: Path) -> Command:
    """The command with the other interpreter, or with the script that stands beside it; of a
    checkout, with this interpreter and the other's sources."""
    own = Path(command.argv[0]) == here
    env = dict(command.env)
    if there.is_dir():
        env["PYTHONPATH"] = str(there / "src")
        program = command.argv[0]
    else:
        program = str(there if own else there.parent / Path(command.argv[0]).name)
    name = BASE.format(command.name)
    return replace(command, name=name, env=env, argv=[program, *command.argv[1:]])
