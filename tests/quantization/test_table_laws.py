"""A table prices what differs once; tensor by tensor it is the same."""

import pytest

from weighbridge import prepare
from weighbridge.base.dtypes import BFLOAT16
from weighbridge.memory.components.table import LayerIndex, _counted
from weighbridge.models.quantization.schemes import scheme, stored

MODELS = (
    *("llama-3.2-1b", "deepseek-v2-lite", "falcon-7b", "gemma-3-4b", "gpt2"),
    *("dbrx", "nomic-embed-text-v1.5"),  # "w1" and "w2", "fc11" and "fc12" are no numbers of layers
)
MIXTURES = ("Q4_K_M", "Q3_K_M", "Q3_K_L", "IQ3_XS", "IQ2_M", "Q8_0", "MXFP4_MOE")
FORMATS = (*MIXTURES, "nf4", "gptq-4bit-g128")


def one_by_one(part, form):
    """(bytes of all tensors, the largest layer with its bytes)."""
    plan = part.blueprint
    sizes: dict[str, int] = {}
    for p, count in plan.distinct():
        sizes[p.name] = count
    found = dict.fromkeys(sizes, 0)
    for s in stored(plan, form, dtype=BFLOAT16):
        if s.source in sizes:  # of experts the first
            found[s.source] += s.nbytes * sizes[s.source]
    names = [*sizes, *(b.name for b in plan.buffers)]
    return sum(found.values()), LayerIndex(names, plan.blocks).largest(found.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_format_is_priced_as_tensor_by_tensor(name):
    for part in prepare(name).model().parts:
        counted = _counted(part, BFLOAT16)
        for form in map(scheme, FORMATS):
            assert counted.price(form, 5) == one_by_one(part, form), form.name
