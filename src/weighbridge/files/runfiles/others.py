"""Programs whose names are read in a text, and that are not answered for."""

import re

from weighbridge.base.records import NamedTuple
from weighbridge.engines.table import NOT_YET


class OtherProgram(NamedTuple):
    """A program: what tells it, its name, its task. `alone`: files of it are read, and the name
    counts where none is there."""

    pattern: str
    name: str
    task: str
    alone: bool = False


OTHERS = (
    OtherProgram(r"openrlhf", "OpenRLHF", "train"),
    OtherProgram(r"\bverl\b|verl\.trainer|actor_rollout", "verl", "train"),
    OtherProgram(r"megatron rlhf\b", "ms-swift with Megatron", "train"),
    OtherProgram(r"megatron (?:sft|pt)\b", "ms-swift with Megatron", "train"),
    OtherProgram(r"(?i)(?<![a-z])GRPO(?![a-z])|GRPO(?:Trainer|Config)", "GRPO", "train"),
    OtherProgram(r"(?i)(?<![a-z])DPO(?![a-z])|DPO(?:Trainer|Config)", "DPO", "train"),
    OtherProgram(
        r"(?i)torchtitan", "a config of torchtitan that is not in the text", "train", alone=True
    ),
    OtherProgram(r"(?i)cosmos_predict|WanVideo|ComfyUI|video model", "a model of videos", "train"),
    OtherProgram(r"trtllm-serve|TRT-LLM|tensorrt-llm", "TensorRT-LLM", "infer"),
    OtherProgram(r"(?i)lmdeploy", "LMDeploy", "infer"),
    OtherProgram(r"\bmtplx\b", "MTPLX", "infer"),
    OtherProgram(r"--kt-(?:method|weight)", "SGLang with ktransformers (--kt-*)", "infer"),
    OtherProgram(r"(?i)global_segment_size|mooncake", "Mooncake's store in host memory", "infer"),
)


def other(text: str) -> OtherProgram | None:
    """Return the program that a text is about and that is not answered for."""
    return next((each for each in OTHERS if re.search(each.pattern, text)), None)


def why(program: OtherProgram, model: str, gpu: str) -> str:
    """Return why a text is not answered, and what the nearest engine has to be told."""
    told = f"the text is about {program.name}, which is read and not answered yet"
    nearest = NOT_YET.get(program.name.lower())
    if nearest is None:
        return told
    return (
        f"{told}; nearest is weighbridge infer {model or 'MODEL'} --engine {nearest} --gpu "
        f"{gpu or 'NAME'}, which takes memory by other rules"
    )
