"""diffusers' own classes on the fake GPU beside our programs: trees, forwards, and steps of a LoRA.

    python -m tests.torch.picture_law CASE [forward | step | checkpoints]

shows what lives at both peaks, the largest first.
"""

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_map

from weighbridge.base.dtypes import TORCH
from weighbridge.base.records import dataclass, field
from weighbridge.base.units import MIB
from weighbridge.machines.accelerators.chips import Chip
from weighbridge.machines.kernels import workspaces
from weighbridge.memory.components.activations import Heap, LiveTensor
from weighbridge.pictures import components
from weighbridge.pictures.adapting import LoraConv
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Block, ProgramRun, Sizes, Value
from weighbridge.training.forward.adapters import LoraLinear, Plain
from weighbridge.training.forward.backward import backward
from weighbridge.training.forward.checkpoint import checkpoint
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.tensors import Computed, LeafTensor, Tensor
from weighbridge_lab.trace.gpu import FakeGPU

CARD = "a100-80gb"
RANK = 16
MODES = "forward", "step", "checkpoints"
AIMS = {"forward": 0.01, "step": 0.02, "checkpoints": 0.02}
SHOWN = 24  # tensors of each side, at most
SMALL = 64 << 10  # bytes that are told in sum alone
OWN = ("pictures/", "training/forward/")  # where a line of ours may be that made a tensor
# What diffusers' training scripts and trainers put adapters beside, by the ends of their names
TARGETS = (
    *("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
    *("to_qkv", "to_qkv_mlp_proj", "to_out"),
)
Shape = tuple[int, ...]


class Typed(NamedTuple):
    """The shape of an input in another dtype than the step's."""

    shape: Shape
    dtype: torch.dtype


class Plainly(NamedTuple):
    """An input that is no tensor."""

    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A class at one size. `inputs` are shapes, in bfloat16 where nothing else is said. `bounds`
    are those by mode that are not reached, each with its reason beside it."""

    config: Mapping[str, Any]
    inputs: Mapping[str, Any]
    sizes: Sizes
    bounds: Mapping[str, float] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)  # modes that have no run, and why
    targets: tuple[str, ...] = TARGETS
    control: tuple[list[Shape], ...] = ()  # what a ControlNet gives, by its lists
    call: str = "forward"  # a method of the class: "decode" of an autoencoder

    def bound(self, mode: str) -> float:
        return self.bounds.get(mode, AIMS[mode])


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Bytes above weights and inputs, as the allocator counts them, and what lived then."""

    nbytes: int
    alive: tuple[tuple[int, str], ...]  # (bytes, who made it), the largest first

    def shown(self) -> list[str]:
        counted = Counter(one for one in self.alive if one[0] >= SMALL)
        most = sorted(counted.items(), key=lambda item: (-item[0][0], -item[1], item[0][1]))
        lines = [f"{n:>13,} {times:>3} x  {who}" for (n, who), times in islice(most, SHOWN)]
        small = sum(n for n, _ in self.alive if n < SMALL)
        return [*lines, f"{small:>13,} in small ones"]


# ---- diffusers


def built(config: Mapping[str, Any], device: str = "meta", dtype: torch.dtype = torch.bfloat16):
    """The class that a config names, made as diffusers or transformers make it."""
    import diffusers
    import transformers

    diffusers.logging.set_verbosity_error()  # it says that no module is kept in float32
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            if "_class_name" in config:
                cls = getattr(diffusers, config["_class_name"])
                if "image_embed_dim" in config:
                    return _loaded(_shown(cls, config), device, dtype).eval()
                return _loaded(cls.from_config(dict(config)), device, dtype).eval()
            raw = {k: v for k, v in config.items() if k not in ("model_type", "architectures")}
            if config["model_type"] == "chatglm":  # diffusers brings its own
                from diffusers.pipelines.kolors import text_encoder

                kept = {"original_rope": True, **raw}
                return text_encoder.ChatGLMModel(text_encoder.ChatGLMConfig(**kept)).eval()
            cls = getattr(transformers, config["architectures"][0])
            kind = transformers.AutoConfig.for_model(config["model_type"], **raw)
            return cls._from_config(kind).to(dtype).eval()
    finally:
        torch.set_default_dtype(before)


def _shown(cls: Any, config: Mapping[str, Any]) -> Any:
    """A U-Net with an IP-Adapter, as load_ip_adapter leaves it."""
    from diffusers.models import attention_processor as processors
    from diffusers.models import embeddings

    unet = cls.from_config({k: v for k, v in config.items() if k != "image_embed_dim"})
    inside = config["image_embed_dim"]
    width = unet.config.cross_attention_dim
    layer = embeddings.ImageProjection(inside, width, 4)
    unet.encoder_hid_proj = embeddings.MultiIPAdapterImageProjection([layer])
    unet.register_to_config(encoder_hid_dim_type="ip_image_proj")

    def processor(name: str) -> Any:
        if ".attn1." in name:
            return processors.AttnProcessor2_0()
        hidden = unet.get_submodule(name.removesuffix(".processor")).to_q.out_features
        return processors.IPAdapterAttnProcessor2_0(hidden, width, num_tokens=(4,))

    unet.set_attn_processor({name: processor(name) for name in unet.attn_processors})
    return unet


def _loaded(module: Any, device: str, dtype: torch.dtype) -> Any:
    """Weights in a dtype as from_pretrained loads them: what a file has is cast, buffers, too; some
    modules stay in float32."""
    wide = set(getattr(module, "_keep_in_fp32_modules", None) or ())
    for name, parameter in module.named_parameters():
        own = torch.float32 if wide.intersection(name.split(".")) else dtype
        parameter.data = parameter.data.to(own)
    stored = module.state_dict(keep_vars=True)
    for name, buffer in module.named_buffers():
        if name in stored and buffer.is_floating_point():
            buffer.data = buffer.data.to(dtype)
    return module if device == "meta" else module.to(device)


def tree(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Names and shapes of the class's parameters."""
    return {name: tuple(p.shape) for name, p in built(config).named_parameters()}


def real(case: Case, mode: str) -> Peak:
    """The peak of diffusers' class on the fake GPU."""
    with FakeGPU(CARD) as gpu:
        module = built(case.config, "cuda")
        if mode != "forward":
            _adapt(module, case, checkpoints=mode == "checkpoints")
        if case.sizes.tiled:
            module.enable_tiling()
        inputs = tree_map(_input, dict(case.inputs), is_leaf=_is_input)
        start, tape = len(gpu.tape.events), gpu.tape
        before = tape.allocator.allocated
        with torch.set_grad_enabled(mode != "forward"):
            out = getattr(module, case.call)(**inputs, return_dict=False)[0]
            if mode != "forward":
                loss = (out[0] if isinstance(out, list) else out).float().mean()
                del out
                loss.backward()
    event = max(range(start, len(tape.events)), key=lambda i: tape.levels[i])
    alive = [(s.nbytes, f"{s.op}  {s.module}") for s in tape.alive(event) if s.born >= start]
    return Peak(nbytes=tape.levels[event] - before, alive=tuple(sorted(alive, reverse=True)))


def _is_input(one: Any) -> bool:
    return isinstance(one, (tuple, Plainly))


def _input(one: Any) -> Any:
    if isinstance(one, Plainly):
        return one.value
    shape, dtype = one if isinstance(one, Typed) else (one, torch.bfloat16)
    make = torch.ones if dtype == torch.bool else torch.zeros  # a mask that hides nothing
    return make(shape, device="cuda", dtype=dtype)


def _adapt(module: Any, case: Case, *, checkpoints: bool) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    module.train()
    module.requires_grad_(False)
    names = [n for n, m in module.named_modules() if _is_target(m, n, case.targets)]
    adapter = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=names)
    inject_adapter_in_model(adapter, module)
    if checkpoints:
        module.enable_gradient_checkpointing()


def _is_target(module: Any, name: str, targets: tuple[str, ...]) -> bool:
    return isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)) and _ends(name, targets)


def _ends(name: str, targets: tuple[str, ...]) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in targets)


# ---- ours


class Watch:
    """What a heap gives out and takes back, with the line that asked for it."""

    def __init__(self, heap: Heap) -> None:
        self.heap = heap
        self.most = self.moment = 0
        self.events: list[tuple[bool, int, int, str]] = []  # taken, place, bytes, who

    def taken(self, tensor: LiveTensor, stream: int) -> None:
        self.events.append((True, tensor.place, tensor.total, _line()))
        if self.heap.allocator.allocated > self.most:
            self.most, self.moment = self.heap.allocator.allocated, len(self.events)

    def dropped(self, tensor: LiveTensor) -> None:
        self.events.append((False, tensor.place, 0, ""))

    def renamed(self, tensor: LiveTensor, renamed: LiveTensor) -> None:
        pass

    def peak(self) -> Peak:
        alive: dict[int, tuple[int, str]] = {}
        for taken, place, nbytes, who in self.events[: self.moment]:
            if taken:
                alive[place] = nbytes, who
            else:
                alive.pop(place, None)
        return Peak(nbytes=self.most, alive=tuple(sorted(alive.values(), reverse=True)))


def _line() -> str:
    """Functions and lines of ours on the way to an allocation, the innermost first."""
    frame, names = sys._getframe(2), []
    while frame is not None and len(names) < 4:
        path, name = frame.f_code.co_filename, frame.f_code.co_name
        if any(part in path for part in OWN) and name not in ("new", "__init__", "_as", "hidden"):
            names.append(f"{name}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(names)


def machine(chip: Chip, *, grad: bool) -> Machine:
    m = Machine(Heap())
    m.chip, m.grad, m.training = chip, grad, grad
    m.workspace = workspaces.product(chip.capability[0])
    return m


def ours(case: Case, mode: str, chip: Chip) -> Peak:
    """The peak of our program at the same size on the same chip."""
    m = machine(chip, grad=mode != "forward")
    heap = m.heap
    assert isinstance(heap, Heap)
    heap.watch = watch = Watch(heap)
    config = dict(case.config)
    run = ProgramRun(m=m, cls=components.class_of(config), dtype=TORCH["bfloat16"])
    run.residuals = [[run.constant(*shape) for shape in group] for group in case.control]
    if mode != "forward":
        run.wraps, run.conv_wraps = _wraps(config, case.targets)
    if mode == "checkpoints":
        run.block = checkpointed(run)
    out = components.forward(run, config, case.sizes)
    assert out is not None
    if mode != "forward":
        wide = out.float().tensor
        loss = Computed(wide.shape, wide.dtype, None, wide.node, wide.slot)
        del out, wide
        backward(m, loss)
    peak = watch.peak()
    heap.close()
    return peak


def _wraps(
    config: Mapping[str, Any], targets: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A LoRA beside each linear, and each convolution, that is a target."""
    declared, wraps, dtype = components.declared(config).declared, {}, TORCH["bfloat16"]
    convs: dict[str, Any] = {}

    def leaf(name: str, *shape: int, trainable: bool = False) -> LeafTensor:
        return LeafTensor(name, shape, dtype, None, trainable=trainable)

    for name, param in declared.items():
        path = name.removesuffix(".weight")
        if path == name or param.kind not in ("linear", "conv") or not _ends(path, targets):
            continue
        out, inside, *kernel = param.shape
        weight, bias = leaf(name, out, inside, *kernel), f"{path}.bias"
        base = Plain(weight, leaf(bias, out) if bias in declared else None)
        a = leaf(f"{path}.lora_A.weight", RANK, inside, *kernel, trainable=True)
        b = leaf(f"{path}.lora_B.weight", out, RANK, *(1 for _ in kernel), trainable=True)
        if kernel:
            convs[path] = LoraConv(base, a, b, 0.0, casts=True)
        else:
            wraps[path] = LoraLinear(base, weight, a, b, 0.0)
    return wraps, convs


def checkpointed(run: ProgramRun) -> Callable[[Block, NetPlace, tuple[Value, ...]], Any]:
    """Blocks as diffusers' `_gradient_checkpointing_func` runs them."""

    def block(call: Block, place: NetPlace, values: tuple[Value, ...]) -> Any:
        def layer(*tensors: Tensor) -> Any:
            return call(place, *[Value(run, t) for t in tensors])

        tensors = tuple(value.tensor for value in values)
        del values
        return checkpoint(run.m, layer, *tensors)

    return block


# ---- both


def chip() -> Chip:
    from weighbridge_lab.trace.card import card

    chosen: Chip = card(CARD, None)[0].chip
    return chosen


def compared(case: Case, mode: str) -> str:
    """Nothing where the two agree within the bound, else both snapshots."""
    there, here = real(case, mode), ours(case, mode, chip())
    off = here.nbytes / there.nbytes - 1
    if abs(off) <= case.bound(mode):
        return ""
    return text(there, here)


def text(there: Peak, here: Peak) -> str:
    off = 100 * (here.nbytes / there.nbytes - 1)
    lines = ["", f"diffusers {there.nbytes:,}   ours {here.nbytes:,}   {off:+.2f} %"]
    return "\n".join([*lines, "diffusers:", *there.shown(), "ours:", *here.shown()])


def main(words: list[str]) -> None:
    from tests.torch.cases_controls import CASES as CONTROLS
    from tests.torch.cases_pictures import CASES as IMAGES
    from tests.torch.cases_videos import CASES as VIDEOS

    chosen, modes = words[:1], [m for m in MODES if m in words[1:]] or MODES
    for name, case in {**IMAGES, **VIDEOS, **CONTROLS}.items():
        for mode in modes:
            if (chosen and chosen[0] not in name) or mode in case.skipped:
                continue
            there, here = real(case, mode), ours(case, mode, chip())
            off = 100 * (here.nbytes / there.nbytes - 1)
            mib = f"{there.nbytes / MIB:9.1f}{here.nbytes / MIB:9.1f}"
            print(f"{name:20}{mode:12}{mib}{off:+8.2f} %", flush=True)
            if "-v" in words:
                print(text(there, here))


if __name__ == "__main__":  # the module by its name, whose classes the cases are of
    from tests.torch.picture_law import main as by_name

    by_name(sys.argv[1:])
