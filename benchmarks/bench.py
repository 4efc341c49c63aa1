"""What every benchmark is given."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import NO_ENV, Command
from benchmarks.peers import Peers


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    rounds: int
    folder: Path  # for models, and for the homes of clients
    peers: Peers

    def weighbridge(
        self, name: str, *arguments: str, env: Mapping[str, str] = NO_ENV, expect: str = ""
    ) -> Command:
        """The installed command itself."""
        script = str(Path(sys.executable).parent / "weighbridge")
        return Command(name=name, argv=[script, *arguments], env=env, expect=expect)

    def python(self, name: str, code: str, *arguments: str) -> Command:
        return Command(name=name, argv=[sys.executable, "-c", code, *arguments])

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
