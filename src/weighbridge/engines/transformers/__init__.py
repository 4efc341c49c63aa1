"""transformers: one process that calls `generate`.

settings.py      its settings                      plan.py         what is loaded, and how it runs
rules.py         differences between releases      classes.txt     model types that it supports
formats.txt      weight formats that it reads      formats.py      cards without units for them
placement.py     what stays on a device            workspaces.py   what libraries keep
forward.py       tensors of one pass               step.py         one step, as layers see it
stage.py         the layers of one device          caches.py       what they keep between steps
attention.py     attention                         kernels.py      ... with stored scores
latent.py        MLA                               feed_forward.py MLPs and experts
recurrence.py    recurrences                       infer.py        the answer
derived.py       facts that follow from it, and the line of Python that runs it
dialect.py       parsing of such a line
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
