"""One process of many: torch.distributed where the others are not there.

    World            the traced process among others, and what a launcher would tell it
    groups.py        process groups of any size, and what their collectives answer
    parallel.py      DistributedDataParallel's C++ on fake tensors, and sharded tensors

The other processes are not run: each is taken to do and to say what this one does.
The variables of a world are those that torchrun sets for every process (torch.distributed.run,
section "Environment Variables").
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from weighbridge.base.errors import UsageError
from weighbridge.base.records import dataclass
from weighbridge.base.sentences import sentence

PER_NODE = 8  # processes of a node, where nobody says: a board's GPUs
ADDRESS, PORT = "127.0.0.1", "29500"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One process of many: `rank` of `size`, `per_node` of them on each machine."""

    size: int
    rank: int
    per_node: int

    @property
    def local_rank(self) -> int:
        return self.rank % self.per_node

    @property
    def node(self) -> int:
        return self.rank // self.per_node

    def variables(self) -> dict[str, str]:
        numbers = {
            "RANK": self.rank,
            "LOCAL_RANK": self.local_rank,
            "WORLD_SIZE": self.size,
            "LOCAL_WORLD_SIZE": self.per_node,
            "GROUP_RANK": self.node,
            "GROUP_WORLD_SIZE": self.size // self.per_node,
            "ROLE_RANK": self.rank,
            "ROLE_WORLD_SIZE": self.size,
            "TORCHELASTIC_RESTART_COUNT": 0,
            "TORCHELASTIC_MAX_RESTARTS": 0,
        }
        words = {
            "MASTER_ADDR": ADDRESS,
            "MASTER_PORT": PORT,
            "ROLE_NAME": "default",
            "TORCHELASTIC_RUN_ID": "none",
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
        return {name: str(value) for name, value in numbers.items()} | words


def world(size: int, rank: int = 0, per_node: int | None = None) -> World:
    """Make a world of `size` processes. Raises UsageError where no launcher could start that."""
    if size < 1:
        raise UsageError(sentence("world.least"), where=f"world_size={size}")
    if not 0 <= rank < size:
        raise UsageError(sentence("world.rank", size=size, last=size - 1), where=f"rank={rank}")
    if per_node is None:
        per_node = size if size <= PER_NODE or size % PER_NODE else PER_NODE
    if per_node < 1 or size % per_node:
        raise UsageError(sentence("world.per_node", size=size, count=per_node))
    return World(size=size, rank=rank, per_node=per_node)


@contextmanager
def launched(world: World | None) -> Iterator[None]:
    """Set the environment as the launcher makes it, inside. Without a launcher it is that of a
    program which nobody launched, whoever launched us."""
    names = World(size=1, rank=0, per_node=1).variables()
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ.update(world.variables() if world else {})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
