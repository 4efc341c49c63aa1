"""transformers: one process that calls `generate`.

settings.py      its settings                      plan.py         what is loaded, and how it runs
rules.py         what changed between releases     classes.txt     model types that it knows
formats.txt      weights that it reads             formats.py      cards without units for them
placement.py     what stays on a device            workspaces.py   what libraries keep
forward.py       tensors of one pass               step.py         one step, as layers see it
stage.py         the layers of one device          caches.py       what they keep between steps
attention.py     attention                         kernels.py      ... with its scores written out
latent.py        latent attention                  feed_forward.py feed-forwards and experts
recurrence.py    recurrences                       infer.py        the answer
derived.py       what follows from it, and the line of Python that asks it
dialect.py       how such a line is read
"""

from weighbridge.engines.engine import Engine

ENGINE = Engine(
    name="transformers",
    title="transformers",
    sets_length=False,
    package=__name__,
    oldest=(4, 30),
    newest=(5, 23),
    spellings=("hf",),
    reads="any",
    snippet=r"(?:\.from_pretrained|\btimm\.create_model|\b(?:YOLO|RTDETR)|\bdetection\.\w+)\s*\(",
    formats=("bnb-int8", "nf4", "awq-4bit-g128", "gptq-4bit-g128"),
    splits='device_map="auto"',
)
