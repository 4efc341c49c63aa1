"""A plugin of pytest that writes down what real classes took, for tests that have no torch.

    PYTHONPATH=src python -m pytest -p tests.torch.recording tests/torch/test_training_moe.py

appends a line for each step of a test that passed to recorded.jsonl here: our config and settings,
the moments and saved tensors of the class, what it took in each phase, and how far ours were off.
tests/training/recorded.jsonl is chosen of such lines.
"""

import json
from pathlib import Path

import pytest

from tests.torch import training_oracle as oracle

FOUND = Path("recorded.jsonl")
seen, mine = [], []
_real, _stepped = oracle.real, oracle.stepped


def real(model_type, config, **settings):
    seen.append(_real(model_type, config, **settings))
    return seen[-1]


def stepped(raw, *, reentrant=False, **said):
    found = _stepped(raw, reentrant=reentrant, **said)
    mine.append((raw, reentrant, said, found))
    return found


oracle.real, oracle.stepped = real, stepped


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    seen.clear()
    mine.clear()
    result = yield
    if len(seen) == len(mine):
        lines = [_line(*pair) for pair in zip(seen, mine, strict=True)]
        with FOUND.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines if line)
    return result


def _line(there, ours):
    raw, reentrant, said, here = ours
    if [name for name, *_ in there.moments] != [name for name, *_ in here.moments]:
        return None
    line = {"config": raw, "settings": {k: v for k, v in said.items() if v is not None}}
    line |= {"reentrant": True} if reentrant else {}
    if there.saved == here.saved:
        line["saved"] = [there.saved.total(), there.saved_bytes]
    line["moments"] = [moment[:3] for moment in there.moments]
    taken = [there.taken, here.taken]
    line["taken"] = there.taken
    line["apart"] = [abs(a - b) for a, b in zip(*taken, strict=True)]
    pairs = zip(there.moments, here.moments, strict=True)
    line["off"] = max(abs(b / a - 1) for x, y in pairs for a, b in zip(x[1:3], y[1:3], strict=True))
    return line
