"""Names that the servers' own --quantization has.

    Engine.online      quantize a checkpoint that is not, while it is loaded: a format of ours each
    OF_THE_CHECKPOINT  only say what the checkpoint is stored in: its tensors are read

A packed checkpoint stays as it is under either.

Source: vllm 0.33 config/quantization.py, model_executor/layers/quantization/{fp8,bitsandbytes}.py;
sglang 0.5.23 srt/arg_groups/choices.py, srt/layers/quantization/.
"""

from weighbridge.engines.engine import Engine
from weighbridge.errors import UsageError

_NAMES = """
awq awq_marlin auto_awq gptq gptq_marlin auto_gptq gptq_bitblas marlin gguf squeezellm aqlm
compressed-tensors modelopt modelopt_fp8 modelopt_fp4 modelopt_mixed modelopt_mxfp8 quark
fbgemm_fp8 moe_wna16 inc auto-round auto-round-int8 mxfp4 gpt_oss_mxfp4 deepseek_v4_fp8 hqq
bitblas w8a8_fp8 w8a8_int8 w4afp8 blockwise_int8 petit_nvfp4 torchao ipex none unquant
"""
OF_THE_CHECKPOINT = frozenset(_NAMES.split())
OURS_TOO = frozenset(("mxfp4",))  # names of formats of ours as well
PLAIN = frozenset(("none", "unquant"))
SAID_OF_IT = OF_THE_CHECKPOINT - OURS_TOO - PLAIN  # refused where the checkpoint is not packed


def read(engine: Engine, name: str | None, *, packed: bool) -> str | None:
    """A format of ours for what was asked; None where the checkpoint decides. Raises UsageError for
    a name of checkpoints where this one is not packed."""
    if name is None or not engine.online:
        return name
    ours, plain = engine.makes(name), name.lower()
    if ours is not None:
        return None if packed else ours
    if plain not in OF_THE_CHECKPOINT - OURS_TOO:
        return name
    if packed or plain in PLAIN:
        return None
    raise UsageError(
        f"--quantization {name}: {engine.name} reads it from a checkpoint that is stored so, and "
        "this one is not; give that repository, or a format such as awq-4bit-g128"
    )
