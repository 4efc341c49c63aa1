"""Facts that follow from an answer: effective settings, tokens that fit, the line of Python.

    import torch; from transformers import AutoTokenizer, Qwen3ForCausalLM;
    model = Qwen3ForCausalLM.from_pretrained("org/name", dtype=torch.bfloat16).to("cuda");
    inputs = AutoTokenizer.from_pretrained("org/name")("Hello", return_tensors="pt").to(
        model.device); model.generate(**inputs, max_length=4096)

The line loads and runs the model as it was estimated; it names the estimated class, since an Auto
class loads another one for multimodal models and encoders. `dialect.py` parses such lines.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from weighbridge.base.memo import memo
from weighbridge.base.memory import Bytes, Component, Device, Instant, Role, around, compose
from weighbridge.base.records import dataclass, replace
from weighbridge.base.sentences import sentence
from weighbridge.engines import launch_line
from weighbridge.engines.format_choice import ASKED, native_dtype
from weighbridge.engines.interface import Subject
from weighbridge.engines.transformers.caches import of_mixer
from weighbridge.engines.transformers.plan import GenerationPlan
from weighbridge.engines.transformers.stage import KV, setting
from weighbridge.memory.components import host
from weighbridge.memory.components.weights import weight_bytes
from weighbridge.memory.report.keys import DerivedFacts, EffectiveSettings
from weighbridge.models.arch.mixers import GatedDelta, KimiDelta, Mamba1, Mamba2
from weighbridge.models.arch.model_types import differs
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.models.quantization.on_load import ConfigCall, written

if TYPE_CHECKING:
    from weighbridge.engines.transformers.settings import Transformers
    from weighbridge.machines.accelerators.budget import Budget

FROM_DRAFT = ("weights", "buffers", "kv_cache", "recurrent_state", "rounding")
SCANS = (GatedDelta, KimiDelta, Mamba1, Mamba2)


def settings(subject: Subject, w: "Transformers", plan: GenerationPlan) -> EffectiveSettings:
    return {
        "attention": plan.prompt.kernel,
        "cache_implementation": None if plan.prompt.cache == "none" else plan.prompt.cache,
        "device_map": plan.device_map,
        "num_beams": plan.beams,
        "logits_to_keep": plan.logits_kept,
        "torch_version": w.torch_version,
        "images": plan.items["image"],
        "audio_seconds": w.audio_seconds,
        "draft_model": w.draft_model,
        "exact": w.exact,
    }


def facts(
    subject: Subject,
    w: "Transformers",
    plan: GenerationPlan,
    devices: tuple[Device, ...],
    budget: "Budget | None",
) -> DerivedFacts:
    token = _per_token(subject, plan)
    answer: DerivedFacts = {"kv_cache_bytes_per_token": token}
    answer |= line(subject, w, plan).facts()
    if budget is not None and plan.new and token:
        tokens = min(_tokens(d, plan, budget.of(i)) for i, d in enumerate(devices))
        answer |= {"kv_cache_tokens": tokens, "max_concurrency": tokens // plan.context}
    return answer


def _per_token(subject: Subject, plan: GenerationPlan) -> int:
    """Return the cache bytes per additional token of one sequence, over all devices."""
    if plan.prompt.cache == "none":
        return 0
    one = replace(plan.prompt, batch=1, tokens=1, past=plan.context - 1, cache="dynamic", longest=0)
    before = replace(one, past=max(1, plan.context - 2))
    counts = Counter(m for la in subject.layers for m in la.mixers)
    now, then = setting(one), setting(before)
    return sum(n * (of_mixer(m, now).kv - of_mixer(m, then).kv) for m, n in counts.items())


def _tokens(device: Device, plan: GenerationPlan, usable: Bytes) -> int:
    """Return the tokens whose cache fits beside all else, in the decode phase."""
    decode = next(phase for phase in device.phases if phase.name == "decode")
    cache = decode.of(KV).expected
    free = usable.expected - decode.at("driver").expected + cache
    return max(0, free) * plan.context * plan.prompt.batch // max(1, cache)


def on_host(subject: Subject, plan: GenerationPlan) -> Device:
    """Return the host of one process: while it loads, and with the weights on the device."""
    mapped = plan.device_map is not None
    version = plan.rules.version

    def compute() -> Device:
        process = host.processes(1)
        loading = [
            c
            for part in subject.model.parts
            for c in _part(subject, part, version, device_map=mapped)
        ]
        others = {"load": loading, "prefill": (), "decode": ()}
        return Device(index=0, kind="host", phases=around((process,), others))

    return memo(subject.model, ("host", subject.formats, subject.major, mapped, version), compute)


def _part(
    subject: Subject, part: ModelPart, version: tuple[int, ...], *, device_map: bool
) -> tuple[Component, ...]:
    choice = subject.choices.get(part.name, subject.choice)
    weights = weight_bytes(part, choice, major=subject.major)
    return host.while_loading(
        part,
        host.loaded(part, choice, weights, native_dtype(part)),
        host.HostReading(straight=host.straight(choice.scheme, device_map=device_map)),
        version=version,
    )


def beside(device: Device, draft: Device) -> Device:
    """Return the device with a draft model: its weights, and its cache while it is in use."""
    roles = {"": Role.of(device.phases), "draft": Role.of(map(_of_draft, draft.phases))}
    here, there = roles["draft"].instants, draft.phases[-1].name
    names = [phase.name for phase in device.phases]
    schedule = ((n, {"": n, "draft": n if n in here else there}) for n in names)
    return replace(device, phases=compose(schedule, roles))


def _of_draft(phase: Instant) -> Instant:
    kept = (c for c in phase.components if c.name in FROM_DRAFT)
    named = (replace(c, detail=f"draft model {c.detail}".strip()) for c in kept)
    return Instant(phase.name, tuple(named))


def warnings(subject: Subject, plan: GenerationPlan) -> tuple[str, ...]:
    return tuple(_warnings(subject, plan))


def _warnings(subject: Subject, plan: GenerationPlan) -> Iterator[str]:
    if any(isinstance(m, SCANS) for b in subject.body.blocks for m in b.mixers):
        yield sentence("recurrent")
    if plan.prompt.cache == "none" and plan.new:
        yield (sentence("no_own_cache"))
    if plan.rules.whole_logits and plan.new and plan.prompt.tokens > 1:
        yield sentence("whole_logits", version=plan.rules.written)


# ---- the line of Python

FLOATS = ("float32", "float16", "bfloat16")
IMPLEMENTATIONS = {"eager": "eager", "flash": "flash_attention_2"}
# torch.backends.cuda.enable_*_sdp: kernels to switch off so that another one runs
OFF: Mapping[str, tuple[str, ...]] = {
    "efficient": ("flash", "cudnn"),
    "cudnn": ("flash", "mem_efficient"),
    "math": ("flash", "mem_efficient", "cudnn"),
}
CACHES = {"quanto": ("quanto", 4), "hqq": ("hqq", 4)}


@dataclass(frozen=True, slots=True)
class LaunchLine:
    """A line to paste, or the reason why there is none."""

    text: str = ""
    why: str = ""

    def facts(self) -> DerivedFacts:
        return {"launch": self.text} if self.text else {"launch_note": self.why}


def line(subject: Subject, w: "Transformers", plan: GenerationPlan) -> LaunchLine:
    why = unwritten(subject, w, plan)
    if why:
        return LaunchLine(why=sentence("no_line", reason=why))
    config = _config(subject, plan)
    names = sorted(
        {
            _class(subject, w),
            *(("AutoModelForCausalLM",) if w.draft_model else ()),
            *_tokenizer(subject, plan),
            *([config.name] if config else []),
        }
    )
    head = [f"import torch; from transformers import {', '.join(names)}"]
    if config is not None and config.inner is not None:
        head.append(f"from torchao.quantization import {config.inner.name}")
    head += [
        f"torch.backends.cuda.enable_{name}_sdp(False)" for name in OFF.get(plan.prompt.kernel, ())
    ]
    return LaunchLine(
        "; ".join(head)
        + f"; model = {_loaded(subject, w, plan, config)}"
        + _read(subject, w, plan)
        + _asked(subject, w, plan)
    )


def unwritten(subject: Subject, w: "Transformers", plan: GenerationPlan) -> str:
    """Return what no line of transformers can do; "" if one can."""
    choice, scheme = subject.choice, subject.choice.scheme
    if choice.dtype.name not in FLOATS:
        return sentence("not_alike", dtype=choice.dtype.name)
    if scheme is not None and _packs(subject):
        if subject.part.packed:
            return sentence("packed_already", form=scheme.name)
        call = written(scheme.name, choice.dtype.name)
        if call is None:
            return sentence("not_made_on_load", form=scheme.name)
        if call.since > plan.rules.version:
            return sentence("has_no_call", version=plan.rules.written, name=call.name)
    if plan.prompt.cache == "fp8":
        return sentence("no_fp8_cache")
    return launch_line.place(subject).why


def _packs(subject: Subject) -> bool:
    """Return whether the loader quantizes to a format that the checkpoint does not have."""
    return not subject.part.packed or subject.why.startswith(ASKED)


def _config(subject: Subject, plan: GenerationPlan) -> ConfigCall | None:
    scheme = subject.choice.scheme
    return written(scheme.name, subject.choice.dtype.name) if scheme and _packs(subject) else None


def _class(subject: Subject, w: "Transformers") -> str:
    if w.base_model:
        return "AutoModel"
    cls = subject.part.blueprint.cls
    return (
        cls
        if subject.part.library == "transformers" and cls.isidentifier()
        else "AutoModelForCausalLM"
    )


def _loaded(
    subject: Subject, w: "Transformers", plan: GenerationPlan, config: ConfigCall | None
) -> str:
    """Return the call of from_pretrained; the keyword `dtype` was `torch_dtype` before 4.56."""
    dtype = "dtype" if plan.rules.says_dtype else "torch_dtype"
    arguments = [*_whence(subject), f"{dtype}=torch.{subject.choice.dtype.name}"]
    if config is not None:
        arguments.append(f"quantization_config={_call(config)}")
    if plan.device_map:
        arguments.append(f'device_map="{plan.device_map}"')
    implementation = IMPLEMENTATIONS.get(plan.prompt.kernel)
    if plan.prompt.kernel in OFF and plan.rules.attention == "eager":
        implementation = "sdpa"
    if implementation:
        arguments.append(f'attn_implementation="{implementation}"')
    device = plan.part.torch_device if plan.part is not None else "cuda"
    moved = "" if plan.device_map or config is not None else f'.to("{device}")'
    return f"{_class(subject, w)}.from_pretrained({', '.join(arguments)}){moved}"


def _whence(subject: Subject) -> Iterator[str]:
    """Yield the arguments that locate the files."""
    where = launch_line.place(subject)
    yield _value(where.model)
    named = (("revision", where.revision), ("gguf_file", where.file))
    yield from (f"{name}={_value(value)}" for name, value in named if value)


def _call(call: ConfigCall) -> str:
    arguments = [_call(call.inner)] if call.inner is not None else []
    arguments += [f"{name}={_value(value)}" for name, value in call.arguments.items()]
    arguments += [f"{name}=torch.{value}" for name, value in call.dtypes.items()]
    return f"{call.name}({', '.join(arguments)})"


def _value(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _tokenizer(subject: Subject, plan: GenerationPlan) -> tuple[str, ...]:
    """Return the tokenizer class for text-only input; empty for others."""
    other = any(plan.items.values()) or (subject.body.encoder and subject.body.towers)
    return ("AutoTokenizer",) if plan.new and not other else ()


def _read(subject: Subject, w: "Transformers", plan: GenerationPlan) -> str:
    """Return the code of the inputs: a word per request. Images and sounds are the reader's own."""
    count = w.batch_size or 1
    texts = '"Hello"' if count == 1 else f'["Hello"] * {count}'
    return "".join(
        f"; inputs = {name}.from_pretrained({', '.join(_whence(subject))})"
        f'({texts}, return_tensors="pt").to(model.device)'
        for name in _tokenizer(subject, plan)
    )


def _asked(subject: Subject, w: "Transformers", plan: GenerationPlan) -> str:
    return (
        f"; model.generate({', '.join(['**inputs', *_words(subject, w, plan)])})"
        if plan.new
        else ""
    )


def _words(subject: Subject, w: "Transformers", plan: GenerationPlan) -> Iterator[str]:
    apart = w.prompt_len is not None or w.max_new_tokens is not None
    yield f"max_new_tokens={plan.new}" if apart else f"max_length={plan.context}"
    if plan.beams > 1:
        yield f"num_beams={plan.beams}"
    if plan.prompt.cache in CACHES:
        backend, bits = CACHES[plan.prompt.cache]
        yield 'cache_implementation="quantized"'
        yield f'cache_config={{"backend": "{backend}", "nbits": {bits}}}'
    elif plan.prompt.cache not in ("none", "dynamic"):
        yield f'cache_implementation="{plan.prompt.cache}"'
    if plan.prompt.cache != "none" and differs(subject.model_type, "no_cache"):
        yield "use_cache=True"
    if w.logits_to_keep is not None:
        yield f"logits_to_keep={w.logits_to_keep}"
    drafts = launch_line.draft(subject, w)
    if drafts:
        yield f"assistant_model=AutoModelForCausalLM.from_pretrained({_value(drafts)})"
