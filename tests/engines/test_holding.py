"""What engines hold is read once for the layers that are alike."""

import pytest

from tests.cases import each
from tests.engines.serving import served
from tests.engines.spreads import SGLANG, VLLM
from weighbridge.base.errors import WeighbridgeError
from weighbridge.engines.parallel import tensor_shards as module
from weighbridge.engines.parallel.tensor_shards import holding
from weighbridge.models import catalogue

SOME = ("deepseek-v2-lite", "gpt-oss-20b", "gemma-4-31b", "llama-3.2-11b-vision", "falcon-7b")
FORMATS = (None, "awq-4bit-g128")


def same(name, form, rules, *, spread):
    """Whether each parameter for itself gives the same, errors included."""

    def found():
        try:
            return holding(served(name, quantization=form), rules, spread)
        except WeighbridgeError as error:
            return str(error)

    together = found()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module._ShardReader, "held", module._ShardReader._held)
        return together == found()


@pytest.mark.slow
@pytest.mark.parametrize("rules", [VLLM, SGLANG], ids=["vllm", "sglang"])
@pytest.mark.parametrize("name", SOME)
def test_layers_that_are_alike_are_held_alike(name, rules):
    assert all(same(name, form, rules, spread=spread) for form in FORMATS for spread in (0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", each(3, catalogue.names()))
def test_layers_that_are_alike_are_held_alike_throughout(name):
    assert same(name, None, VLLM, spread=True)
    assert same(name, None, SGLANG, spread=False)
