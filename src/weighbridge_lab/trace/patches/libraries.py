"""Patches of other libraries: what they ask of values, and keep of tensors.

tracing      a library that asks whether it is traced would take another branch than on a GPU
caches       of transformers: the keys and values that they keep are marked
generation   what ends a search early is in the scores, and is not assumed
Trainer      early stopping looks at a metric, which is not known. And a training whose steps are
             alike in memory ends (steady.py), after it has evaluated and saved once more where
             it would have
detectors    of torchvision draw out of boxes whose values are not known. Of the regions of an
             image that are learned from, as many show an object as may: `positive_fraction` of
             `batch_size_per_image`; the heads for masks and keypoints see these. Of a pyramid's
             levels, all regions are on the finest: one level at a time is pooled, so that is the
             most that any distribution takes
"""

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily

from weighbridge.base.records import NamedTuple
from weighbridge_lab.trace.patches import Notes, Patch, Patches
from weighbridge_lab.trace.recorder import Recorder
from weighbridge_lab.trace.shadows import cast, shadow
from weighbridge_lab.trace.steady import Loops, Rounds

# transformers' caches

CACHES = "transformers.cache_utils"


# transformers' generation

GENERATION = "transformers.generation.utils"


# transformers' Trainer

CALLBACKS = "transformers.trainer_callback"
STOPPED = (
    "early stopping ended the training at step {}: its metric is not known here; leave the "
    "callback out to trace all steps"
)


class LateImport(NamedTuple):
    """A patch of a module that may not be imported yet; it is applied on import."""

    module: str
    name: str
    value: Any


def _no(*_: Any, **__: Any) -> bool:
    return False


LATE = (
    # masking_utils keeps 4-D masks and looks for packed sequences where this says yes
    LateImport("transformers.utils.import_utils", "is_fake_tensor", _no),
)


class Libraries:
    """The patches of LATE that are not applied yet."""

    def __init__(self) -> None:
        self.waiting = list(LATE)

    def arrived(self) -> Iterator[Patch]:
        for late in tuple(self.waiting):
            module = sys.modules.get(late.module)
            if module is not None and late.name in vars(module):
                self.waiting.remove(late)
                yield Patch(module, late.name, late.value)


# torchvision's detectors


def detectors() -> dict[str, Patches]:
    return {
        "torchvision.models.detection.roi_heads": _detector_heads,
        "torchvision.ops.poolers": _poolers,
    }


def _detector_heads(module: ModuleType) -> Iterator[Patch]:
    heads: Any = module.RoIHeads
    yield Patch(heads, "select_training_samples", _sampled(heads.select_training_samples))


def _sampled(select: Callable[..., Any]) -> Callable[..., Any]:
    def samples(self: Any, *args: Any, **kwargs: Any) -> Any:
        chosen = select(self, *args, **kwargs)
        sampler = self.fg_bg_sampler
        most = int(sampler.batch_size_per_image * sampler.positive_fraction)
        for labels in chosen[2]:
            if shadow(labels) is None:
                with unset_fake_temporarily():
                    cast(labels, (torch.arange(labels.numel()) < most).to(labels.dtype))
        return chosen

    return samples


def _poolers(module: ModuleType) -> Iterator[Patch]:
    mapper: Any = module.LevelMapper
    find = mapper.__call__

    def levels(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        numbers: torch.Tensor = find(self, *args, **kwargs)
        if shadow(numbers) is None:
            with unset_fake_temporarily():
                cast(numbers, torch.zeros(numbers.shape, dtype=numbers.dtype))
        return numbers

    yield Patch(mapper, "__call__", levels)


def caches(recorder: Recorder) -> Callable[[ModuleType], Iterator[Patch]]:
    def patches(module: ModuleType) -> Iterator[Patch]:
        cache: Any = module.Cache
        update = cache.update

        def updated(
            self: Any, keys: Any, values: Any, layer_idx: int, *more: Any, **kw: Any
        ) -> Any:
            out = update(self, keys, values, layer_idx, *more, **kw)
            if torch.is_grad_enabled():  # backward needs them, and no next step
                return out
            for tensor in vars(self.layers[layer_idx]).values():
                if isinstance(tensor, torch.Tensor):
                    recorder.mark(tensor, "kv cache")
            return out

        yield Patch(cache, "update", updated)

    return patches


def beams(module: ModuleType) -> Iterator[Patch]:
    """Yield the patch of beam search: beams go on until all are known to be finished, at the
    maximum length. Otherwise the test whether any may still improve would get 0, and stop after one
    step."""
    mixin: Any = module.GenerationMixin
    yield Patch(mixin, "_beam_search_has_unfinished_sequences", staticmethod(_unfinished))
    yield Patch(mixin, "_update_finished_beams", _finished(mixin._update_finished_beams))


def _finished(update: Callable[..., Any]) -> Callable[..., Any]:
    """Return a wrapped update of beams. After their end, the index that a token came from is -1,
    and the longest beam is returned, as all have come equally far."""

    def finished(self: Any, *args: Any, **kwargs: Any) -> Any:
        updated = update(self, *args, **kwargs)
        indices = updated[2]
        if shadow(indices) is None:
            done = kwargs["cur_len"] + 1 - kwargs["decoder_prompt_len"]
            with unset_fake_temporarily():
                known = torch.full(indices.shape, -1, dtype=indices.dtype)
                known[..., :done] = 0
            cast(indices, known)
        return updated

    return finished


def _unfinished(_: Any, __: Any, at_end: torch.Tensor, *___: Any) -> bool:
    ended = shadow(torch.all(at_end))
    return ended is None or not bool(ended.item())


def stopping(notes: Notes) -> Patches:
    def patches(module: ModuleType) -> Iterator[Patch]:
        callback: Any = module.EarlyStoppingCallback
        evaluate = callback.on_evaluate

        def on_evaluate(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            out = evaluate(self, args, state, control, **kwargs)
            if control.should_training_stop and state.global_step < state.max_steps:
                notes(STOPPED.format(state.global_step))
            return out

        yield Patch(callback, "on_evaluate", on_evaluate)

    return patches


def steady(loops: Callable[[], Loops | None]) -> Patches:
    """Return the patches of Trainer's callbacks that end a training once its rounds are equal."""

    def patches(module: ModuleType) -> Iterator[Patch]:
        handler: Any = module.CallbackHandler
        begin, end = handler.on_train_begin, handler.on_step_end
        rounds: dict[int, Rounds] = {}

        def on_train_begin(self: Any, args: Any, state: Any, control: Any) -> Any:
            followed = loops()
            if followed is not None:
                rounds[id(self)] = Rounds(followed)
                rounds[id(self)].enough()
            return begin(self, args, state, control)

        def on_step_end(self: Any, args: Any, state: Any, control: Any) -> Any:
            out = end(self, args, state, control)
            followed, seen = loops(), rounds.get(id(self))
            if followed is None or seen is None or not seen.enough():
                return out
            if state.global_step < state.max_steps:
                followed.leave("Trainer.train", seen)
                _last(args, out)
            return out

        yield Patch(handler, "on_train_begin", on_train_begin)
        yield Patch(handler, "on_step_end", on_step_end)

    return patches


def _last(args: Any, control: Any) -> None:
    """Make evaluation and saving of later steps happen now."""
    control.should_training_stop = True
    control.should_evaluate |= args.eval_strategy != "no"
    control.should_save |= args.save_strategy != "no"
