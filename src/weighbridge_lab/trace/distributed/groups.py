"""Process groups without the other processes: torch's own fake backend, under the name asked for.

`init_process_group` makes a world of the size that the launcher told, with any backend or none;
groups within it (`new_group`, a device mesh's) follow torch's own code. No rendezvous, no store.
Collectives on GPU tensors have a device as NCCL's have, so objects travel over it.

They answer as if each of the other processes said what this one does. Buffers are the program's
own; NCCL's are outside of PyTorch's allocator, but for the flat buffer of a gather into a list, or
of a scatter from one (ProcessGroupNCCL.cpp: newLikeFlat in `allgather` and `reduce_scatter`). Small
tensors of known values keep them (`looks`), so counts, sizes and objects that travel are what they
would be; a sum is that of `size` equal parts.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import distributed as dist
from torch import multiprocessing
from torch._subclasses.fake_tensor import unset_fake_temporarily

from weighbridge_lab.trace.distributed import World, world
from weighbridge_lab.trace.patches import Notes, Patch
from weighbridge_lab.trace.shadows import cast, lost, shadow

WITH = dist.is_available()  # some builds lack it
c10d: Any = import_module("torch.distributed.distributed_c10d") if WITH else None
device_mesh: Any = import_module("torch.distributed.device_mesh") if WITH else None
BOTH = "cpu:fake,cuda:fake"
MEMBERS = {"nccl": "cuda:fake", "gloo": BOTH, "mpi": BOTH}
NCCL = 2 << 32 | 27 << 16 | 5  # the version that a CPU wheel reports: 2.27.5, torch 2.9's
OTHERS = (
    "rank {0.rank} of {0.size} is traced: the others are not run, and taken to do and to say the "
    "same"
)
ALONE = "init_process_group without a launcher: a world of one process (--world-size sets another)"


class Groups:
    """Process groups of a world in which only this process runs. `close` removes what the program
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
        yield Patch(multiprocessing, "spawn", self._spawn)

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
        """Return the world; the program's own settings override the environment."""
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
        """Stand in for torch.multiprocessing.spawn: run one of the processes in this one."""
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
    """Return stand-ins for collectives of objects: every process has this one's object. Their bytes
    are not counted."""

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


# Collectives

Tensors = Sequence[torch.Tensor]
Answer = Callable[..., Any]
SUM = 0  # c10d::ReduceOp::RedOpType


def collectives() -> dict[Any, Answer]:
    """Return stand-ins, by collective of torch.ops.c10d, that need no network."""
    if not dist.is_available():
        return {}
    answers: dict[Any, Answer] = {}
    for name, move in MOVES.items():
        packet = getattr(torch.ops.c10d, name, None)
        if packet is not None:
            answers[packet.default] = _answer(move, len(packet.default._schema.returns))
    # the kernel returns its argument; the one for fake tensors would make another
    answers[torch.ops._c10d_functional.wait_tensor.default] = _same
    return answers


def _answer(move: Callable[..., Any], returns: int) -> Answer:
    def answer(*args: Any, **_: Any) -> Any:
        with torch.no_grad():
            out = move(*args)
        if not returns:
            return None
        work = _done(list(_flat(out)))
        return (out, work) if returns == 2 else work

    return answer


def _done(tensors: list[torch.Tensor]) -> Any:
    """Return a finished Work with these tensors as its result."""
    future: Any = torch.futures.Future()
    future.set_result(tensors)
    bindings: Any = torch._C._distributed_c10d
    return bindings._create_work_from_future(future).boxed()


def _flat(out: Any) -> Tensors:
    if isinstance(out, torch.Tensor):
        return [out]
    return [t for part in out or () for t in _flat(part)]


def _process_group(group: Any) -> Any:
    return dist.ProcessGroup.unbox(group)


def _same(out: Any, *_: Any) -> Any:
    return out


def _reduced(tensors: Tensors, group: Any, how: Any, *_: Any) -> Tensors:
    for tensor in tensors:
        if shadow(tensor) is not None and how.op() == SUM:
            tensor.mul_(_process_group(group).size())
    return tensors


def _gathered(outs: Sequence[Tensors], ins: Tensors, *_: Any) -> Sequence[Tensors]:
    for several, one in zip(outs, ins, strict=False):
        if several and all(t.numel() == one.numel() for t in several):
            one.new_empty((len(several), *one.shape))  # the flat buffer
        for t in several:
            _put(t, one)
    return outs


def _listed(outs: Sequence[Tensors], ins: Tensors, *_: Any) -> Sequence[Tensors]:
    """Stand in for a gather: put the results at their places, without a buffer."""
    for t, one in ((t, one) for many, one in zip(outs, ins, strict=False) for t in many):
        _put(t, one)
    return outs


def _gathered_flat(out: torch.Tensor, one: torch.Tensor, *_: Any) -> torch.Tensor:
    known = shadow(one)
    lost(out)
    if known is not None and one.numel():
        with unset_fake_temporarily():
            cast(out, known.reshape(-1).repeat(out.numel() // one.numel()).reshape(out.shape))
    return out


def _scattered(outs: Tensors, ins: Sequence[Tensors], group: Any, *_: Any) -> Tensors:
    rank = _process_group(group).rank()
    for out, several in zip(outs, ins, strict=False):
        if several:
            _put(out, several[rank])
    return outs


def _reduce_scattered(outs: Tensors, ins: Sequence[Tensors], group: Any, *_: Any) -> Tensors:
    for one, several in zip(outs, ins, strict=False):
        if all(t.numel() == one.numel() for t in several):
            one.new_empty((len(several), *one.shape))  # the flat buffer
    return _scattered(outs, ins, group)


def _exchanged(outs: Tensors, ins: Tensors, *_: Any) -> Tensors:
    for out, one in zip(outs, ins, strict=False):
        _put(out, one)
    return outs


def _exchanged_flat(out: torch.Tensor, one: torch.Tensor, *_: Any) -> torch.Tensor:
    _put(out, one)
    return out


def _put(out: torch.Tensor, value: torch.Tensor) -> None:
    if out.shape == value.shape:
        out.copy_(value)


MOVES: dict[str, Callable[..., Any]] = {
    "allreduce_": _reduced,
    "allreduce_coalesced_": _same,
    "reduce_": _reduced,
    "broadcast_": _same,
    "allgather_": _gathered,
    "allgather_coalesced_": _same,
    "allgather_into_tensor_coalesced_": _same,
    "_allgather_base_": _gathered_flat,
    "gather_": _listed,
    "scatter_": _scattered,
    "reduce_scatter_": _reduce_scattered,
    "reduce_scatter_tensor_coalesced_": _same,
    "_reduce_scatter_base_": _same,
    "alltoall_": _exchanged,
    "alltoall_base_": _exchanged_flat,
    "send": _same,
    "recv_": _same,
    "recv_any_source_": _same,
    "barrier": _same,
    "monitored_barrier_": _same,
}
