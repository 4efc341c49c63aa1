"""transformers' Trainer: what it stops at.

Early stopping looks at a metric, which is not known. And a training whose steps are alike in memory
ends (steady.py), after it has evaluated and saved once more where it would have.
"""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from weighbridge.lab.trace.notes import Notes
from weighbridge.lab.trace.patches import Patch
from weighbridge.lab.trace.patches.arrivals import Patches
from weighbridge.lab.trace.steady import Loops, Rounds

MODULE = "transformers.trainer_callback"
STOPPED = (
    "early stopping ended the training at step {}: its metric is not known here; leave the "
    "callback out to trace all steps"
)


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
    """Patch the last callback of all, which ends a training that is steady."""

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
    """Let what would have come at a later step come now."""
    control.should_training_stop = True
    control.should_evaluate |= args.eval_strategy != "no"
    control.should_save |= args.save_strategy != "no"
