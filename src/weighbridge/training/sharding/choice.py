"""Which surroundings a plan has."""

from weighbridge.dtypes import FLOAT32
from weighbridge.training.plan import Plan
from weighbridge.training.sharding.around import Around
from weighbridge.training.sharding.ddp import Replicated
from weighbridge.training.sharding.fsdp2 import FullyShard
from weighbridge.training.sharding.zero import Sizes, Zero


def surrounding(p: Plan) -> Around:
    s = p.sharding
    if s.kind == "ddp" and s.shares > 1:
        return Replicated()
    if s.kind in ("fsdp2", "hsdp"):
        mixed = p.precision.autocast
        return FullyShard(s.shares, mixed or p.dtype, FLOAT32 if mixed else p.dtype)
    if s.kind.startswith("zero"):
        own = p.framework.name == "deepspeed"
        sizes = Sizes() if own else Sizes.auto(p.subject.body.hidden)
        return Zero(int(s.kind[-1]), s.shares, sizes, s.offload)
    return Around()
