"""transformers: one process that calls `generate`.

plan.py        what is loaded, and how it runs     rules.py       what changed between releases
loading.py     moments of loading                  holding.py     what stays
forward.py     tensors of one pass                 step.py        one step of generation
attending.py   kernels of attention                kernels.py     ... and their workspaces
feeding.py     feed-forwards                       scanning.py    recurrences
latent.py      latent attention                    towers.py      images and sounds
phases.py      moments in order                    infer.py       the answer
derived.py     what follows from it                launching.py   lines of Python
"""

from weighbridge.engines.engine import Engine

ENGINE = Engine(
    name="transformers",
    title="transformers",
    package=__name__,
    oldest=(4, 30),
    newest=(5, 23),
    spellings=("hf",),
    reads="any",
    snippet=r"\.from_pretrained\s*\(",
    formats=("bnb-int8", "nf4", "awq-4bit-g128", "gptq-4bit-g128"),
    splits='device_map="auto"',
)
