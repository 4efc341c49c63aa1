"""Programs that are read in a text and not answered for: what of them is sure, what is missing.

    GRPO, verl, OpenRLHF    the actor's weights are on the card, in their format, whatever the rest
                            takes; the rest follows from generations, lengths and the batch
    DPO                     two sequences for each pair, and the forward of a reference
    models of videos        frames, height and width
    LMDeploy, TensorRT-LLM  the nearest engine, and what it has to be told

Sources: arXiv 1910.02054 section 3.1 (16 bytes a parameter: both in 16 bits, and the copy and two
moments in float32), arXiv 2402.03300 section 4.1 (a group of outputs for each prompt), arXiv
2305.18290 (a policy and a reference over both answers).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from weighbridge.engines.table import NOT_YET
from weighbridge.errors import WeighbridgeError
from weighbridge.questions.prepared import Prepared
from weighbridge.records import NamedTuple
from weighbridge.runfiles.findings import LogFinding
from weighbridge.runfiles.named import vocabulary
from weighbridge.runfiles.record import PlannedRun

Step = Literal["", "rl", "dpo", "video", "config"]
PAIR = 2 * 1000  # tokens of two answers
OF_LOGITS = 4  # bytes of a logit in float32
PACKERS = (None, "4.57")  # transformers: the newest, and one whose experts are linears
OF_STATES = 16  # bytes a parameter of a training in 16 bits with Adam
FOUR_BITS = re.compile(
    r"(?i)QLoRA|bnb-?4bit|load_in_4bit\s*=\s*True|\b4[- ]?bit\b|(?<![a-z/])unsloth(?![/-])"
)
# What decides, and how a text says it
SAID: Mapping[Step, Mapping[str, str]] = {
    "rl": {
        "generations": r"(?i)num_generations|n_samples_per_prompt|rollout\.n\b|rollout_n",
        "lengths": r"(?i)max_(?:completion|response|new_tokens|prompt)_?len|max_completion_length"
        r"|generate_max_len|max_response_length",
        "batch": r"(?i)(?:train|micro|mini)_?batch|batch_size|ppo_max_token_len",
    },
    "dpo": {
        "batch": r"(?i)per_device_train_batch_size|(?<!eval_)batch_?size",
        "lengths": r"(?i)max_length|max_prompt_length|\d+ (?:seq|tokens)",
    },
    "video": {
        "frames": r"(?i)\d+[- ]frames?\b|num_frames\s*=\s*\d",
        "resolution": r"(?i)\d{3,4} ?[x\u00d7*] ?\d{3,4}|\b(?:480|720|1080)p\b|resolution\s*=",
    },
}


LENGTHS = (
    r"(?:prompt_max_len|max_prompt_length)[\"' =:]{1,4}(\d{2,7})\b",
    r"(?:generate_max_len|max_(?:completion|response)_length)[\"' =:]{1,4}(\d{2,7})\b",
)
VARIABLE = re.compile(r"(?:--pretrain|--model\S{0,20}|model\.path)[ =]\"?\$\{?(\w{1,60})")
CONFIG = re.compile(r"([\w./-]{1,200}\.toml)\b")


class OtherProgram(NamedTuple):
    """A program: what tells it, its name, its task, and what kind of step it takes."""

    pattern: str
    name: str
    task: str
    step: Step = ""


OTHERS = (
    OtherProgram(r"openrlhf", "OpenRLHF", "train", "rl"),
    OtherProgram(r"\bverl\b|verl\.trainer|actor_rollout", "verl", "train", "rl"),
    OtherProgram(r"megatron rlhf\b", "ms-swift with Megatron", "train", "rl"),
    OtherProgram(r"megatron (?:sft|pt)\b", "ms-swift with Megatron", "train"),
    OtherProgram(r"(?i)(?<![a-z])GRPO(?![a-z])", "GRPO", "train", "rl"),
    OtherProgram(r"(?i)(?<![a-z])DPO(?![a-z])", "DPO", "train", "dpo"),
    OtherProgram(
        r"(?i)torchtitan", "a config of torchtitan that is not in the text", "train", "config"
    ),
    OtherProgram(
        r"(?i)cosmos_predict|WanVideo|ComfyUI|video model", "a model of videos", "train", "video"
    ),
    OtherProgram(r"trtllm-serve|TRT-LLM|tensorrt-llm", "TensorRT-LLM", "infer"),
    OtherProgram(r"(?i)lmdeploy", "LMDeploy", "infer"),
    OtherProgram(r"\bmtplx\b", "MTPLX", "infer"),
    OtherProgram(r"--kt-(?:method|weight)", "SGLang with ktransformers (--kt-*)", "infer"),
    OtherProgram(r"(?i)global_segment_size|mooncake", "Mooncake's store in host memory", "infer"),
)
Opened = Callable[[PlannedRun], Prepared]


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


def of_others(text: str, runs: Sequence[PlannedRun], opened: Opened) -> Iterator[LogFinding]:
    """Yield what is sure of a run that is not answered, and what its text does not say."""
    program = other(text)
    if program is None or not any(run.refused for run in runs):
        return
    run = runs[0]
    if program.step in ("rl", "dpo") and run.model:
        yield from _actor(text, run, opened, program)
    tokens = vocabulary(run.model) if program.step == "dpo" and run.model else None
    if tokens:
        yield LogFinding("pair", {"logits_bytes": PAIR * tokens * OF_LOGITS})
    if program.step == "rl" and run.model:
        yield from _sequence(text, run)
    yield from _elsewhere(text, run, program)
    known = SAID.get(program.step, {}).items()
    lacking = [name for name, said in known if not re.search(said, text)]
    if lacking:
        values = {"program": program.name, "missing": ", ".join(lacking)}
        yield LogFinding(f"lacks.{program.step}", values)


def _sequence(text: str, run: PlannedRun) -> Iterator[LogFinding]:
    """Yield what the logits of the longest sequence take, where the text says its length."""
    lengths = [int(found[1]) for name in LENGTHS if (found := re.search(name, text))]
    known = vocabulary(run.model)
    if lengths and known:
        tokens = sum(lengths)
        yield LogFinding("sequence", {"tokens": tokens, "logits_bytes": tokens * known * 2})


def _elsewhere(text: str, run: PlannedRun, program: OtherProgram) -> Iterator[LogFinding]:
    """Yield what stands elsewhere than in a text: a config, a model that a variable names."""
    variable, config = VARIABLE.search(text), CONFIG.search(text)
    if not run.model and variable is not None:
        yield LogFinding("lacks.model", {"name": variable[1]})
    if program.step == "config" and config is not None:
        yield LogFinding("lacks.config", {"path": config[1]})


def asks(finding: LogFinding) -> bool:
    """Tell whether a finding only names what a text does not say."""
    return finding.key.startswith("lacks.")


def _actor(
    text: str, run: PlannedRun, opened: Opened, program: OtherProgram
) -> Iterator[LogFinding]:
    """Yield what the weights of the model that is trained take, whatever the rest does."""
    packed = FOUR_BITS.search(f"{text} {run.model}") is not None
    form = {"quantization": "nf4"} if packed else {"dtype": "bfloat16"}
    weights = _least(run, opened, form)
    if not weights:
        return
    card = _card(run)
    values = {
        "model": run.model,
        "program": program.name,
        "form": next(iter(form.values())),
        "weights_bytes": weights,
    }
    if card is None:
        yield LogFinding("actor", values)
        return
    name, room, count = card
    there = {**values, "card": name, "room_bytes": room, "left_bytes": max(room - weights, 0)}
    yield LogFinding("actor.over" if weights > room else "actor.card", there)
    if not packed:
        whole = weights // 2 * OF_STATES
        each = {"whole_bytes": whole, "each_bytes": whole // count, "count": count}
        yield LogFinding("states", {**values, **each, "room_bytes": room})


def _least(run: PlannedRun, opened: Opened, form: Mapping[str, str]) -> int:
    """Return the bytes of a model's weights in a format, by the release that packs most of them; 0
    where the model cannot be read."""
    sizes = []
    for release in PACKERS:
        try:
            question: Any = {"engine_version": release, "context": 1, **form}
            sizes.append(_weights(opened(run).infer(engine="transformers", **question)))
        except WeighbridgeError:
            continue
    return min(filter(None, sizes), default=0)


def _weights(report: Any) -> int:
    return sum(
        c.bytes.expected
        for device in report.devices
        if device.kind == "gpu"
        for c in device.phases[-1].components
        if c.name == "weights"
    )


def _card(run: PlannedRun) -> tuple[str, int, int] | None:
    """Return the card of a run, what a process can have of it, and how many there are."""
    from weighbridge.accelerators.names import find

    gpu = next((u.value for u in run.understood if u.setting == "gpu"), None)
    if gpu is None:
        return None
    try:
        choice = find(str(gpu))
    except WeighbridgeError:
        return None
    return choice.part.name, choice.room.expected, choice.count
