"""Casts of a quantized base before it is trained, and what its linears save for backward.

    peft    prepare_model_for_kbit_training: every parameter of 16 bits that is not quantized
            becomes float32, one after the other: embedding, head, norms, biases, routers, encoders,
            experts
    trl     the same, then adapters are made, then embedding and head are bfloat16 again
            (peft_module_casting_to_bf16): what was float32 for a moment stays reserved
    norms   only norms are float32 (TRL 0.25)
    none    all stays as it was loaded

PEFT does not cast GPTQ, AQLM, EETQ, HQQ and torchao; AWQ is in no list of its exceptions. Source:
PEFT 0.19.1 utils/other.py; TRL 0.24.0 and 0.25.1 models/utils.py; bitsandbytes 0.43.1 and 0.43.2
autograd/_functions.py (MatMul4Bit).
"""

from weighbridge.base.dtypes import BFLOAT16, FLOAT16, FLOAT32, DType
from weighbridge.base.errors import UsageError
from weighbridge.base.records import frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge.engines.interface import Subject
from weighbridge.memory.components.weights import BITSANDBYTES, FOUR_BITS
from weighbridge.models.quantization.declared import sparing
from weighbridge.models.quantization.scheme import Scheme
from weighbridge.models.quantization.schemes import scheme
from weighbridge.models.quantization.torch_libraries import with_experts
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.ops.packed import AWQ, EETQ, GPTQ, GPTQ_FUSED, HQQ, PackedKernel
from weighbridge.training.forward.tensors import ELSEWHERE, LeafTensor, TensorStorage

CAST = (*BITSANDBYTES, "awq-")  # formats with which PEFT casts the rest
HALF = (BFLOAT16, FLOAT16)
KERNELS = {"gptq": GPTQ, "awq": AWQ, "hqq": HQQ, "eetq": EETQ}
LOWERED = ("lm_head", "embed_tokens", "wte", "wpe")
FIRST = {"trl": "peft"}  # casts made before the adapters, if others follow
KEPT = (0, 43, 1)  # the last bitsandbytes whose linears in 4 bits keep their inputs


def four_bits(form: Scheme | None) -> bool:
    """Return whether bitsandbytes quantizes the weights to 4 bits."""
    return form is not None and form.name.startswith(FOUR_BITS)


def experts_too(subject: Subject, maker: str, *, others: bool = True) -> Subject:
    """Return the model with experts in 4 bits like its linears, except what its config spares;
    `subject` itself if it is not in 4 bits. `others`: linears are quantized as well."""
    form = subject.choice.scheme
    if form is None or not four_bits(form) or subject.choice.as_stored:
        return subject
    packed = with_experts(scheme(form.name), maker, others=others)
    choice = replace(subject.choice, scheme=sparing(packed, subject.part.quantization or {}))
    return replace(subject, choice=choice, choices={**subject.choices, subject.part.name: choice})


@frozen_record
class Base:
    """How a quantized base is treated; `asked_*` as the user set it. `kernel` is that of its
    linears, None for bitsandbytes in 4 bits; `bitsandbytes` is a release."""

    upcast: str = "none"
    asked_upcast: str | None = None
    kernel: PackedKernel | None = None
    asked_kernel: str | None = None
    bitsandbytes: tuple[int, ...] | None = None


def chosen(
    asked: str | None, form: Scheme | None, usual: str, *, lowered: bool, shared: bool
) -> str:
    """Return how the unquantized rest of a base is cast ("none", "peft", "trl", "norms"): as the
    user sets, else as the framework does with bitsandbytes formats, unless the base is sharded.
    `lowered`: products are in bfloat16, TRL's 8 bits excepted. Raises UsageError if nothing is
    quantized."""
    if form is None and asked is not None:
        raise UsageError(sentence("kbit_unpacked", asked=asked))
    if form is None or not form.name.startswith(CAST):
        return "none"
    if asked is not None:
        return asked
    if shared or not form.name.startswith(BITSANDBYTES):
        return "none"
    return "peft" if usual == "trl" and (form.name == "bnb-int8" or not lowered) else usual


def read(form: Scheme | None) -> bool:
    """Return whether weighbridge knows what linears in format `form` save for backward."""
    return form is None or form.name.startswith((*BITSANDBYTES, *KERNELS))


def kernel(form: Scheme | None, gptq: str | None) -> PackedKernel | None:
    """Return the kernel of format `form`, None if it is unknown. `gptq` names a GPTQ kernel; in
    training GPTQModel has only torch's, AutoGPTQ also one of its own in Triton."""
    kind = "" if form is None else form.name.partition("-")[0]
    if gptq is not None and kind != "gptq":
        raise UsageError(sentence("no_gptq", kernel=gptq))
    if kind == "gptq" and gptq == "triton":
        return GPTQ_FUSED
    return KERNELS.get(kind)


def target(upcast: str, name: str, dtype: DType) -> DType:
    """Return the dtype that an unquantized parameter of the base is cast to."""
    if upcast == "none":
        return dtype
    if upcast == "trl" and "norm" not in name and any(x in name for x in LOWERED):
        return BFLOAT16
    if dtype in HALF and (upcast != "norms" or "norm" in name.lower()):
        return FLOAT32
    return dtype


def upcast(m: Machine, how: str, params: dict[str, LeafTensor]) -> None:
    """Cast parameters in place, one after the other: during its cast each exists twice."""
    for p in params.values():
        dtype = target(how, p.name, p.dtype)
        if p.storage is None or p.kind == ELSEWHERE or dtype == p.dtype:
            continue
        name = p.storage.name
        p.storage, p.dtype = TensorStorage(m.heap, dtype.size(p.numel), name), dtype


def keeps_inputs(release: tuple[int, ...] | None) -> bool:
    """Return whether 4-bit linears keep their inputs on the autograd context, which no checkpoint
    covers. `release` is that of bitsandbytes; None is the newest."""
    return release is not None and release <= KEPT
