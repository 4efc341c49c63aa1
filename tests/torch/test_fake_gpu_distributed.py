"""One process of many on the fake GPU: figures worked by hand, and the same programs run for real on
the CPU: DistributedDataParallel on gloo alone, sharded modules on torch's fake backend."""

import gc
import os
import sys

import pytest
import torch
from torch import distributed as dist
from torch import nn

from tests.cases import each
from tests.torch.programs import WIDTH, Block, real, recorded
from weighbridge.base.errors import UsageError
from weighbridge_lab.trace import guard
from weighbridge_lab.trace.gpu import FakeGPU

pytestmark = [
    pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not()),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning"),
]
SQUARE = WIDTH * WIDTH * 4  # bytes of a square matrix


@pytest.fixture
def alone():
    """A real world on the CPU, of any backend, ended afterwards."""

    def start(backend, size):
        from torch.testing._internal.distributed.fake_pg import FakeStore

        gc.collect()  # what earlier tests left is not to be released in a recording
        store = FakeStore() if backend == "fake" else dist.HashStore()
        dist.init_process_group(backend, store=store, rank=0, world_size=size)

    hook = sys.excepthook  # which torch replaces, to put the rank before each line
    yield start
    sys.excepthook = hook
    if dist.is_initialized():
        dist.destroy_process_group()


# Groups and collectives


def test_a_world_of_any_size_and_its_environment():
    before = sys.excepthook
    with FakeGPU("h100", world_size=16, rank=11) as gpu:
        told = [os.environ[n] for n in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")]
        assert told == ["11", "3", "16", "8"]
        assert torch.cuda.device_count() == 8
        dist.init_process_group("nccl")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        assert (dist.get_rank(), dist.get_world_size(), dist.get_backend()) == (11, 16, "nccl")
        mesh = dist.init_device_mesh("cuda", (2, 8), mesh_dim_names=("across", "within"))
        assert mesh["within"].get_local_rank() == 3
        assert mesh["across"].get_local_rank() == 1
        assert dist.get_world_size(dist.new_group([10, 11])) == 2
        placed = torch.ones(2).cuda(), torch.ones(2).to("cuda"), torch.tensor(1, device="cuda")
        assert {t.device.index for t in placed} == {3}
    assert not dist.is_initialized()
    assert sys.excepthook is before
    assert not gpu.world.variables().keys() & os.environ.keys()
    assert [bool(t.storages) for t in gpu.tapes] == [i == 3 for i in range(8)]
    assert "rank 11 of 16 is traced" in gpu.notes.lines[0]


@pytest.mark.parametrize("backend", ["nccl", "gloo", "cpu:gloo,cuda:nccl", None])
def test_others_say_what_this_one_says(backend):
    with FakeGPU("h100", world_size=4):
        dist.init_process_group(backend)
        count = torch.tensor(5, device="cuda")
        dist.all_reduce(count)
        assert count.item() == 20
        dist.all_reduce(count, op=dist.ReduceOp.MAX)
        assert count.item() == 20
        counts = [torch.zeros_like(count) for _ in range(4)]
        dist.all_gather(counts, count)
        assert [int(c) for c in counts] == [20] * 4
        flat = torch.zeros(4, dtype=torch.int64, device="cuda")
        dist.all_gather_into_tensor(flat, count[None])
        assert flat.tolist() == [20] * 4
        objects = [None] * 4
        dist.all_gather_object(objects, {"rank": 0})
        assert objects == [{"rank": 0}] * 4
        dist.barrier()
        assert dist.all_reduce(count, async_op=True).wait()


def test_a_gather_into_a_list_has_a_flat_buffer():
    with FakeGPU("h100", world_size=4) as gpu:
        dist.init_process_group("nccl")
        one = torch.ones(WIDTH, WIDTH, device="cuda")
        several = [torch.empty_like(one) for _ in range(4)]
        assert torch.cuda.max_memory_allocated() == 5 * SQUARE
        dist.all_gather(several, one)
        assert torch.cuda.max_memory_allocated() == 9 * SQUARE
        assert torch.cuda.memory_allocated() == 5 * SQUARE
    assert gpu.devices[0].allocated.allocated == 9 * SQUARE


def test_without_a_launcher_a_world_of_one():
    with FakeGPU("h100") as gpu:
        assert "RANK" not in os.environ
        dist.init_process_group("nccl")
        assert dist.get_world_size() == 1
    assert "without a launcher" in gpu.notes.lines[0]


def test_spawned_processes_are_one():
    ran = []
    with FakeGPU("h100", count=4):
        torch.multiprocessing.spawn(
            lambda rank, size: (
                dist.init_process_group("nccl", rank=rank, world_size=size),
                ran.append((rank, dist.get_world_size())),
            ),
            args=(4,),
            nprocs=4,
        )
    assert ran == [(0, 4)]


@pytest.mark.parametrize("world", [(0, 0, None), (4, 4, None), (4, -1, None), (6, 0, 4)])
def test_worlds_that_no_launcher_starts(world):
    size, rank, each = world
    with pytest.raises(UsageError):
        FakeGPU("h100", world_size=size, rank=rank, per_node=each)


# DistributedDataParallel


def replicated(device, *, accumulate=1, **settings):
    blocks = nn.Sequential(*(Block() for _ in range(16)))
    model = nn.parallel.DistributedDataParallel(blocks.to(device), **settings)
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, foreach=True)
    for _ in range(2):
        for _ in range(accumulate - 1):
            with model.no_sync():
                model(torch.ones(64, WIDTH, device=device)).sum().backward()
        model(torch.ones(64, WIDTH, device=device)).sum().backward()
        opt.step()
        opt.zero_grad()


def test_buckets_by_hand():
    """32 matrices of 2 MiB: one bucket of all at first; then the first that reaches 1 MiB, and
    those that reach 25: 2, 26, 26, and the 10 MiB that are left."""
    with FakeGPU("h100", world_size=8) as gpu:
        dist.init_process_group("nccl")
        replicated("cuda")
    made = [s for s in gpu.tape.storages if s.op == "aten.empty.memory_format"]
    mib = [s.nbytes / 2**20 for s in made if s.role == "gradient" and s.nbytes > 4096]
    assert mib == [64, 2, 26, 26, 10]


@pytest.mark.parametrize(
    "settings",
    each(
        3,
        [
            {},
            {"gradient_as_bucket_view": True},
            {"bucket_cap_mb": 4, "gradient_as_bucket_view": True},
            {"static_graph": True},
            {"accumulate": 2},
            {"find_unused_parameters": True},
        ],
    ),
    ids=lambda settings: ", ".join(settings) or "plain",
)
def test_replicas_allocate_as_in_a_real_run(settings, alone):
    with FakeGPU("h100", world_size=8) as gpu:
        dist.init_process_group("nccl")
        replicated("cuda", **settings)
    alone("gloo", 1)
    # gloo's own thread lets go of a bucket when it is done with it: now and then later than it does
    # on the average, so that a free is seen behind the next request
    assert any(recorded(gpu.tape) == real(replicated, **settings) for _ in range(3))


# Sharded modules


def sharded(device, *, optimizer="sgd", clip=False, **settings):
    from torch.distributed.fsdp import fully_shard

    mesh = dist.init_device_mesh(device, (8,))
    model = nn.Sequential(*(Block() for _ in range(3))).to(device)
    for block in model:
        fully_shard(block, mesh=mesh, **settings)
    fully_shard(model, mesh=mesh, **settings)
    kinds = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
    opt = kinds[optimizer](model.parameters(), lr=0.1, foreach=True)
    for _ in range(2):
        model(torch.ones(64, WIDTH, device=device)).sum().backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        opt.step()
        opt.zero_grad()


def test_shards_by_hand():
    """A block has two matrices of 2 MiB: 512 KiB on each of 8 ranks. One is gathered at a time in a
    buffer of 4 MiB, and copied out into two of 2; the root has none of its own."""
    with FakeGPU("h100", world_size=8) as gpu:
        dist.init_process_group("nccl")
        sharded("cuda", optimizer="adamw")
    roles = dict.fromkeys(("weight", "gradient", "optimizer state"), 0)
    for s in gpu.tape.storages:
        if s.role in roles and s.nbytes > 4096 and s.nbytes < 2**20:
            roles[s.role] += s.nbytes
    block = 512 << 10
    assert roles == {"weight": 3 * block, "gradient": 6 * block, "optimizer state": 6 * block}
    forward = [s for s in gpu.tape.storages if s.phase == "forward"]
    assert [s.nbytes >> 20 for s in forward if s.nbytes >= 2**20 and "workspace" not in s.op][
        :6
    ] == [4, 2, 2, 4, 2, 2]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"reshard_after_forward": False},
        {"optimizer": "adamw"},
        {"optimizer": "adamw", "clip": True},
    ],
    ids=lambda settings: ", ".join(settings) or "plain",
)
def test_shards_allocate_as_in_a_real_run(settings, alone):
    with FakeGPU("h100", world_size=8) as gpu:
        dist.init_process_group("nccl")
        sharded("cuda", **settings)
    alone("fake", 8)
    assert running(recorded(gpu.tape)) == running(real(sharded, **settings))


def running(events):
    """Up to the last request: what is released at the end waits for the collector."""
    last = max(i for i, nbytes in enumerate(events) if nbytes > 0)
    return events[: last + 1]


def test_shards_from_the_meta_device():
    from torch.distributed.fsdp import fully_shard

    with FakeGPU("h100", world_size=8) as gpu:
        dist.init_process_group("nccl")
        with torch.device("meta"):
            model = nn.Sequential(*(Block() for _ in range(2)))
        for block in model:
            fully_shard(block)
        fully_shard(model)
        model.to_empty(device="cuda")
        assert torch.cuda.memory_allocated() == 2 * 2 * 2 * SQUARE // 8
        model(torch.ones(64, WIDTH, device="cuda")).sum().backward()
        assert model[0].up.weight.grad.to_local().shape == (2 * WIDTH // 8, WIDTH)
    assert gpu.recorder.looks.told == []


def test_tensor_parallel_by_hand():
    """Each of two ranks holds a half of a 512 x 1024 and a 1024 x 512 matrix; what propagation of
    shapes makes on the way is not counted."""
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    with FakeGPU("h100", world_size=2) as gpu:
        mesh = dist.init_device_mesh("cuda", (2,))
        model = nn.Sequential(Block()).cuda()
        plan = {"0.up": ColwiseParallel(), "0.down": RowwiseParallel()}
        parallelize_module(model, mesh, plan)
        assert torch.cuda.memory_allocated() == 2 * SQUARE
        model(torch.ones(64, WIDTH, device="cuda")).sum().backward()
    within = [s.nbytes for s in gpu.tape.storages if s.module == "0.up" and s.phase == "forward"]
    assert within[0] == 64 * WIDTH * 4, "the half of its 1024 columns"
    gradients = [s.nbytes for s in gpu.tape.storages if s.role == "gradient"]
    assert gradients == [SQUARE, SQUARE]


def test_the_optimizer_of_shards_has_states_of_all():
    """accelerate finds the parameters of an optimizer by their addresses, before and after they are
    cut (fsdp2_switch_optimizer_parameters): each has its own."""
    accelerate = pytest.importorskip("accelerate")
    from accelerate.utils import FullyShardedDataParallelPlugin

    with FakeGPU("h100", world_size=8, rank=0):
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            auto_wrap_policy="transformer_based_wrap",
            cpu_ram_efficient_loading=False,
        )
        plugin.transformer_cls_names_to_wrap = ["Block"]
        accelerator = accelerate.Accelerator(fsdp_plugin=plugin, mixed_precision="bf16")
        net = nn.Sequential(Block(), Block())
        net, optimizer = accelerator.prepare(net, torch.optim.AdamW(net.parameters()))
        accelerator.backward(net(torch.zeros(4, WIDTH, device="cuda")).sum())
        optimizer.step()
        stepped = [p for group in optimizer.param_groups for p in group["params"]]
        assert len({id(p) for p in stepped}) == len(list(net.parameters()))
        assert len(optimizer.state) == len(stepped)
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


def test_a_world_leaves_python_s_way_to_show_errors():
    before = sys.excepthook
    with FakeGPU("t4", world_size=1):
        dist.init_process_group("nccl")
        assert sys.excepthook is not before
    assert sys.excepthook is before
