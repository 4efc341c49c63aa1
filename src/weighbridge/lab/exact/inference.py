"""The requests of a workload, run by the class itself: `generate`, or a forward alone.

    load      until the model is on the device
    prefill   towers, an encoder, the prompt; until the first token is taken
    decode    one token a request, until the cache holds the whole context

Where the answer is long, its middle is left out: the first steps are run, each layer's keys and
values are joined to as many as the steps between would have added, and the last steps are run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import nn
from transformers import GenerationMixin

from weighbridge.engines.interface import Subject
from weighbridge.engines.transformers.plan import GenerationPlan, plan
from weighbridge.errors import UnsupportedError, WeighbridgeError
from weighbridge.lab.exact.build import built, card, kernel, supported
from weighbridge.lab.exact.inputs import inputs
from weighbridge.lab.exact.keeping import Keeping
from weighbridge.lab.trace.tape import Tape
from weighbridge.settings import Infer

ALL = 8  # steps that are run one by one; of more, the first and the last
FIRST, LAST = 2, 2
LOOK = "(local_scalar_dense)"  # generate asks whether all are finished: they are not
LONGEST = 200  # signs of what a library says


@dataclass(slots=True)
class TracedCourse:
    """A tape in phases: spans of events."""

    tape: Tape
    spans: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    left_out: int = 0  # steps
    notes: tuple[str, ...] = ()
    phase: str = "load"  # now; "" is none
    start: int = 0

    @property
    def source(self) -> str:
        return f"transformers {transformers.__version__} on torch {torch.__version__}, a fake GPU"

    def begin(self, phase: str) -> None:
        now = len(self.tape.events)
        if self.phase:
            self.spans.setdefault(self.phase, []).append((self.start, now))
        self.phase, self.start = phase, now

    def said(self, phase: str) -> str:
        """What was run of a phase."""
        if phase != "decode" or not self.left_out:
            return "all of it was run"
        return f"the first and the last steps were run, {self.left_out:,} between them were not"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactRun:
    """What `generate` is called with."""

    model: Any
    given: dict[str, Any]
    course: TracedCourse
    keeping: Keeping
    plan: GenerationPlan
    logits: int | None  # tokens whose logits were asked for


def traced(s: Subject, w: Infer) -> tuple[TracedCourse, Keeping]:
    """Raises UnsupportedError."""
    supported(s, w)
    try:
        return _traced(s, w)
    except WeighbridgeError:
        raise
    except Exception as error:
        cls = s.part.blueprint.cls
        said = f"{type(error).__name__}: {error}".partition("\n")[0][:LONGEST]
        raise UnsupportedError(f"--exact: {cls} does not run: {said}") from error


def _traced(s: Subject, w: Infer) -> tuple[TracedCourse, Keeping]:
    p = plan(s, w, w.budget())
    with card(w) as gpu:
        course = TracedCourse(gpu.tape)
        model = built(s, w)
        keeping = Keeping(gpu.recorder, model, p.outputs)
        course.begin("prefill")
        given = inputs(model, s, p, w.audio_seconds)
        run = ExactRun(
            model=model,
            given=given,
            course=course,
            keeping=keeping,
            plan=p,
            logits=w.logits_to_keep,
        )
        with torch.no_grad(), kernel(w), _followed(model, course, keeping):
            if s.body.causal and isinstance(model, GenerationMixin):
                _answered(run)
            else:
                keeping.output(model(**given))
        course.begin("")
        course.notes = tuple(line for line in gpu.recorder.looks.told if LOOK not in line)
        keeping.cache = None
    return course, keeping


@contextmanager
def _followed(model: nn.Module, course: TracedCourse, keeping: Keeping) -> Iterator[None]:
    """Each forward behind the first is a step of decode."""
    count = 0

    def before(*_: Any) -> None:
        nonlocal count
        if count and course.phase != "decode":
            course.begin("decode")
        count += 1

    def after(_: nn.Module, __: Any, out: Any) -> None:
        keeping.output(out)

    hooks = model.register_forward_pre_hook(before), model.register_forward_hook(after)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _answered(r: ExactRun) -> None:
    """`new` steps behind the prompt, so that the cache ends with the whole context."""
    new, given = r.plan.new, r.given
    if r.plan.prompt.cache == "static":
        r.course.left_out = max(0, new - ALL)
        _generate(r, given, min(new, ALL) + 1, past_key_values=_static(r))
        return
    if new <= ALL:
        _generate(r, given, new + 1)
        return
    with _encoded(r.model) as encoded:
        ids = _generate(r, given, FIRST + 1).sequences
    r.course.begin("")
    r.course.left_out = new - FIRST - LAST
    if not grow(r.keeping.cache, r.course.left_out):
        return  # states do not grow: every step is like the first
    if encoded:
        later = {**given, "encoder_outputs": encoded[0], "decoder_input_ids": ids[:, -1:].clone()}
        del later[r.model.main_input_name]
    else:
        ids = torch.cat([ids, ids.new_zeros(ids.shape[0], r.course.left_out)], dim=-1)
        later = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    r.course.begin("decode")
    _generate(r, later, LAST, past_key_values=r.keeping.cache)


def _static(r: ExactRun) -> Any:
    """Make the static cache that `generate` makes: as long as the whole context."""
    config = r.model.config.get_text_config(decoder=True)
    own = transformers.StaticCache(config=config, max_cache_len=r.plan.context)
    if not r.model.config.is_encoder_decoder:
        return own
    crossed = transformers.StaticCache(config=config, max_cache_len=r.plan.prompt.encoder)
    return transformers.EncoderDecoderCache(own, crossed)


@contextmanager
def _encoded(model: Any) -> Iterator[list[Any]]:
    """What the encoder gave, where there is one."""
    found: list[Any] = []
    if not model.config.is_encoder_decoder:
        yield found
        return
    hook = model.get_encoder().register_forward_hook(lambda _, __, out: found.append(out))
    try:
        yield found
    finally:
        hook.remove()


def _generate(r: ExactRun, given: dict[str, Any], steps: int, **more: Any) -> Any:
    if r.logits is not None:
        more["logits_to_keep"] = r.logits
    return GenerationMixin.generate(
        r.model,
        **given,
        **more,
        max_new_tokens=steps,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        disable_compile=True,
        return_dict_in_generate=True,
    )


def grow(cache: Any, tokens: int) -> bool:
    """Grow the cache as `tokens` decode steps would, with keys and values that are views of one
    number. Returns False if the cache has no layer to grow."""
    grown = False
    for layer in getattr(getattr(cache, "self_attention_cache", cache), "layers", ()):
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        if keys is not None and keys.dim() == 4:
            for more in (tokens - 1, 1):  # a window's own storage is as wide as its last step
                layer.update(_more(keys, more), _more(values, more))
            grown = True
    return grown


def _more(held: torch.Tensor, tokens: int) -> torch.Tensor:
    batch, heads, _, width = held.shape
    return held.new_empty(1).expand(batch, heads, tokens, width)
