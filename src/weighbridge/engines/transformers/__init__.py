"""transformers: one process that calls `generate`.

plan.py          what is loaded, and how it runs   rules.py        what changed between releases
formats.py       weights that it reads             classes.py      model types that it knows
loading.py       moments of loading                placement.py    what stays on a device
forward.py       tensors of one pass               step.py         one step, as layers see it
stage.py         the layers of one device          caches.py       what they keep between steps
attention.py     attention                         kernels.py      ... with its scores written out
latent.py        latent attention                  feed_forward.py feed-forwards and experts
recurrence.py    recurrences                       hardware.py     cards without a format's units
workspaces.py    what libraries keep               infer.py        the answer
derived.py       what follows from it              launching.py    lines of Python
settings.py      its settings                      dialect.py      how such a line is read
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
