"""transformers' early stopping: what it stops at is a metric, which is not known."""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from weighbridge.trace.notes import Notes
from weighbridge.trace.patches import Patch

MODULE = "transformers.trainer_callback"
STOPPED = (
    "early stopping ended the training at step {}: its metric is not known here; leave the "
    "callback out to trace all steps"
)


def stopping(notes: Notes) -> Callable[[ModuleType], Iterator[Patch]]:
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
