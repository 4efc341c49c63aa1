"""One process of many: torch.distributed without the other processes.

    World            the traced process among others, and what a launcher would tell it
    groups.py        process groups of any size, and what their collectives answer
    parallel.py      DistributedDataParallel's C++ on fake tensors, and sharded tensors

The other processes are not run: each is assumed to do and to say what this one does. The variables
of a world are those that torchrun sets for every process (torch.distributed.run, section
"Environment Variables").
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from weighbridge.base.errors import UsageError
from weighbridge.base.memory import Bytes
from weighbridge.base.records import frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge.machines.accelerators.budget import budget

if TYPE_CHECKING:
    from weighbridge_lab.trace.report import DeviceTrace

PER_NODE = 8  # processes per machine by default: a board's GPUs
ADDRESS, PORT = "127.0.0.1", "29500"


@frozen_record
class World:
    """One process of many: `rank` of `size` processes, with `per_node` on each machine."""

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
    """Return a world of `size` processes. Raises UsageError if no launcher could start it."""
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
    """Set a launcher's environment variables inside the block; without a world, remove them, even
    if a launcher started us."""
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


# Processes of one machine: a card shows the sum of all that use it

CHOOSES = (
    *("LOCAL_RANK", "local_rank", "set_device", "Accelerator", "PartialState", "Trainer"),
    *("device_mesh", "current_device", "lightning", "CUDA_VISIBLE_DEVICES"),
)


def _chooses(path: str) -> bool:
    """Return whether a script's own text chooses the card of each of several processes."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:  # a module's name
        return False
    return any(word in text for word in CHOOSES)


def sharing(script: str, gpu: Any, second: Callable[[], Sequence[int]] | None) -> int:
    """Return the number of processes that use the first card: all of the machine's, unless the
    second process uses another card, which is traced too if the script's text does not show it."""
    if gpu.world is None or gpu.world.per_node < 2:
        return 1
    used: Sequence[int] = [index for index, tape in enumerate(gpu.tapes) if tape.storages]
    if not gpu.world.local_rank and used == [0]:
        used = () if second is None or _chooses(script) else second()
    return gpu.world.per_node if list(used) == [0] else 1


def enough_cards(gpu: str | None, processes: int | None) -> None:
    """Raise UsageError for more processes on a machine than the user's cards."""
    if gpu is None or processes is None:
        return
    chosen = budget(gpu, None, None)
    count = chosen.choice.count if chosen else 1
    if 1 < count < processes:
        enough = f"{re.sub(r'^[0-9]+ *x *|:[0-9]+$', '', gpu)}:{processes}"
        line = sentence("trace.few_cards", processes=processes, count=count, gpu=enough)
        raise UsageError(line, where=f"--gpu {gpu}")


def together(device: "DeviceTrace", driver: Bytes, processes: int) -> "DeviceTrace":
    """Return a card's trace with the memory of `processes` equal processes."""
    refusals = (replace(r, driver=_times(r.driver, processes)) for r in device.refusals)
    driver = _times(driver, processes)
    return replace(device, driver=driver, refusals=tuple(refusals), processes=processes)


def _times(size: Bytes, count: int) -> Bytes:
    return Bytes(*(count * n for n in size))
