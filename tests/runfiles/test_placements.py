"""A file beside words and a message: wherever it stands, it is the run that it is alone, and the
message is explained."""

from itertools import groupby

import pytest
from tests.runfiles.test_public import ROWS, written

from weighbridge.files.oom import explained
from weighbridge.files.runfiles import read

MESSAGE = """\
Traceback (most recent call last):
  File "/app/train.py", line 12, in <module>
    main()
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 216.00 MiB. GPU 0 has a total \
capacity of 23.52 GiB of which 61.25 MiB is free. Including non-PyTorch memory, this process has \
23.42 GiB memory in use. Of the allocated memory 22.61 GiB is allocated by PyTorch, and 412.50 MiB \
is reserved by PyTorch but unallocated.
"""
WORDS = "It dies on my RTX 4090, batch 1 runs:"
PLACEMENTS = {
    "below": "{file}\n{message}",
    "above": "{message}\n{file}",
    "below words": "{words}\n\n{file}\n{message}",
    "between fences": "{words}\n```{syntax}\n{file}\n```\n\n{message}",
    "both between fences": "{words}\n```{syntax}\n{file}\n```\n\n```\n{message}```",
}
SYNTAXES = {"shell": "bash", "modelfile": "dockerfile"}


def _two_of_each():
    """Return two public files of each kind that starts something by a model that it names."""
    for kind, rows in groupby(ROWS, key=lambda row: row.values[0]):
        all_named = [r for r in rows if all("refused" not in run for run in r.values[1]["runs"])]
        yield from all_named[:2] if kind != "text" else ()


def _asked(file, *but):
    """Return what the runs of a file ask, but for these settings."""
    return [
        (run.task, run.model, {n: v for n, v in run.settings.items() if n not in but})
        for run in file.runs
    ]


@pytest.mark.parametrize("placed", PLACEMENTS)
@pytest.mark.parametrize(("kind", "row"), [*_two_of_each()])
def test_a_file_is_its_run_wherever_it_stands(kind, row, placed):
    plain = written(row)
    alone = read(plain)
    text = PLACEMENTS[placed].format(
        file=plain,
        words=WORDS,
        message=MESSAGE,
        syntax=SYNTAXES.get(row["syntax"], row["syntax"]),
    )
    found = read(text)
    assert found.kind == "text"
    assert _asked(found, "gpu") == _asked(alone, "gpu")
    if "{words}" in PLACEMENTS[placed]:  # the card of the words is that of the run
        assert all("gpu" in run.settings for run in found.runs)
    assert explained(found.text, None, {}).reading.size("requested") == 216 << 20
