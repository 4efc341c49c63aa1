"""Training steps of one rank of eight beside the real wrappers on a fake process group: DDP, FSDP1
and FSDP2 of a small Llama, their peaks phase by phase; and checkpoints that keep some, or elsewhere."""

import warnings
from functools import partial
from types import MethodType
from unittest.mock import patch

import pytest

pytest.importorskip("torch", reason="the oracle trains transformers' classes")
pytest.importorskip("transformers", reason="the oracle trains transformers' classes")

import torch
from torch import distributed as dist

import weighbridge
from tests.cases import each
from tests.torch import training_oracle
from tests.torch.training_oracle import Asked, _Real, named, ours
from tests.torch.training_oracle import real as plainly
from weighbridge.training.sharding import choice
from weighbridge_lab.trace import guard

pytestmark = [
    pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not()),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning"),
]
RANKS = 8
CLOSE = 0.02
STEP = ("load", "forward", "loss", "backward", "step")
LLAMA = {
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 4096,
}
BF16, FP32 = torch.bfloat16, torch.float32
WIDE = {"param_dtype": BF16, "reduce_dtype": FP32}  # of torchtitan; accelerate reduces in bfloat16


class Rank(_Real):
    """`wrap` gives the wrapper of the model that is on the device. `waits`: only the last of two
    micro-batches reduces."""

    wrap = waits = None

    def placed(self, config, owner):
        return self.wrap(super().placed(config, owner))

    def called(self, model):
        if not self.waits:
            return super().called(model)
        count = iter(range(99))

        def call(**given):
            model.set_requires_gradient_sync(next(count) % 2 == 1)
            return model(**given)

        return call


def real(wrap, *, early=True, waits=False, config=LLAMA, ranks=RANKS, **settings):
    """`early`: the model is wrapped on the host, and comes to the device shard by shard."""
    warnings.simplefilter("ignore")
    asked = Asked(**settings, **({"prepare": wrap} if early else {}))
    made, owner = named("llama", config)
    with weighbridge.FakeGPU(asked.gpu, world_size=ranks, rank=0) as card:
        dist.init_process_group("nccl")
        run = Rank(card, asked)
        run.wrap = (lambda model: model) if early else wrap
        run.waits = waits
        return run.train(made, owner)


def sharded(policy=None, **more):
    """Shard as PyTorch's tutorial does: each layer, then the whole."""

    def wrap(model):
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        usual = {"mesh": mesh(dist.get_world_size()), **more}
        usual |= {"mp_policy": MixedPrecisionPolicy(**policy)} if policy else {}
        for layer in model.model.layers:
            fully_shard(layer, **usual)
        fully_shard(model, **usual)
        if "offload_policy" in more:
            model.to = lambda *_: model
        return model

    return wrap


def mesh(ranks):
    """Make a mesh of groups of a node's ranks, where there are several."""
    if ranks <= RANKS:
        return dist.init_device_mesh("cuda", (ranks,))
    shape = ranks // RANKS, RANKS
    return dist.init_device_mesh("cuda", shape, mesh_dim_names=("across", "within"))


def accelerated(dtype=None):
    """Shard as accelerate does: embedding and head are units; everything in 16 bits, under
    autocast."""

    def wrap(model):
        from accelerate.utils import convert_outputs_to_fp32
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        usual = {"mesh": mesh(dist.get_world_size())}
        if dtype is not None:
            usual["mp_policy"] = MixedPrecisionPolicy(dtype, dtype, dtype)
            cast = torch.autocast("cuda", dtype)(model.forward.__func__)
            model.forward = MethodType(convert_outputs_to_fp32(cast), model)
        for layer in model.model.layers:
            fully_shard(layer, **usual)
        fully_shard(model.model.embed_tokens, **usual)
        fully_shard([model.model.norm, model.lm_head], reshard_after_forward=False, **usual)
        return fully_shard(model, **usual)

    return wrap


def flat(policy=None, **more):
    """FSDP1, by the layers' class."""

    def wrap(model):
        from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecision
        from torch.distributed.fsdp.wrap import ModuleWrapPolicy

        return FullyShardedDataParallel(
            model,
            auto_wrap_policy=ModuleWrapPolicy({type(model.model.layers[0])}),
            device_id=torch.cuda.current_device(),
            mixed_precision=MixedPrecision(**policy) if policy else None,
            **more,
        )

    return wrap


def mine(shard, **settings):
    usual = {"data_parallel_size": RANKS, "config": LLAMA} | settings
    return ours("llama", usual.pop("config"), shard=shard, **usual)


def apart(there, here, *, close=CLOSE, skip=()):
    """Phases whose peaks are further apart."""
    steps = [m for m in here.moments if m[0] in STEP]
    pairs = list(zip(there.moments, steps, strict=True))
    assert [a[0] for a, _ in pairs] == [b[0] for _, b in pairs]
    return [
        f"{a[0]} {i}: {a[2]:,} there, {b[2]:,} here"
        for i, (a, b) in enumerate(pairs)
        if a[0] not in skip and abs(a[2] - b[2]) > close * a[2]
    ]


def reserved(seen):
    return [m[3] for m in seen.moments if m[0] in STEP]


@pytest.mark.parametrize(
    "settings",
    [{}, {"precision": "fp32", "accumulation": 2}],
    ids=lambda settings: ", ".join(settings) or "plain",
)
def test_replicas(settings):
    there = real(nn_ddp, early=False, **settings)
    here = mine("ddp", **settings)
    assert apart(there, here, close=0.01) == []  # blocks of states are not split alike
    assert reserved(here) == pytest.approx(reserved(there), rel=CLOSE)


def nn_ddp(model):
    return torch.nn.parallel.DistributedDataParallel(model)


RAGGED = {**LLAMA, "hidden_size": 456, "head_dim": 64, "intermediate_size": 1210}


@pytest.mark.parametrize(
    "settings",
    [{"accumulation": 2}, {"checkpointing": True}, {"config": RAGGED}],
    ids=lambda settings: ", ".join(settings) or "plain",
)
def test_shards(settings):
    there, here = real(sharded(), **settings), mine("fsdp2", **settings)
    assert apart(there, here, close=0.001) == []
    assert reserved(here) == pytest.approx(reserved(there), rel=CLOSE)


def test_shards_in_mixed_precision():
    there = real(sharded(WIDE), precision="fp32")
    here = mine("fsdp2", precision="bf16-mixed")
    assert apart(there, here, close=0.01) == []
    assert reserved(here) == pytest.approx(reserved(there), rel=CLOSE)


def undivided(model):
    """torchtitan's wrapper divides gradients by the tokens itself."""
    from torch.distributed.fsdp import FSDPModule

    wrapped = sharded(WIDE)(model)
    for module in wrapped.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
    return wrapped


def test_shards_of_one_rank():
    """A group of one gathers nothing, as torchtitan has it on one device."""
    there = real(undivided, precision="fp32", ranks=1)
    here = mine("fsdp2", precision="bf16-mixed", data_parallel_size=1)
    assert apart(there, here, close=0.01) == []


def test_groups_of_shards():
    """Two nodes: what is reduced between them in 16 bits stays to the end of backward."""
    settings = {"framework": "trainer"}
    there = real(accelerated(BF16), ranks=2 * RANKS, precision="fp32", **settings)
    here = mine("hsdp", precision="bf16-mixed", data_parallel_size=2 * RANKS, **settings)
    assert apart(there, here) == []
    assert reserved(here) == pytest.approx(reserved(there), rel=CLOSE)


def test_shards_on_the_host():
    from torch.distributed.fsdp import CPUOffloadPolicy

    there = real(sharded(WIDE, offload_policy=CPUOffloadPolicy(pin_memory=False)), precision="fp32")
    here = mine("fsdp2", offload="params", precision="bf16-mixed")
    assert apart(there, here, close=0.01) == []
    parameters = here.model.trainable
    assert here.model.host == 2 * 4 * parameters / RANKS
    assert here.model.elsewhere["host"] == pytest.approx(2 * 4 * parameters / RANKS, rel=0.001)


@pytest.mark.parametrize(("mixed", "accumulation"), [(True, 2), (False, 1)])
def test_shards_of_the_trainer(mixed, accumulation):
    """Micro-batches wait: whole gradients are there between them."""
    usual = {"framework": "trainer", "accumulation": accumulation}
    there = real(
        accelerated(BF16 if mixed else None),
        waits=accumulation > 1,
        precision="fp32" if mixed else "bf16",
        **usual,
    )
    here = mine("fsdp2", precision="bf16-mixed" if mixed else "bf16", **usual)
    assert apart(there, here) == []
    assert reserved(here) == pytest.approx(reserved(there), rel=CLOSE)
    ends = [a[1] for a in there.moments if a[0] == "backward"]
    if accumulation == 2:
        assert ends[0] > ends[1] * 1.5


TIED = {**LLAMA, "tie_word_embeddings": True}
LORA = {"r": 16, "target_modules": "all-linear"}


def as_accelerate(release, **lora):
    """accelerate's own wrapper around PEFT's model, at two of its versions."""

    def wrap(model):
        import peft
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        made = peft.get_peft_model(model.to(BF16), peft.LoraConfig(**lora))
        usual = {"mesh": mesh(dist.get_world_size())}
        usual["mp_policy"] = MixedPrecisionPolicy(BF16, BF16, BF16)
        inner = made.get_base_model()
        for layer in inner.model.layers:
            fully_shard(layer, **usual)
        if release >= (1, 14):
            embedding, head = inner.model.embed_tokens, inner.lm_head
            tied = embedding.weight is head.weight
            if not tied:
                fully_shard(embedding, **usual)
            tail = [inner.model.norm, embedding, head] if tied else [inner.model.norm, head]
            fully_shard(tail, reshard_after_forward=False, **usual)
            fully_shard(made, **usual)
        else:
            fully_shard(made, reshard_after_forward=True, **usual)
        made.head_reads = inner.model
        if release < (1, 13):
            made.to(FP32)
        return made

    return wrap


@pytest.mark.parametrize("release", each(2, [*map(pytest.param, [(1, 12), (1, 13), (1, 15)])]))
@pytest.mark.parametrize("config", [LLAMA, TIED], ids=["apart", "tied"])
def test_shards_of_adapters(release, config):
    there = real(
        as_accelerate(release, **LORA), precision="fp32", framework="trainer", config=config
    )
    here = mine(
        "fsdp2",
        precision="bf16-mixed",
        framework="trainer",
        accelerate_version="{}.{}".format(*release),
        config=config,
        method="lora",
        lora_r=16,
        lora_targets=("all-linear",),
    )
    assert apart(there, here, skip=("load",)) == []


@pytest.mark.parametrize("mixed", [True, False])
def test_flat_shards(mixed):
    """The trace makes gradients of flat parameters on the stream of the backward, so nothing is said
    of what is reserved."""
    precision = ("fp32", "bf16-mixed") if mixed else ("bf16", "bf16")
    there = real(flat(WIDE if mixed else None), precision=precision[0])
    here = mine("fsdp1", precision=precision[1])
    assert apart(there, here, close=0.05, skip=("load",)) == []


DEEP = {**LLAMA, "num_hidden_layers": 8, "vocab_size": 512}
WHOLE = {"reshard_after_forward": False}


@pytest.mark.parametrize("ahead", each(2, ["pre", "post", "none"]))
@pytest.mark.parametrize("strategy", ["FULL_SHARD", "SHARD_GRAD_OP"])
def test_when_flat_shards_are_gathered(ahead, strategy):
    from torch.distributed.fsdp import BackwardPrefetch, ShardingStrategy

    prefetch = None if ahead == "none" else BackwardPrefetch[f"BACKWARD_{ahead.upper()}"]
    how = {"backward_prefetch": prefetch, "sharding_strategy": ShardingStrategy[strategy]}
    usual = {"precision": "bf16", "config": DEEP}
    there = real(flat(**how), **usual)
    whole = WHOLE if strategy == "SHARD_GRAD_OP" else {}
    here = mine("fsdp1", backward_prefetch=ahead, **whole, **usual)
    assert apart(there, here, close=0.01, skip=("load",)) == []


def test_shards_that_stay_whole_between_passes():
    there = real(sharded(reshard_after_forward=False), config=DEEP)
    here = mine("fsdp2", config=DEEP, **WHOLE)
    assert apart(there, here, close=0.005) == []
    assert apart(there, mine("fsdp2", config=DEEP), close=0.1)


@pytest.mark.parametrize("reduced", ["bfloat16", "float32"])
def test_what_shards_are_reduced_in(reduced):
    policy = {**WIDE, "reduce_dtype": getattr(torch, reduced)}
    there = real(sharded(policy), precision="fp32")
    here = mine("fsdp2", precision="bf16-mixed", reduce_dtype=reduced)
    assert apart(there, here, close=0.01) == []


class Checkpointed(torch.nn.Module):
    """A layer under a reentrant checkpoint, as models called them up to transformers 4.51."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, **given):
        from torch.utils.checkpoint import checkpoint

        return checkpoint(partial(self.layer, **given), x, use_reentrant=True)


def frozen(*, around):
    """FSDP1 around PEFT's model, with its own policy; reentrant checkpoints around its units, or in
    them, as layers that checkpoint themselves have them."""

    def wrap(model):
        import peft
        from torch.distributed.fsdp import FullyShardedDataParallel

        asked = peft.LoraConfig(r=8, target_modules=["q_proj"])
        made = peft.get_peft_model(model, asked, autocast_adapter_dtype=False)
        made.enable_input_require_grads()
        inner = made.get_base_model().model
        if not around:
            made.gradient_checkpointing_enable({"use_reentrant": True})
        policy = peft.utils.other.fsdp_auto_wrap_policy(made)
        sharded = FullyShardedDataParallel(
            made, auto_wrap_policy=policy, device_id=torch.cuda.current_device()
        )
        if around:
            inner.layers = torch.nn.ModuleList(map(Checkpointed, inner.layers))
        return sharded

    return wrap


def test_frozen_units_hold_what_checkpoints_around_them_give(monkeypatch):
    """The inputs of all layers, and their gradients, to the end of backward."""
    usual = {"precision": "bf16", "config": DEEP, "seq_len": 1024}
    again = {"checkpointing": True, "reentrant": True, "method": "lora", "lora_r": 8}
    most = []
    for around in (True, False):
        monkeypatch.setattr(choice, "CHECKPOINTS_WITHIN", (99, 0) if around else (4, 53))
        there = real(frozen(around=around), **usual)
        here = mine("fsdp1", lora_targets=("q_proj",), use_reentrant=True, **usual, **again)
        # units around which checkpoints are gather nothing ahead of the loss: we do
        assert apart(there, here, close=0.06, skip=("load", "loss")) == []
        most.append([max(m[2] for m in seen.moments if m[0] in STEP) for seen in (there, here)])
    (there, here), less = most
    assert here - less[1] == pytest.approx(there - less[0], rel=0.2)


# Checkpoints of other kinds


def chosen(model):
    """torchtitan's selective checkpointing: attention, and every second product."""
    aten = torch.ops.aten
    attention = (
        aten._scaled_dot_product_flash_attention.default,
        aten._scaled_dot_product_efficient_attention.default,
    )

    def contexts():
        from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

        counts = {True: 0, False: 0}

        def policy(ctx, func, *_, **__):
            product = func is aten.mm.default
            counts[ctx.is_recompute] += product
            keeps = func in attention or (product and counts[ctx.is_recompute] % 2)
            return CheckpointPolicy.MUST_SAVE if keeps else CheckpointPolicy.PREFER_RECOMPUTE

        return create_selective_checkpoint_contexts(policy)

    model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": contexts})
    return model


def away(model):
    """Inputs of layers are kept on the host."""
    from torch.utils.checkpoint import checkpoint

    def checkpointed(layer, *args, **given):
        with torch.autograd.graph.save_on_cpu():
            return checkpoint(layer, *args, use_reentrant=False, **given)

    model.gradient_checkpointing_enable({"use_reentrant": False})
    for layer in model.model.layers:
        layer._gradient_checkpointing_func = checkpointed
    return model


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_selective_checkpoints(precision):
    there = one(chosen, precision=precision)
    here = alone("selective", precision=precision)
    assert apart(there, here) == []
    full, none = alone("full", precision=precision), alone("none", precision=precision)
    kept = [m.model.saved for m in (full, here, none)]
    assert kept == sorted(kept)
    assert kept[0] < kept[1] < kept[2]


def test_checkpoints_on_the_host():
    here = alone("offload")
    # of blocks of more than 1 MiB which are cached decides one that is given whole: 1.1 MiB of 118
    assert apart(one(away), here, close=0.01) == []
    tokens = 2 * 256  # of the oracle
    assert here.model.away == LLAMA["num_hidden_layers"] * tokens * LLAMA["hidden_size"] * 2


def one(prepare, **settings):
    return plainly("llama", LLAMA, prepare=prepare, **settings)


def alone(checkpointing, **settings):
    """`ours` says full for whatever is true."""
    inner = training_oracle.settled

    def settled(raw, **said):
        return inner(raw, **{**said, "checkpointing": checkpointing})

    with patch.object(training_oracle, "settled", settled):
        return ours("llama", LLAMA, **settings)


def test_shards_that_were_trained_can_move():
    """torch swaps the objects of DTensors, which it refuses where anybody knows them weakly."""
    with weighbridge.FakeGPU("a100-80gb", world_size=RANKS, rank=0):
        dist.init_process_group("nccl")
        from torch.distributed.fsdp import fully_shard

        model = torch.nn.Linear(64, 64)
        fully_shard(model, mesh=mesh(RANKS))
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.ones(2, 64, device="cuda")).sum().backward()
        optimizer.step()
        model.to(BF16)
        assert model.weight.dtype == BF16
