"""How several cards share the training of a denoiser: what stands around its blocks.

    ddp      accelerate launch --multi_gpu: all of it on each card, and buckets of gradients, which
             are views of them where SimpleTuner swaps blocks; OneTrainer sums each gradient in its
             place, and has no buckets
    zero     accelerate with a DeepSpeed plugin, sizes as DeepSpeed has them; what is trained is in
             16 bits, without autocast, beside a master copy. The model is on the card before it is
             cut
    fsdp2    accelerate's fully_shard of each block; embedding and head are the root's, since
             diffusers' classes name neither

A block is what its program runs as one: what is checkpointed stands within the unit.
Source: diffusers 0.42 examples/; accelerate 1.15 accelerator.py (prepare_model,
_prepare_deepspeed), utils/fsdp_utils.py (fsdp2_prepare_model); sd-scripts @ 48d368fa
library/deepspeed_utils.py; SimpleTuner @ bc8e6ab7 simpletuner/helpers/training/trainer.py,
documentation/{DEEPSPEED,FSDP2}.md;
musubi-tuner @ 30c658c4 training/accelerator_setup.py; ai-toolkit @ 27a03a91
jobs/process/BaseSDTrainProcess.py (accelerator.prepare); OneTrainer @ 23df3832
modules/util/multi_gpu_util.py (reduce_grads_mean).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from weighbridge.base.dtypes import DType
from weighbridge.models.arch.blueprint import Param
from weighbridge.models.arch.body import Body
from weighbridge.models.arch.config import Config
from weighbridge.pictures.components import declared
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Block, ProgramRun, RunBlock, Value
from weighbridge.settings.ranks import Ranks
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module, ParameterSpec
from weighbridge.training.forward.step import Around, BuiltModel, Unshared
from weighbridge.training.forward.tensors import LeafTensor, Tensor
from weighbridge.training.sharding.ddp import Replicated
from weighbridge.training.sharding.fsdp2 import Fsdp2Options, Fsdp2Rank
from weighbridge.training.sharding.numbers import Sharding, checked
from weighbridge.training.sharding.zero import Zero, ZeroOptions, ZeroSizes
from weighbridge.workload.picture_training import PictureTraining


def sharding(w: PictureTraining) -> Sharding:
    """Return the ranks of a training run: one per card, with DDP by default. Raises UsageError for
    ranks that shard nothing, or offloading that is impossible."""
    budget = w.budget()
    cards = 1 if budget is None else budget.choice.count
    ranks = Ranks.of({"data_parallel_size": w.data_parallel_size or cards})
    kind = w.shard or ("ddp" if ranks.data > 1 else "none")
    return checked(Sharding(**ranks.numbers, kind=kind, offload=w.offload or "none"))


def around(shares: Sharding, compute: DType, *, views: bool, buckets: bool) -> Around:
    """Return the hooks of a rank's sharding. `compute`: the dtype of products; `views`: gradients
    are views of DDP's buckets."""
    if shares.kind.startswith("zero"):
        stage = int(shares.kind[-1])
        how_much, away = ZeroSizes(), shares.offload
        return Zero(
            ZeroOptions(
                stage=stage, ranks=shares.data, sizes=how_much, offload=away, whole_first=True
            )
        )
    if shares.kind == "fsdp2":
        how = Fsdp2Options(
            ranks=shares.data,
            compute=compute,
            reduce=compute,
            widens="trained",
            waits=True,
            offload=shares.offload == "params",
        )
        return Fsdp2Rank(how)
    return Replicated(views=views) if shares.data > 1 and buckets else Unshared()


def placed(
    shares: Around, m: Machine, params: Iterable[Param], dtype: DType, *, trained: bool
) -> dict[str, LeafTensor]:
    """Return the denoiser's parameters by name, on the card as the rank holds them."""
    leaves = {}
    for p in params:
        leaf = leaves[p.name] = shares.place(m, ParameterSpec(p.name, p.shape, p.kind), dtype)
        leaf.trainable = trained
    return leaves


def built(config: Mapping[str, Any], leaves: Iterable[LeafTensor], *, cut: bool) -> BuiltModel:
    """Return the denoiser in the form that the sharding code takes. `cut`: its blocks are FSDP
    units."""
    params = {f"{i}": leaf for i, leaf in enumerate(leaves)}  # encoders may share names
    root = Module(params, {})
    return BuiltModel(
        root=root,
        base=root,
        layers=[Module(params, {}, path) for path in (_blocks(config) if cut else ())],
        params=params,
        body=Body(hidden=0, vocab=0, blocks=()),
        config=Config({}),
        kind="",
    )


def _blocks(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the paths of the denoiser's blocks in running order, each once."""
    paths: dict[str, None] = {}

    def passed(call: Block, place: NetPlace, values: tuple[Value, ...]) -> Any:
        paths[place.path] = None
        return call(place, *values)

    declared(config, passed)
    return tuple(paths)


def in_units(run: ProgramRun, shares: Around, inner: RunBlock | None) -> RunBlock:
    """Return a function that runs each block as a unit of `shares`, linked through the tensor that
    has a gradient."""

    def block(call: Block, place: NetPlace, values: tuple[Value, ...]) -> Any:
        entry = _through([value.tensor for value in values])
        results: list[Tensor | None] = []

        def layer(x: Tensor) -> Tensor:
            entering = [*values]
            entering[entry] = Value(run, x)
            out = inner(call, place, tuple(entering)) if inner else call(place, *entering)
            listed = out if isinstance(out, tuple | list) else (out,)
            results.extend(None if one is None else one.tensor for one in listed)
            leaving = results[_through(results)]
            assert leaving is not None
            return leaving

        out = shares.layer(run.m, Module({}, {}, place.path), layer, values[entry].tensor)
        results[_through(results)] = out
        each = tuple(None if one is None else Value(run, one) for one in results)
        return each[0] if len(each) == 1 else each

    return block


def _through(tensors: list[Any]) -> int:
    """Return the index of the first tensor with a gradient, else 0."""
    graded = (i for i, one in enumerate(tensors) if one is not None and one.requires_grad)
    return next(graded, 0)
