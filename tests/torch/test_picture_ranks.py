"""Training of a denoiser on one card of eight: diffusers' class under torch's real wrappers on a fake
process group, beside ours, phase by phase; and where components go by diffusers' device_map."""

from types import MethodType
from typing import ClassVar

import pytest

pytest.importorskip("diffusers", reason="the oracle trains diffusers' classes")

import torch
from torch import distributed as dist

import weighbridge
from tests.cases import each
from tests.torch import picture_law
from weighbridge.base.dtypes import FLOAT32, TORCH
from weighbridge.models.catalogue import pipelines
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.pictures import cards, components, formats, spec, training
from weighbridge.pictures.adapting import PictureAdapters
from weighbridge.pictures.values import ProgramRun, Sizes
from weighbridge.training.optimizers import optimizer
from weighbridge.training.sharding.numbers import Sharding
from weighbridge_lab.trace import guard

pytestmark = [
    pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not()),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning"),
]
RANKS, BF16 = 8, torch.bfloat16
# As on one card: Wan keeps norms and its table in float32, which a network so small shows
CLOSE = {"FluxTransformer2DModel": 0.03, "WanTransformer3DModel": 0.05}
TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
FLUX = {
    "_class_name": "FluxTransformer2DModel",
    "num_layers": 2,
    "num_single_layers": 3,
    "num_attention_heads": 8,
    "attention_head_dim": 128,
    "joint_attention_dim": 512,
    "pooled_projection_dim": 256,
    "guidance_embeds": True,
}
WAN = {
    "_class_name": "WanTransformer3DModel",
    "num_layers": 4,
    "num_attention_heads": 8,
    "attention_head_dim": 128,
    "ffn_dim": 4096,
    "text_dim": 512,
}
# Of a step whose tokens are divided. Wan's are whole in front of the first block
APART = {"FluxTransformer2DModel": 0.05, "WanTransformer3DModel": 0.25}
SIDE, TEXT = 32, 64  # latents, tokens
INPUTS = {
    "FluxTransformer2DModel": {
        "hidden_states": (1, SIDE * SIDE // 4, 64),
        "encoder_hidden_states": (1, TEXT, 512),
        "pooled_projections": (1, 256),
        "timestep": (1,),
        "guidance": (1,),
        "img_ids": (SIDE * SIDE // 4, 3),
        "txt_ids": (TEXT, 3),
    },
    "WanTransformer3DModel": {
        "hidden_states": (1, 16, 2, SIDE, SIDE),
        "encoder_hidden_states": (1, TEXT, 512),
        "timestep": (1,),
    },
}


def replicated(module):
    return torch.nn.parallel.DistributedDataParallel(module)


def sharded(module):
    """Shard each block and the whole, under autocast, as accelerate does."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    usual = {
        "mesh": dist.init_device_mesh("cuda", (RANKS,)),
        "mp_policy": MixedPrecisionPolicy(BF16, BF16, BF16),
    }
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    wrapped = set(module._no_split_modules)
    for name, block in module.named_modules():
        if type(block).__name__ in wrapped and name:
            fully_shard(block, **usual)
    return fully_shard(module, **usual)


def real(config, wrap, *, adapters, checkpoints):
    """Peaks of the phases of two steps, in bytes; autocast in bfloat16."""
    peaks = []

    def mark(name):
        peaks.append((name, torch.cuda.max_memory_allocated()))
        torch.cuda.reset_peak_memory_stats()

    with weighbridge.FakeGPU(picture_law.CARD, world_size=RANKS, rank=0):
        dist.init_process_group("nccl")
        first, dtype = "cpu" if wrap is sharded else "cuda", BF16 if adapters else torch.float32
        module = picture_law.built(config, first, dtype).train()
        if adapters:
            from peft import LoraConfig, inject_adapter_in_model

            module.requires_grad_(False)
            inject_adapter_in_model(LoraConfig(r=16, target_modules=list(TARGETS)), module)
        if checkpoints:
            module.enable_gradient_checkpointing()
        cast = torch.autocast("cuda", BF16)(module.forward.__func__)
        module.forward = MethodType(cast, module)
        module = wrap(module.to("cuda") if wrap is replicated else module)
        trained = [p for p in module.parameters() if p.requires_grad]
        step = torch.optim.AdamW(trained, foreach=True)
        mark("load")
        for _ in range(2):
            inputs = {
                name: torch.zeros(shape, device="cuda", dtype=BF16)
                for name, shape in INPUTS[config["_class_name"]].items()
            }
            out = module(**inputs, return_dict=False)[0]
            mark("forward")
            loss = torch.nn.functional.mse_loss(out.float(), torch.zeros_like(out).float())
            del out
            loss.backward()
            del loss, inputs
            mark("backward")
            step.step()
            step.zero_grad()
            mark("step")
    return peaks


class Phases(training.PictureRun):
    """A run of ours that keeps every phase in its turn."""

    turns: ClassVar[list[tuple[str, int]]]

    def note(self, name, peak):
        self.turns.append((name, peak.allocated))


def ours(config, kind, monkeypatch, *, adapters, checkpoints):
    row = spec.spec(pipelines.find("flux.1-dev"))._replace(text=TEXT, embedding_width=512)
    part = ModelPart(
        name="transformer",
        library="diffusers",
        blueprint=components.blueprint(config),
        config=config,
    )
    monkeypatch.setattr(training, "PictureRun", Phases)
    Phases.turns = []
    bf16 = TORCH["bfloat16"]
    how = PictureAdapters(method="lora", rank=16, targets=TARGETS, dtype=bf16)
    frames = 1 if config is FLUX else 2
    plan = training.PicturePlan(
        spec=row,
        parts={"transformer": part},
        sizes=Sizes(batch=1, frames=frames, height=SIDE, width=SIDE, text=TEXT),
        weights=bf16 if adapters else FLOAT32,
        autocast=bf16,
        dtypes={},
        optimizer=optimizer("adamw_torch"),
        adapters=how if adapters else None,
        checkpointing="full" if checkpoints else "none",
        chip=picture_law.chip(),
        sharding=Sharding(data=RANKS, kind=kind),
    )
    assert not training.run(plan).waiting  # of what waits, less is alive than was noted
    return Phases.turns


@pytest.mark.parametrize(
    ("adapters", "checkpoints"),
    each(3, [(True, True), (True, False), (False, True), (False, False)]),
)
@pytest.mark.parametrize("config", [FLUX, WAN], ids=["flux", "wan"])
@pytest.mark.parametrize(
    ("kind", "wrap"), [("ddp", replicated), ("fsdp2", sharded)], ids=["ddp", "fsdp2"]
)
def test_a_step_of_one_rank(kind, wrap, config, adapters, checkpoints, monkeypatch):
    how = {"adapters": adapters, "checkpoints": checkpoints}
    there, here = real(config, wrap, **how), ours(config, kind, monkeypatch, **how)
    assert [name for name, _ in there] == [name for name, _ in here]
    pairs = [(*a, b[1]) for a, b in zip(there, here, strict=True)]
    if kind == "ddp" and adapters:  # frozen weights are sent in pieces, of 250 MiB at most
        pairs = pairs[1:]
    lines = [f"{name}: {a:,} there, {b:,} here, {100 * (b / a - 1):+.1f} %" for name, a, b in pairs]
    assert all(abs(b / a - 1) <= CLOSE[config["_class_name"]] for _, a, b in pairs), lines


# ---- pictures that are made


PIPELINES = ("flux.1-dev", "sdxl", "sd3.5-medium", "wan2.1-t2v-1.3b", "cogvideox-2b")
ROOMS = {"alike": [24 << 30] * 2, "unlike": [12 << 30, 24 << 30, 6 << 30], "small": [8 << 30] * 2}


@pytest.mark.parametrize("rooms", ROOMS.values(), ids=ROOMS)
@pytest.mark.parametrize("name", PIPELINES)
def test_components_go_where_diffusers_puts_them(name, rooms):
    """The rule on the sizes that accelerate counts on the meta device. Of components that have no
    room it remembers the last; the others have no card either."""
    from accelerate.utils import compute_module_sizes
    from diffusers.pipelines.pipeline_loading_utils import _assign_components_to_devices

    configs = pipelines.find(name).parts
    sizes = {
        part: compute_module_sizes(picture_law.built(config), dtype=BF16)[""]
        for part, config in configs.items()
    }
    ours = cards.balanced({part: _weights(config) for part, config in configs.items()}, rooms)
    order = dict(sorted(sizes.items(), key=lambda item: -item[1]))
    memory = dict(sorted(enumerate(rooms), key=lambda item: -item[1]))
    there = _assign_components_to_devices(order, memory)
    theirs = {part: device for device, parts in there.items() if device != "cpu" for part in parts}
    assert {part: card for part, card in ours.items() if card >= 0} == theirs


def _weights(config):
    part = ModelPart(
        name="", library="diffusers", blueprint=components.blueprint(config), config=config
    )
    return formats.nbytes(part, None, TORCH["bfloat16"])


@pytest.fixture
def kernel_of_before():
    """A backend that a model is given is diffusers' own for every model after it."""
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry as registry

    before = registry._active_backend
    yield
    registry._active_backend = before


@pytest.mark.usefixtures("kernel_of_before")
@pytest.mark.parametrize("by", ["ulysses", "ring"])
@pytest.mark.parametrize("config", [FLUX, WAN], ids=["flux", "wan"])
def test_a_step_whose_tokens_are_divided(config, by):
    """diffusers' enable_parallelism beside ours: bytes above weights and inputs."""
    from diffusers import ContextParallelConfig

    ranks = 4
    with weighbridge.FakeGPU(picture_law.CARD, world_size=ranks, rank=0):
        dist.init_process_group("nccl")
        module = picture_law.built(config, "cuda")
        if by == "ring":  # whose kernel must give sums of exponents
            module.set_attention_backend("_native_flash")
        module.enable_parallelism(config=ContextParallelConfig(**{f"{by}_degree": ranks}))
        inputs = {
            name: torch.zeros(shape, device="cuda", dtype=BF16)
            for name, shape in INPUTS[config["_class_name"]].items()
        }
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        with torch.no_grad():
            module(**inputs, return_dict=False)
        there = torch.cuda.max_memory_allocated() - before
    m = picture_law.machine(picture_law.chip(), grad=False)
    run = ProgramRun(
        m=m, cls=config["_class_name"], dtype=TORCH["bfloat16"], ranks=ranks, attends_by=by
    )
    frames = 1 if config is FLUX else 2
    whole = Sizes(batch=1, frames=frames, height=SIDE, width=SIDE, text=TEXT)
    components.forward(run, config, cards.divided(whole, ranks, config["_class_name"]))
    here = m.heap.phase().allocated
    assert here == pytest.approx(there, rel=APART[config["_class_name"]])
