"""Process groups without the other processes: torch's own fake backend, under the name asked for.

`init_process_group` makes a world of the size that the launcher told, with any backend or none;
groups within it (`new_group`, a device mesh's) follow torch's own code. No rendezvous, no store.
Collectives on GPU tensors have a device as NCCL's have, so objects travel over it.
"""

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import torch
import torch.multiprocessing
from torch import distributed as dist

from weighbridge.lab.trace.distributed.world import World, world
from weighbridge.lab.trace.notes import Notes
from weighbridge.lab.trace.patches import Patch

WITH = dist.is_available()  # some builds are without
c10d: Any = import_module("torch.distributed.distributed_c10d") if WITH else None
device_mesh: Any = import_module("torch.distributed.device_mesh") if WITH else None
BOTH = "cpu:fake,cuda:fake"
MEMBERS = {"nccl": "cuda:fake", "gloo": BOTH, "mpi": BOTH}
NCCL = 2 << 32 | 27 << 16 | 5  # the version that a CPU wheel says: 2.27.5, torch 2.9's
OTHERS = (
    "rank {0.rank} of {0.size} is traced: the others are not run, and taken to do and to say the "
    "same"
)
ALONE = "init_process_group without a launcher: a world of one process (--world-size sets another)"


class Groups:
    """Process groups of a world in which only this process runs. `close` ends what the program
    left."""

    def __init__(self, world: World | None, notes: Notes) -> None:
        self.world = world
        self.notes = notes
        self.before = sys.excepthook

    def patches(self) -> Iterator[Patch]:
        if not WITH:
            return
        init = self._init(c10d.init_process_group)
        yield Patch(device_mesh, "init_process_group", init)
        for owner in (dist, c10d):
            yield Patch(owner, "init_process_group", init)
            yield Patch(owner, "is_nccl_available", lambda: True)
            for name, answer in _objects().items():
                yield Patch(owner, name, answer)
        yield Patch(c10d, "_new_process_group_helper", _group(c10d._new_process_group_helper))
        if "_nccl_version" not in vars(torch._C):
            yield Patch(torch._C, "_nccl_version", lambda: NCCL)
            yield Patch(torch._C, "_nccl_version_suffix", bytes)
        yield Patch(torch.multiprocessing, "spawn", self._spawn)

    def close(self) -> None:
        if WITH and dist.is_initialized():
            dist.destroy_process_group()
        sys.excepthook = self.before

    def _init(self, init: Callable[..., None]) -> Callable[..., None]:
        def init_process_group(  # noqa: PLR0913  torch's own arguments
            backend: str | None = None,
            init_method: str | None = None,
            timeout: Any = None,
            world_size: int = -1,
            rank: int = -1,
            store: Any = None,
            group_name: str = "",
            pg_options: Any = None,
            device_id: Any = None,
            **_: Any,
        ) -> None:
            here = self._world(world_size, rank)
            from torch.testing._internal.distributed.fake_pg import FakeStore

            init(
                backend,
                timeout=timeout or c10d.default_pg_timeout,
                world_size=here.size,
                rank=here.rank,
                store=FakeStore(),
                group_name=group_name,
            )

        return init_process_group

    def _world(self, size: int, rank: int) -> World:
        """Choose the world: what the program says wins, as it does over the environment."""
        if size > 0:
            here = world(size, max(rank, 0))
        elif self.world is not None:
            here = self.world
        else:
            here = world(1)
            self.notes(ALONE)
        if here.size > 1:
            self.notes(OTHERS.format(here))
        return here

    def _spawn(self, fn: Callable[..., Any], args: Any = (), nprocs: int = 1, **_: Any) -> None:
        """torch.multiprocessing.spawn: one of the processes, here."""
        here = self.world = self.world or world(nprocs)
        if here.size > 1:
            self.notes(OTHERS.format(here))
        fn(here.local_rank, *args)


def _group(make: Callable[..., Any]) -> Callable[..., Any]:
    def made(
        size: int,
        rank: int,
        ranks: list[int],
        backend: Any,
        store: Any,
        group_name: Any,
        *_: Any,
        **known: Any,
    ) -> Any:
        options = {k: v for k, v in known.items() if k in ("timeout", "pg_tag", "group_desc")}
        group, store = make(size, rank, ranks, _fake(str(backend)), store, group_name, **options)
        if group in c10d._world.pg_map:
            group._set_default_backend(dist.ProcessGroup.BackendType.CUSTOM)
            c10d._world.pg_map[group] = (backend, store)
        return group, store

    return made


def _objects() -> dict[str, Callable[..., Any]]:
    """Answer for objects that travel: every process has the one that this process has. Their bytes
    are left out."""

    def size(group: Any = None) -> int:
        members: int = dist.get_world_size(group)
        return members

    def gathered(object_list: list[Any], obj: Any, group: Any = None, *_: Any, **__: Any) -> None:
        object_list[: size(group)] = [obj] * size(group)

    def to_one(
        obj: Any, object_gather_list: Any = None, dst: int = 0, group: Any = None, **_: Any
    ) -> None:
        if object_gather_list:
            gathered(object_gather_list, obj, group)

    def broadcast(object_list: list[Any], *_: Any, **__: Any) -> None:
        pass

    def scattered(
        scatter_object_output_list: list[Any],
        scatter_object_input_list: Any = None,
        src: int = 0,
        group: Any = None,
        **_: Any,
    ) -> None:
        objects = scatter_object_input_list or [None] * size(group)
        scatter_object_output_list[0] = objects[dist.get_rank(group)]

    return {
        "all_gather_object": gathered,
        "gather_object": to_one,
        "broadcast_object_list": broadcast,
        "scatter_object_list": scattered,
    }


def _fake(backend: str) -> Any:
    if ":" in backend:
        devices = (pair.partition(":")[0] for pair in backend.split(","))
        return ",".join(f"{device}:fake" for device in devices)
    return MEMBERS.get(backend, BOTH)
