"""Which surroundings a plan has.

fsdp        the Trainer, TRL and axolotl reduce what is mixed in 16 bits, micro-batches wait, and
            embedding and head are units of their own (accelerate: utils/dataclasses.py,
            set_mixed_precision; accelerator.py, no_sync; utils/fsdp_utils.py); others reduce in
            float32, each micro-batch. torchtitan leaves the last layer gathered, and all of them
            in a pipeline (parallelisms/parallelize_llama.py, apply_fsdp)
zero        sizes of DeepSpeed's configuration, or of the Trainer's "auto"
"""

from weighbridge.dtypes import FLOAT32, DType
from weighbridge.training.plan import Plan
from weighbridge.training.sharding import fsdp1, fsdp2
from weighbridge.training.sharding.around import Around
from weighbridge.training.sharding.ddp import Replicated
from weighbridge.training.sharding.zero import Sizes, Zero

ACCELERATE = ("trainer", "accelerate", "trl", "axolotl")


def surrounding(p: Plan) -> Around:
    s = p.sharding
    if s.kind == "ddp" and s.shares > 1:
        return Replicated()
    if s.kind in ("fsdp2", "hsdp"):
        return fsdp2.FullyShard(_fsdp2(p))
    if s.kind == "fsdp1":
        return fsdp1.FullyShard(_fsdp1(p))
    if s.kind.startswith("zero"):
        own = p.framework.name == "deepspeed"
        sizes = Sizes() if own else Sizes.auto(p.subject.body.hidden)
        return Zero(int(s.kind[-1]), s.shares, sizes, s.offload)
    return Around()


def _fsdp2(p: Plan) -> fsdp2.How:
    s, titan = p.sharding, p.framework.name == "torchtitan"
    return fsdp2.How(
        ranks=s.shares,
        compute=p.computing,
        reduce=_reduced(p),
        reshard=not (titan and s.pipeline > 1),
        last_stays=titan,
        carved=p.framework.name in ACCELERATE,
        waits=p.framework.name in ACCELERATE,
        offload=s.offload == "params",
        across=s.kind == "hsdp" and s.data * s.context > s.shares,
    )


def _fsdp1(p: Plan) -> fsdp1.How:
    return fsdp1.How(
        ranks=p.sharding.shares,
        compute=p.computing,
        reduce=_reduced(p),
        waits=p.framework.name in ACCELERATE,
        offload=p.sharding.offload == "params",
    )


def _reduced(p: Plan) -> DType:
    """What gradients are reduced in."""
    mixed = p.autocast is not None
    return FLOAT32 if mixed and p.framework.name not in ACCELERATE else p.computing
