"""Megatron-core 0.16.1's own model on the fake GPU, beside the stages that we run."""

import pytest

pytest.importorskip("megatron.core", reason="megatron-core: in the extra test-torch")

from tests.torch import megatron_oracle as oracle
from weighbridge.base.records import replace
from weighbridge.models.arch.mixers import Latent
from weighbridge.training.megatron.model import MegatronModel, RoutedFeed
from weighbridge.training.megatron.run import MegatronRun
from weighbridge.training.megatron.stage import run_stage

pytestmark = pytest.mark.filterwarnings("ignore")  # of what is not installed
CLOSE = 0.001  # of all tensors at the fullest moment

DENSE = MegatronModel(
    layers=oracle.LAYERS,
    hidden=oracle.HIDDEN,
    width=oracle.WIDTH,
    heads=oracle.HEADS,
    kv_heads=oracle.GROUPS,
    head_dim=oracle.HEAD,
    words=oracle.WORDS,
)
ROUTED = replace(DENSE, experts=RoutedFeed(**oracle.EXPERTS))
SMALL = {name: n for name, n in oracle.LATENT.items() if name != "query_rank"}
LATENT = replace(
    DENSE,
    kv_heads=oracle.HEADS,
    latent=Latent(heads=oracle.HEADS, **SMALL),
    query_rank=oracle.LATENT["query_rank"],
)
RUN = MegatronRun(
    length=oracle.LENGTH,
    accumulation=oracle.BATCHES,
    states=0,  # nobody steps
    fused_gradients=False,
    engine=False,
    capacity=1.0,
    dispatcher="alltoall",
    masks=False,
    multiple=1,
)
CASES = {
    "dense": (DENSE, {}),
    "dense, two tensor ranks": (DENSE, {"tensor": 2, "sequence": True}),
    "dense, two tensor ranks without sequence parallelism": (DENSE, {"tensor": 2}),
    "dense, first of two stages": (DENSE, {"pipeline": 2}),
    "dense, last of two stages": (DENSE, {"pipeline": 2, "stage": 1}),
    "dense, two tensor ranks, two stages": (
        DENSE,
        {"tensor": 2, "sequence": True, "pipeline": 2},
    ),
    "dense, scores of all pairs": (DENSE, {"scores": True}),
    "dense, scores of all pairs, last of two stages": (
        DENSE,
        {"scores": True, "pipeline": 2, "stage": 1},
    ),
    "experts": (ROUTED, {"routed": True}),
    "experts, two expert ranks": (ROUTED, {"routed": True, "expert": 2}),
    "experts, two tensor ranks": (ROUTED, {"routed": True, "tensor": 2, "sequence": True}),
    "experts, first of two stages": (ROUTED, {"routed": True, "pipeline": 2}),
    "experts, last of two stages": (ROUTED, {"routed": True, "pipeline": 2, "stage": 1}),
    "latent": (LATENT, {"latent": True}),
    "latent, two tensor ranks": (LATENT, {"latent": True, "tensor": 2, "sequence": True}),
    "latent, first of two stages": (LATENT, {"latent": True, "pipeline": 2}),
    "latent, last of two stages": (LATENT, {"latent": True, "pipeline": 2, "stage": 1}),
}


@pytest.mark.parametrize(("model", "asked"), CASES.values(), ids=CASES)
def test_the_real_model_takes_what_we_say(monkeypatch, model, asked):
    with oracle.stand_ins(monkeypatch):
        numbers, most = oracle.real(**asked)
    ranks = {name: asked.get(name, 1) for name in ("tensor", "pipeline", "expert")}
    run = replace(
        RUN,
        data=ranks["expert"],
        sequence_parallel=asked.get("sequence", False),
        attention="local" if asked.get("scores") else "fused",
        **ranks,
    )
    found = run_stage(model, run, asked.get("stage", 0))
    assert found.parameters == numbers
    ours = max(sum(peak.live.values()) for peak in found.moments.values())
    assert most == pytest.approx(ours, rel=CLOSE)
