"""SGLang, 0.4 to 0.5.23: `infer(subject, workload, budget) -> Answer`.

card.py        what it decides by the card: chunk, captured batches, share of memory
kernels.py     which attention it runs, and what that sets aside
effective.py   every setting with its default
cases.py       what is prepared once for a model
replica.py     pools of the ranks of one replica
step.py        the widest moment of a step
outside.py     what lies outside the share: workspaces, graphs, activations, logits
phases.py      all of that, by device and phase
serving.py     flags that make it serve
serve.py       the answer
launch.py      the command line
"""

from weighbridge.engines.sglang.serve import probe
from weighbridge.engines.sglang.serve import serve as infer

__all__ = ["infer", "probe"]
