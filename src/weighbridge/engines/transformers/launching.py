"""The line of Python that loads and asks a model as it was sized, or why there is none.

    import torch; from transformers import Qwen3ForCausalLM; Qwen3ForCausalLM.from_pretrained(
        "org/name", dtype=torch.bfloat16).generate(**inputs, max_length=4096)

The class is the one that was sized: an Auto class loads another one for towers and encoders.
`dialect.py` reads such lines.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from weighbridge.arch.model_types import differs
from weighbridge.engines import launch_line
from weighbridge.engines.format_choice import ASKED
from weighbridge.engines.interface import Subject
from weighbridge.engines.transformers.plan import GenerationPlan
from weighbridge.quantization.on_load import ConfigCall, written
from weighbridge.report.keys import DerivedFacts

if TYPE_CHECKING:
    from weighbridge.workload import Infer

FLOATS = ("float32", "float16", "bfloat16")
IMPLEMENTATIONS = {"eager": "eager", "flash": "flash_attention_2"}
# torch.backends.cuda.enable_*_sdp: the kernels that another one needs out of its way
OFF: Mapping[str, tuple[str, ...]] = {
    "efficient": ("flash", "cudnn"),
    "cudnn": ("flash", "mem_efficient"),
    "math": ("flash", "mem_efficient", "cudnn"),
}
CACHES = {"quanto": ("quanto", 4), "hqq": ("hqq", 4)}


@dataclass(frozen=True, slots=True)
class LaunchLine:
    """A line to paste, or a sentence that says why there is none."""

    text: str = ""
    why: str = ""

    def facts(self) -> DerivedFacts:
        return {"launch": self.text} if self.text else {"launch_note": self.why}


def line(subject: Subject, w: "Infer", plan: GenerationPlan) -> LaunchLine:
    why = unwritten(subject, w, plan)
    if why:
        return LaunchLine(why=f"no line to paste: {why}")
    config = _config(subject, plan)
    names = sorted({_class(subject, w), *_drafts(w), *([config.name] if config else [])})
    head = [f"import torch; from transformers import {', '.join(names)}"]
    if config is not None and config.inner is not None:
        head.append(f"from torchao.quantization import {config.inner.name}")
    head += [
        f"torch.backends.cuda.enable_{name}_sdp(False)" for name in OFF.get(plan.prompt.kernel, ())
    ]
    return LaunchLine(
        "; ".join(head)
        + f"; model = {_loaded(subject, w, plan, config)}"
        + _asked(subject, w, plan)
    )


def unwritten(subject: Subject, w: "Infer", plan: GenerationPlan) -> str:
    """Return what transformers cannot be asked for in a line; "" where it can."""
    own, scheme = subject.choice, subject.choice.scheme
    if own.dtype.name not in FLOATS:
        return f"no loader holds every weight in {own.dtype.name} alike"
    if scheme is not None and _packs(subject):
        if subject.part.packed:
            return f"the checkpoint is packed already, and is not packed again as {scheme.name}"
        call = written(scheme.name, own.dtype.name)
        if call is None:
            return (
                f"transformers does not make {scheme.name} while it loads; give a repository that "
                "is stored so"
            )
        if call.since > plan.rules.version:
            return f"transformers {plan.rules.written} does not have {call.name}"
    if plan.prompt.cache == "fp8":
        return "transformers has no cache in fp8 that a line can name"
    return launch_line.place(subject).why


def _packs(subject: Subject) -> bool:
    """Tell whether the loader is asked for a format that the checkpoint does not have."""
    return not subject.part.packed or subject.why.startswith(ASKED)


def _config(subject: Subject, plan: GenerationPlan) -> ConfigCall | None:
    scheme = subject.choice.scheme
    return written(scheme.name, subject.choice.dtype.name) if scheme and _packs(subject) else None


def _class(subject: Subject, w: "Infer") -> str:
    if w.base_model:
        return "AutoModel"
    cls = subject.part.blueprint.cls
    return (
        cls
        if subject.part.library == "transformers" and cls.isidentifier()
        else "AutoModelForCausalLM"
    )


def _drafts(w: "Infer") -> tuple[str, ...]:
    return ("AutoModelForCausalLM",) if w.draft_model else ()


def _loaded(subject: Subject, w: "Infer", plan: GenerationPlan, config: ConfigCall | None) -> str:
    """The keyword was `torch_dtype` before 4.56."""
    where = launch_line.place(subject)
    dtype = "dtype" if plan.rules.says_dtype else "torch_dtype"
    given = [_value(where.model)]
    named = (("revision", where.revision), ("gguf_file", where.file))
    given += [f"{name}={_value(value)}" for name, value in named if value]
    given.append(f"{dtype}=torch.{subject.choice.dtype.name}")
    if config is not None:
        given.append(f"quantization_config={_call(config)}")
    if plan.device_map:
        given.append(f'device_map="{plan.device_map}"')
    implementation = IMPLEMENTATIONS.get(plan.prompt.kernel)
    if plan.prompt.kernel in OFF and plan.rules.attention == "eager":
        implementation = "sdpa"
    if implementation:
        given.append(f'attn_implementation="{implementation}"')
    device = plan.part.torch_device if plan.part is not None else "cuda"
    moved = "" if plan.device_map or config is not None else f'.to("{device}")'
    return f"{_class(subject, w)}.from_pretrained({', '.join(given)}){moved}"


def _call(call: ConfigCall) -> str:
    given = [_call(call.inner)] if call.inner is not None else []
    given += [f"{name}={_value(value)}" for name, value in call.arguments.items()]
    given += [f"{name}=torch.{value}" for name, value in call.dtypes.items()]
    return f"{call.name}({', '.join(given)})"


def _value(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _asked(subject: Subject, w: "Infer", plan: GenerationPlan) -> str:
    return (
        f"; model.generate({', '.join(['**inputs', *_words(subject, w, plan)])})"
        if plan.new
        else ""
    )


def _words(subject: Subject, w: "Infer", plan: GenerationPlan) -> Iterator[str]:
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
