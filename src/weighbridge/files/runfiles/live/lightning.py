"""The callback for Lightning: `Trainer(callbacks=[weighbridge.LightningCallback(batch_size=2)])`.

A LightningModule has no arguments that say how long a sequence is, nor which of its modules is the
model: the first that has a config of transformers is taken, and the rest is given by hand.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from lightning.pytorch import Callback

from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles.live.telling import Teller
from weighbridge.files.runfiles.live.trainers import from_accelerator
from weighbridge.memory.report import Report


class LightningCallback(Callback):  # type: ignore[misc]  # lightning has no types here
    """Tell the predicted memory when fitting begins, and the measured peaks after `steps` steps.

    Args:
        steps: after how many steps the peaks are read.
        log: what is called with each line; None writes it to stderr.
        settings: those of `train`: "batch_size" and "seq_len" above all.
    """

    def __init__(
        self, steps: int = 2, log: Callable[[str], None] | None = None, **settings: Any
    ) -> None:
        self.teller = Teller(steps, log)
        self.settings = settings

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Predict; only the first process does."""
        if trainer.is_global_zero:
            self.teller.predict(lambda: self._weighed(trainer, pl_module))

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read the peaks once enough steps were made."""
        if trainer.is_global_zero:
            self.teller.step(trainer.global_step)

    def _weighed(self, trainer: Any, pl_module: Any) -> Report:
        model = next(
            (m for m in pl_module.modules() if hasattr(getattr(m, "config", None), "to_dict")), None
        )
        if model is None:
            raise UsageError(sentence("live.no_config"))
        precision = str(trainer.precision)
        kind = next((name for name in ("bf16", "fp16") if name in precision), "")
        kind = kind or ("fp16" if precision.startswith("16") else "no")
        plain = SimpleNamespace(
            mixed_precision=kind,
            gradient_accumulation_steps=trainer.accumulate_grad_batches,
            num_processes=trainer.world_size,
        )
        optimizer = next(iter(trainer.optimizers), None)
        return from_accelerator(plain, model, optimizer=optimizer, **self.settings)
