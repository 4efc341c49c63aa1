"""Models with images or sound against transformers' own classes, on the meta device.

RENAMES says how a checkpoint's names follow from those that the oracle gives where that un-does
too little or too much for a model that was never loaded; (pattern, replacement), first fit.
"""

import re

import pytest

pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("transformers", reason="needs transformers")

from tests.torch import oracle
from tests.torch.cases_multimodal import CASES

TOWER = {"text": [(r"^", "text_model.")], "vision": [(r"^", "vision_model.")]}
RENAMES = {
    **{
        f"{make}_{half}_model": [(rf"^({half}_model|{half}_projection|visual_)", r"\1"), *rules]
        for make in ("clip", "chinese_clip", "siglip", "siglip2")
        for half, rules in TOWER.items()
    },
}


def checkpoint_name(model_type, name):
    for pattern, replacement in RENAMES.get(model_type, ()):
        new, count = re.subn(pattern, replacement, name, count=1)
        if count:
            return new
    return name


def label(case):
    return f"{case[1]}"


@pytest.fixture(scope="module")
def built():
    """The class and our plan of a case, kept while the tests ask for them."""
    kept = {}

    def get(case):
        if id(case) not in kept:
            model_type, cls, config = case
            raw = {"model_type": model_type, "architectures": [cls], **config}
            kept.clear()
            kept[id(case)] = oracle.build(raw), oracle.ours(raw)
        return kept[id(case)]

    return get


def listed(pairs):
    return sorted(f"{name} {shape}" for name, shape in pairs)


@pytest.mark.parametrize("case", CASES, ids=label)
def test_tensors(case, built):
    model, plan = built(case)
    want = listed((checkpoint_name(case[0], n), s) for n, s in oracle.tensors(model).items())
    assert listed((p.name, p.shape) for p in plan.params if not p.tied) == want
    assert plan.parameters == oracle.numel(model)


@pytest.mark.parametrize("case", CASES, ids=label)
def test_buffers(case, built):
    model, plan = built(case)
    want = sorted(map(str, oracle.buffers(model).values()))
    got = [(b.shape, b.dtype or "float32", b.persistent) for b in plan.buffers if b.until is None]
    assert sorted(map(str, got)) == want
