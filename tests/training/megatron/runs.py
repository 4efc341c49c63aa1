"""Small models and runs of Megatron-core, whose bytes can be added up by hand."""

from weighbridge.base.records import replace
from weighbridge.training.megatron.model import MegatronModel, RoutedFeed
from weighbridge.training.megatron.run import MegatronRun
from weighbridge.training.megatron.stage import run_stage

LLAMA = MegatronModel(layers=8, hidden=256, width=512, heads=8, kv_heads=2, head_dim=32, words=1024)
EXPERTS = replace(LLAMA, experts=RoutedFeed(count=8, top=2, width=256), dense=1)
PLAIN = MegatronRun(length=512, accumulation=4, fused_gradients=False, multiple=1)


def most(model, stage=0, **changes):
    """The largest allocated bytes of a stage."""
    return run_stage(model, replace(PLAIN, **changes), stage).peak


def held(model, stage=0, **changes):
    """Bytes that a stage holds between steps."""
    return run_stage(model, replace(PLAIN, **changes), stage).held


def kept(model, **changes):
    """Bytes that the graph of one micro-batch holds."""
    return run_stage(model, replace(PLAIN, **changes), 0).saved
