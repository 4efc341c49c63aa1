"""What a launch line cannot ask for, or asks for otherwise than was meant: of both servers.

    dtype     float16, bfloat16 and float32 alone; what the card has instead of bfloat16
    formats   made while loading: QUANTIZES; all others are read from checkpoints stored so
    context   beyond the model's maximum needs a variable of the environment
    images    whose tokens are more than the context

Source: vllm 0.33 config/model.py (_STR_DTYPE_TO_TORCH_DTYPE, _get_and_verify_max_len),
model_executor/layers/quantization/; sglang 0.5.23 srt/configs/model_config.py
(_derive_context_length), srt/arg_groups/choices.py.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from weighbridge.dtypes import torch_dtype
from weighbridge.engines.methods import online
from weighbridge.engines.serving import Subject
from weighbridge.workload import Infer

DTYPES: Mapping[str, str] = {"float16": "half", "bfloat16": "bfloat16", "float32": "float"}
QUANTIZES: Mapping[str, str] = {"fp8-tensor": "fp8", "nf4": "bitsandbytes"}


class Server(NamedTuple):
    """Its program in words, and the variable that allows longer contexts."""

    name: str
    longer: str


SERVERS: Mapping[str, Server] = {
    "vllm": Server("vLLM", "VLLM_ALLOW_LONG_MAX_MODEL_LEN"),
    "sglang": Server("SGLang", "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"),
}


def before(subject: Subject, engine: str) -> tuple[str, ...]:
    """Words in front of the program."""
    if subject.longest is None or subject.context <= subject.longest:
        return ()
    return (f"{SERVERS[engine].longer}=1",)


def dtype(subject: Subject, w: Infer) -> str | None:
    """The value of --dtype: what was asked for, or what the card has instead of bfloat16."""
    if subject.narrowed:
        return DTYPES[subject.choice.dtype.name]
    asked = w.dtype and torch_dtype(w.dtype, "--dtype").name
    return w.dtype if asked in DTYPES else None


def quantization(subject: Subject, w: Infer, engine: str) -> str | None:
    """The value of --quantization, of checkpoints that are not packed themselves: the engine's own
    name where it was asked by that."""
    scheme = subject.choice.scheme
    if scheme is None or subject.part.packed:
        return None
    if w.quantization and online(engine, w.quantization) == scheme.name:
        return w.quantization.lower()
    return QUANTIZES.get(scheme.name)


def limits_images(subject: Subject, w: Infer) -> bool:
    return w.images is not None and bool(_image_tokens(subject))


def warnings(subject: Subject, w: Infer, engine: str) -> Iterator[str]:
    name = SERVERS[engine].name
    scheme = subject.choice.scheme
    stored = scheme is not None and not subject.part.packed
    if scheme is not None and stored and quantization(subject, w, engine) is None:
        yield (
            f"the launch line names the unquantized model: {name} reads {scheme.name} from a "
            "checkpoint that is stored so; give that repository"
        )
    if w.dtype and dtype(subject, w) is None:
        yield (
            f"the launch line leaves out --dtype {w.dtype}: {name} takes float16, bfloat16 and "
            "float32; for packed weights give --quantization"
        )
    tokens = (w.images or 0) * _image_tokens(subject)
    if tokens > subject.context:
        yield (
            f"{w.images:,} images take {tokens:,} tokens, more than the context of "
            f"{subject.context:,}: {name} refuses such a request; give a larger --context"
        )


def _image_tokens(subject: Subject) -> int:
    """Of one image."""
    return max((t.tokens for t in subject.body.towers if t.kind == "image"), default=0)
