"""What loading takes beside the weights, and gives back: a checkpoint in 16 bits beside the format
that a server makes of it, and copies of packed weights that are laid out anew.

    whole      all of it is there before the first layer is packed: what packing will save
    both       all of it stays until the last tensor was read, beside all that is packed
    streamed   one layer is there at a time, up to three where tensors of several are interleaved

vLLM     whole; both in 0.13 and 0.14, where tensors are packed as they come, and the loop that
         reads them still holds the others; streamed since 0.16; 0.15 is between both and streamed
SGLang   whole in fp8; formats of 4 bits are between streamed and whole

         --torchao-config packs a model that is there whole, layer by layer

bitsandbytes is packed tensor by tensor by both.

vLLM lays mxfp4 experts out anew once all weights are there, a whole tensor of a layer at a time:

    Hopper     Triton's layout holds eight temporaries as large as the padded tensor, and padded
               copies: 9.3 GiB were read for the 0.99 GiB of gpt-oss-120b (TensorRT-LLM, which calls
               the same function); how many of them torch frees in time is its allocator's
    others     Marlin's or FlashInfer's: experts one by one, then all of them stacked

Source: github.com/vllm-project/vllm pull requests 29196 (both), 31914 (streamed; its test of
OLMoE-1B-7B reads 9.06 GiB for 6.65 GiB of weights, three layers of 0.8 GiB more) and 32773 (out of
memory in 0.13.0 and 0.14.0); vllm 0.14.1 and 0.16 model_executor/layers/quantization/fp8.py; sglang
0.5.23 srt/layers/quantization/fp8.py (create_weights) and srt/model_loader/loader.py
(postprocess_weights), github.com/sgl-project/sglang issues 2895 and 8337 (whole);
github.com/NVIDIA/TensorRT-LLM pull request 16125, github.com/vllm-project/vllm issue 34877, vllm
0.12 model_executor/layers/quantization/mxfp4.py (process_weights_after_loading).
"""

from collections.abc import Callable
from dataclasses import replace

from weighbridge.components.weights import FormatChoice, total
from weighbridge.engines.engine import Engine
from weighbridge.engines.interface import Subject
from weighbridge.engines.parallel.rules import WeightKernel
from weighbridge.engines.servers import shards
from weighbridge.engines.weight_formats import makes
from weighbridge.memory import Bytes, Component

BY_TENSOR = "bitsandbytes"
MXFP4 = "mxfp4"
# Copies of the largest tensor of experts while it is laid out anew
SWIZZLED, STACKED = Bytes(1, 9, 10), Bytes(1, 2, 3)


def plain(subject: Subject, engine: Engine) -> Subject | None:
    """The same model in 16 bits; None where its format is not made of that while it loads."""
    form = subject.choice.scheme
    names = {ours for name, ours in engine.online.items() if name != BY_TENSOR}
    if form is None or subject.part.packed:
        return None
    if form.name not in names and not makes(engine.reading, form.name):
        return None
    choices = {name: FormatChoice(dtype=c.dtype) for name, c in subject.choices.items()}
    return replace(subject, choice=FormatChoice(dtype=subject.choice.dtype), choices=choices)


def laid_out(form: str, kernel: WeightKernel, packed: shards.Rank) -> Component | None:
    """Estimate what vLLM takes for a moment to lay packed experts out for the kernel that
    multiplies by them."""
    experts = [t.nbytes * t.copies for t in packed.tensors if "experts" in t.module]
    if form != MXFP4 or not experts:
        return None
    copies = SWIZZLED if kernel.scale_rows > 1 else STACKED
    return Component(
        name="temporaries",
        bytes=Bytes(*(count * max(experts) for count in copies)),
        basis="assumed",
        detail="experts, while they are laid out anew",
        formula=f"{copies.low} to {copies.high} copies of the largest tensor of experts",
        source="TensorRT-LLM pull request 16125; vllm issue 34877 and mxfp4.py",
    )


def arriving(
    packed: shards.Rank, whole: shards.Rank, sized: Callable[[int, int, int], Bytes]
) -> Component:
    """Bytes that one rank holds; `whole` is what it holds of the `plain` model."""
    sizes = total(packed.tensors, "weights"), total(whole.tensors, "weights")
    layer = sizes[1] // max(1, len(whole.layers), len(whole.blocks))
    return Component(
        name="temporaries",
        bytes=sized(*sizes, layer),
        basis="assumed",
        detail="weights in 16 bits, until they are packed",
        formula="16-bit tensors beside the packed ones, as many as this version holds at once",
        source="vllm pull requests 29196 and 31914; sglang 0.5.23 srt/model_loader/loader.py",
    )
