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


def line(s: Subject, w: "Infer", p: GenerationPlan) -> LaunchLine:
    why = unwritten(s, w, p)
    if why:
        return LaunchLine(why=f"no line to paste: {why}")
    config = _config(s, p)
    names = sorted({_class(s, w), *_drafts(w), *([config.name] if config else [])})
    head = [f"import torch; from transformers import {', '.join(names)}"]
    if config is not None and config.inner is not None:
        head.append(f"from torchao.quantization import {config.inner.name}")
    head += [
        f"torch.backends.cuda.enable_{name}_sdp(False)" for name in OFF.get(p.prompt.kernel, ())
    ]
    return LaunchLine("; ".join(head) + f"; model = {_loaded(s, w, p, config)}" + _asked(s, w, p))


def unwritten(s: Subject, w: "Infer", p: GenerationPlan) -> str:
    """What transformers cannot be asked for in a line; "" where it can."""
    own, scheme = s.choice, s.choice.scheme
    if own.dtype.name not in FLOATS:
        return f"no loader holds every weight in {own.dtype.name} alike"
    if scheme is not None and _packs(s):
        if s.part.packed:
            return f"the checkpoint is packed already, and is not packed again as {scheme.name}"
        call = written(scheme.name, own.dtype.name)
        if call is None:
            return (
                f"transformers does not make {scheme.name} while it loads; give a repository that "
                "is stored so"
            )
        if call.since > p.rules.version:
            return f"transformers {p.rules.written} does not have {call.name}"
    if p.prompt.cache == "fp8":
        return "transformers has no cache in fp8 that a line can name"
    return launch_line.place(s).why


def _packs(s: Subject) -> bool:
    """Whether the loader is asked for a format that the checkpoint does not have."""
    return not s.part.packed or s.why.startswith(ASKED)


def _config(s: Subject, p: GenerationPlan) -> ConfigCall | None:
    scheme = s.choice.scheme
    return written(scheme.name, s.choice.dtype.name) if scheme and _packs(s) else None


def _class(s: Subject, w: "Infer") -> str:
    if w.base_model:
        return "AutoModel"
    cls = s.part.blueprint.cls
    return (
        cls if s.part.library == "transformers" and cls.isidentifier() else "AutoModelForCausalLM"
    )


def _drafts(w: "Infer") -> tuple[str, ...]:
    return ("AutoModelForCausalLM",) if w.draft_model else ()


def _loaded(s: Subject, w: "Infer", p: GenerationPlan, config: ConfigCall | None) -> str:
    """The keyword was `torch_dtype` before 4.56."""
    where = launch_line.place(s)
    dtype = "dtype" if p.rules.says_dtype else "torch_dtype"
    given = [_value(where.model)]
    named = (("revision", where.revision), ("gguf_file", where.file))
    given += [f"{name}={_value(value)}" for name, value in named if value]
    given.append(f"{dtype}=torch.{s.choice.dtype.name}")
    if config is not None:
        given.append(f"quantization_config={_call(config)}")
    if p.device_map:
        given.append(f'device_map="{p.device_map}"')
    implementation = IMPLEMENTATIONS.get(p.prompt.kernel)
    if p.prompt.kernel in OFF and p.rules.attention == "eager":
        implementation = "sdpa"
    if implementation:
        given.append(f'attn_implementation="{implementation}"')
    device = p.part.torch_device if p.part is not None else "cuda"
    moved = "" if p.device_map or config is not None else f'.to("{device}")'
    return f"{_class(s, w)}.from_pretrained({', '.join(given)}){moved}"


def _call(c: ConfigCall) -> str:
    given = [_call(c.inner)] if c.inner is not None else []
    given += [f"{name}={_value(value)}" for name, value in c.given.items()]
    given += [f"{name}=torch.{value}" for name, value in c.dtypes.items()]
    return f"{c.name}({', '.join(given)})"


def _value(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _asked(s: Subject, w: "Infer", p: GenerationPlan) -> str:
    return f"; model.generate({', '.join(['**inputs', *_words(s, w, p)])})" if p.new else ""


def _words(s: Subject, w: "Infer", p: GenerationPlan) -> Iterator[str]:
    apart = w.prompt_len is not None or w.max_new_tokens is not None
    yield f"max_new_tokens={p.new}" if apart else f"max_length={p.context}"
    if p.beams > 1:
        yield f"num_beams={p.beams}"
    if p.prompt.cache in CACHES:
        backend, bits = CACHES[p.prompt.cache]
        yield 'cache_implementation="quantized"'
        yield f'cache_config={{"backend": "{backend}", "nbits": {bits}}}'
    elif p.prompt.cache not in ("none", "dynamic"):
        yield f'cache_implementation="{p.prompt.cache}"'
    if p.prompt.cache != "none" and differs(s.model_type, "no_cache"):
        yield "use_cache=True"
    if w.logits_to_keep is not None:
        yield f"logits_to_keep={w.logits_to_keep}"
    drafts = launch_line.draft(s, w)
    if drafts:
        yield f"assistant_model=AutoModelForCausalLM.from_pretrained({_value(drafts)})"
