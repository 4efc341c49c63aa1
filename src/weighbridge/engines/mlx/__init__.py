"""MLX: mlx-lm on Apple's chips, where GPU and CPU share one memory.

rules.py     differences between releases      plan.py       settings, defaults, refusals
caches.py    cells and states of each layer    step.py       outputs of a running step
infer.py     the answer                        launching.py  the command line
dialect.py   parsing of a command line
"""

from weighbridge.engines.engine import Engine

ENGINE = Engine(
    name="mlx",
    title="mlx-lm",
    sets_length=False,
    package=__name__,
    oldest=(0, 22),
    newest=(0, 32),
    registers=False,
    spellings=("mlx-lm", "mlx_lm"),
    named=r"mlx-community/.+|.+-mlx(?:-\w+)*",
    metal=True,
    programs={
        **dict.fromkeys(("mlx_lm.generate", "mlx_lm.chat", "mlx_lm.server"), ()),
        "mlx_lm": ("generate", "chat", "server"),
    },
    formats=("mlx-8bit-g64", "mlx-6bit-g64", "mlx-5bit-g64", "mlx-4bit-g64"),
    drafts=False,
    trains="trainless.mlx",
)
