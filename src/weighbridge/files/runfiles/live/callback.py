"""A callback that says what a training will take before its first step, and what it took after.

    trainer = SFTTrainer(..., callbacks=[weighbridge.WeighbridgeCallback()])

It is a `transformers.TrainerCallback`. A training is never stopped by it, and what goes wrong
while it weighs is one line. `LightningCallback` is the same for Lightning.
"""

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from weighbridge.files.runfiles.live.telling import Teller
from weighbridge.files.runfiles.live.trainers import answered, of_arguments


class WeighbridgeCallback(TrainerCallback):  # type: ignore[misc]  # transformers has no types here
    """Tell the predicted memory when training begins, and the measured peaks after `steps` steps.

    Args:
        steps: after how many steps the peaks are read; the second step has the states of the
            optimizer.
        log: what is called with each line; None writes it to stderr.
        settings: those of `train` that the arguments do not say ("seq_len", "gpu").
    """

    def __init__(
        self, steps: int = 2, log: Callable[[str], None] | None = None, **settings: Any
    ) -> None:
        self.teller = Teller(steps, log)
        self.settings = settings

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Predict; only the first process does."""
        if state.is_world_process_zero:
            model = others.get("model")
            self.teller.predict(lambda: answered(of_arguments(args, model), self.settings))

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Read the peaks once enough steps were made."""
        if state.is_world_process_zero:
            self.teller.step(state.global_step)

    @property
    def report(self) -> Any:
        """The prediction; None before training began, or where it could not be made."""
        return self.teller.report
