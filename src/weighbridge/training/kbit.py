"""What is done to a packed base before it is trained, and what its linears keep.

    peft    prepare_model_for_kbit_training: every parameter of 16 bits that is not packed becomes
            float32, one after the other: embedding, head, norms, biases, routers, towers, experts
    trl     the same, then embedding and head are bfloat16 again (peft_module_casting_to_bf16)
    norms   norms alone are float32 (TRL 0.25)
    none    all stays as it was loaded

PEFT leaves GPTQ, AQLM, EETQ, HQQ and torchao alone; AWQ is in no list of its exceptions.
Source: PEFT 0.19.1 utils/other.py; TRL 0.24.0 and 0.25.1 models/utils.py; bitsandbytes 0.43.1 and
0.43.2 autograd/_functions.py (MatMul4Bit).
"""

from weighbridge.autograd.machine import Machine
from weighbridge.autograd.tensors import ELSEWHERE, Param, Storage
from weighbridge.dtypes import BFLOAT16, FLOAT16, FLOAT32, DType
from weighbridge.errors import UsageError
from weighbridge.quantization.schemes import Scheme

BITSANDBYTES = ("nf4", "fp4", "bnb-")  # formats that leave stacks of experts alone
CAST = (*BITSANDBYTES, "awq-")  # whose rest PEFT casts
HALF = (BFLOAT16, FLOAT16)
LOWERED = ("lm_head", "embed_tokens", "wte", "wpe")
UPCASTS = ("peft", "trl", "norms", "none")
KEPT = (0, 43, 1)  # the last bitsandbytes whose linears in 4 bits keep their inputs


def chosen(
    given: str | None, form: Scheme | None, usual: str, *, lowered: bool, shared: bool
) -> str:
    """How the base is cast: as the user says, or as the framework does with what bitsandbytes packs
    and no ranks share out. `lowered`: products are in bfloat16, 8 bits excepted by TRL. Raises
    UsageError where nothing is packed."""
    if form is None and given is not None:
        raise UsageError(
            f"--kbit-upcast {given}: the base is not packed, and nothing is cast; add "
            "--method qlora, or leave it out"
        )
    if form is None or not form.name.startswith(CAST):
        return "none"
    if given is not None:
        return given
    if shared or not form.name.startswith(BITSANDBYTES):
        return "none"
    return "peft" if usual == "trl" and (form.name == "bnb-int8" or not lowered) else usual


def target(upcast: str, name: str, dtype: DType) -> DType:
    """What a parameter of the base, that is not packed, is held in."""
    if upcast == "none":
        return dtype
    if upcast == "trl" and "norm" not in name and any(x in name for x in LOWERED):
        return BFLOAT16
    if dtype in HALF and (upcast != "norms" or "norm" in name.lower()):
        return FLOAT32
    return dtype


def upcast(m: Machine, how: str, params: dict[str, Param]) -> None:
    """Casts the parameters where they are, one after the other: each exists twice for a moment."""
    for p in params.values():
        dtype = target(how, p.name, p.dtype)
        if p.storage is None or p.kind == ELSEWHERE or dtype == p.dtype:
            continue
        name = p.storage.name
        p.storage, p.dtype = Storage(m.heap, dtype.size(p.numel), name), dtype


def keeps_inputs(release: tuple[int, ...] | None) -> bool:
    """Whether linears in 4 bits hold what they were given on their function's context, where no
    checkpoint sees it. `release` of bitsandbytes; None is the newest."""
    return release is not None and release <= KEPT
