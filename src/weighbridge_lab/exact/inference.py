"""The requests of a workload, run by the class itself: `generate`, or a forward alone.

    load      until the model is on the device
    prefill   towers, an encoder, the prompt; until the first token is taken
    decode    one token a request, until the cache holds the whole context

Where the answer is long, its middle is left out: the first steps are run, each layer's keys and
values are joined to as many as the steps between would have added, and the last steps are run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from torch import nn
from transformers import GenerationMixin

from weighbridge.base.errors import UnsupportedError, WeighbridgeError
from weighbridge.base.records import dataclass, field, frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.engines.interface import Subject
from weighbridge.engines.transformers.plan import GenerationPlan, plan
from weighbridge.workload import Infer
from weighbridge_lab import golden
from weighbridge_lab.exact.build import built, card, inputs, kernel, supported
from weighbridge_lab.exact.here import NoRecorder
from weighbridge_lab.trace.recorder import Recorder
from weighbridge_lab.trace.tape import Tape, TracedStorage

ALL = 8  # steps that are run one by one; of more, the first and the last
FIRST, LAST = 2, 2
LOOK = "(local_scalar_dense)"  # generate asks whether all are finished: they are not
LONGEST = 200  # characters of a library's message
CACHES = ("past_key_values", "cache_params", "state", "mems")  # of a model's output
KEYS = ("key", "value")  # how names of what grows with the tokens begin
DEEPEST = 4  # cache, layers, layer, its tensors
WORKSPACE = "workspace"


class StorageNames:
    """Names the components of storages, by the outputs of `model` that it is given."""

    def __init__(self, recorder: Recorder | NoRecorder, model: nn.Module, outputs: int) -> None:
        self.recorder = recorder
        self.names: dict[int, str] = {}
        self.row = 4 * outputs  # bytes of a token's logits in float32
        self.outside = ("", type(model).__name__)  # modules: none, and the model itself
        self.cache: Any = None
        for tensor in model.parameters():
            self._name(tensor, "weights")
        for tensor in model.buffers():
            self._name(tensor, "buffers")
        head = getattr(model, "get_output_embeddings", lambda: None)()
        if head is not None:
            head.register_forward_hook(lambda _, __, out: self._name(out, "logits"))

    def output(self, out: Any) -> None:
        for name in CACHES:
            cache = getattr(out, name, None)
            if cache is not None:
                self.cache = cache
                self._cached()
        self._name(getattr(out, "logits", None), "logits")

    def _cached(self) -> None:
        for name, tensor in tensors(self.cache):
            if not name.startswith("_"):  # a number of its own, such as a window's length
                self._name(tensor, "kv_cache" if name.startswith(KEYS) else "recurrent_state")

    def _name(self, tensor: Any, name: str) -> None:
        number = self.recorder.number(tensor) if isinstance(tensor, torch.Tensor) else None
        if number is not None:
            self.names[number] = name

    def component(self, number: int, storage: TracedStorage) -> str:
        if number in self.names:
            return self.names[number]
        if storage.op.endswith(WORKSPACE):  # others live within one operation
            return "workspaces"
        copied = storage.role == "temporary" and storage.module in self.outside
        if copied and self.row and storage.nbytes % self.row == 0:
            return "logits"  # in float32
        return "activations"


def tensors(value_of: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (attribute, tensor) for everything inside an object of transformers."""
    if isinstance(value_of, torch.Tensor):
        yield name, value_of
    elif depth > DEEPEST:
        return
    elif isinstance(value_of, dict):
        for key, value in value_of.items():
            yield from tensors(value, key if isinstance(key, str) else name, depth + 1)
    elif isinstance(value_of, list | tuple):
        for value in value_of:
            yield from tensors(value, name, depth + 1)
    elif type(value_of).__module__.startswith("transformers."):
        yield from tensors(vars(value_of), name, depth)


@dataclass(slots=True)
class TracedCourse:
    """A tape divided into phases, as spans of its events."""

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
        golden.phase(phase)
        now = len(self.tape.events)
        if self.phase:
            self.spans.setdefault(self.phase, []).append((self.start, now))
        self.phase, self.start = phase, now

    def extent(self, phase: str) -> str:
        """Return a phrase on how much of a phase was run."""
        if phase != "decode" or not self.left_out:
            return "all of it was run"
        return f"the first and the last steps were run, {self.left_out:,} between them were not"


@frozen_record
class ExactRun:
    """A request of `generate`: the model and its arguments."""

    model: Any
    given: dict[str, Any]
    course: TracedCourse
    names: StorageNames
    plan: GenerationPlan
    logits: int | None  # tokens whose logits were asked for


def traced(subject: Subject, workload: Infer) -> tuple[TracedCourse, StorageNames]:
    """Run a request on a fake GPU; return its course and its storages' names. Raises
    UnsupportedError."""
    supported(subject, workload)
    try:
        return _traced(subject, workload)
    except (WeighbridgeError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        line = f"{type(error).__name__}: {error}".partition("\n")[0][:LONGEST]
        what = sentence("exact.no_run", cls=subject.part.blueprint.cls, why=line)
        raise UnsupportedError(what, where="--exact") from error


def _traced(subject: Subject, workload: Infer) -> tuple[TracedCourse, StorageNames]:
    generation = plan(subject, workload, workload.budget())
    with card(workload) as gpu:
        course = TracedCourse(gpu.tape)
        model = built(subject, workload)
        names = StorageNames(gpu.recorder, model, generation.outputs)
        course.begin("prefill")
        request_inputs = inputs(model, subject, generation, workload.audio_seconds)
        run = ExactRun(
            model=model,
            given=request_inputs,
            course=course,
            names=names,
            plan=generation,
            logits=workload.logits_to_keep,
        )
        with torch.no_grad(), kernel(workload), _followed(model, course, names):
            if subject.body.causal and isinstance(model, GenerationMixin):
                _answered(run)
            else:
                names.output(model(**request_inputs))
        course.begin("")
        course.notes = tuple(line for line in gpu.recorder.looks.told if LOOK not in line)
        names.cache = None
    return course, names


@contextmanager
def _followed(model: nn.Module, course: TracedCourse, names: StorageNames) -> Iterator[None]:
    """Name the phases inside the block: each forward after the first is a decode step."""
    count = 0

    def before(*_: Any) -> None:
        nonlocal count
        if count and course.phase != "decode":
            course.begin("decode")
        count += 1

    def after(_: nn.Module, __: Any, out: Any) -> None:
        names.output(out)

    hooks = model.register_forward_pre_hook(before), model.register_forward_hook(after)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _answered(run: ExactRun) -> None:
    """Run `new` steps after the prompt, so that the cache ends with the whole context."""
    new, first_inputs = run.plan.new, run.given
    if run.plan.prompt.cache == "static":
        run.course.left_out = max(0, new - ALL)
        _generate(run, first_inputs, min(new, ALL) + 1, past_key_values=_static(run))
        return
    if new <= ALL:
        _generate(run, first_inputs, new + 1)
        return
    with _encoded(run.model) as encoded:
        ids = _generate(run, first_inputs, FIRST + 1).sequences
    run.course.begin("")
    run.course.left_out = new - FIRST - LAST
    if not grow(run.names.cache, run.course.left_out):
        return  # states do not grow: every step is like the first
    if encoded:
        last_inputs = {
            **first_inputs,
            "encoder_outputs": encoded[0],
            "decoder_input_ids": ids[:, -1:].clone(),
        }
        del last_inputs[run.model.main_input_name]
    else:
        ids = torch.cat([ids, ids.new_zeros(ids.shape[0], run.course.left_out)], dim=-1)
        last_inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    run.course.begin("decode")
    _generate(run, last_inputs, LAST, past_key_values=run.names.cache)


def _static(run: ExactRun) -> Any:
    """Return the static cache that `generate` would make: as long as the whole context."""
    config = run.model.config.get_text_config(decoder=True)
    own_cache = transformers.StaticCache(config=config, max_cache_len=run.plan.context)
    if not run.model.config.is_encoder_decoder:
        return own_cache
    crossed = transformers.StaticCache(config=config, max_cache_len=run.plan.prompt.encoder)
    return transformers.EncoderDecoderCache(own_cache, crossed)


@contextmanager
def _encoded(model: Any) -> Iterator[list[Any]]:
    """Yield a list that collects the encoder's outputs; it stays empty without an encoder."""
    outputs: list[Any] = []
    if not model.config.is_encoder_decoder:
        yield outputs
        return
    hook = model.get_encoder().register_forward_hook(lambda _, __, out: outputs.append(out))
    try:
        yield outputs
    finally:
        hook.remove()


def _generate(run: ExactRun, request_inputs: dict[str, Any], steps: int, **more: Any) -> Any:
    if run.logits is not None:
        more["logits_to_keep"] = run.logits
    return GenerationMixin.generate(
        run.model,
        **request_inputs,
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
    number. Return False if no layer of the cache can grow."""
    grown = False
    for layer in getattr(getattr(cache, "self_attention_cache", cache), "layers", ()):
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        if keys is not None and keys.dim() == 4:
            for more in (tokens - 1, 1):  # a window's own storage is as wide as its last step
                layer.update(_more(keys, more), _more(values, more))
            grown = True
    return grown


def _more(states: torch.Tensor, tokens: int) -> torch.Tensor:
    batch, heads, _, width = states.shape
    return states.new_empty(1).expand(batch, heads, tokens, width)
