"""Ollama's own tests of its old formula: layers on two cards, and bytes of caches.

Source: github.com/ollama/ollama v0.9.0 llm/memory_test.go (TestEstimateGPULayers,
TestEstimateKvCacheSize).
"""

import pytest

from tests.cases import all_of
from weighbridge.base.dtypes import GGML_BY_NAME
from weighbridge.engines.llama_cpp.graphs.network import Network, Weight
from weighbridge.engines.ollama.layer_formula import ELEMENTS, MINIMUM, Reckoned, place
from weighbridge.models.arch.mixers import Attention, Layer

PARTIAL, FULL = 202_377_216, 171_968_512
LAYER, OUTPUT = 33_554_436, 4


def dummy(count):
    """Layers of one number in 32 bits, and an output layer of one."""
    one = GGML_BY_NAME["F32"]
    names = [*(f"blk.{i}.attn.weight" for i in range(count)), "output.weight"]
    heads = Attention(heads=32, kv_heads=32, key_dim=128, value_dim=128)
    return Network(
        arch="llama",
        hidden=4096,
        layers=(Layer(mixers=(heads,)),) * count,
        weights={name: Weight(name, one, (1, 1, 1, 1), 4) for name in names},
    )


def reckoned(context=2048, count=5, **more):
    return Reckoned(net=dummy(count), context=context, parallel=1, release=(0, 9), **more)


def test_graphs_and_layers():
    found = reckoned()
    assert found.graphs == (PARTIAL, FULL)
    assert [found.layer(i) + found.caches[i] for i in range(5)] == [LAYER] * 5
    assert found.output == OUTPUT


@all_of(
    ("rooms", "layers"),
    [
        ((1, 1), [1, 1]),
        ((2, 1), [2, 1]),
        ((2, 2), [2, 2]),
        ((1, 2), [1, 2]),
        ((3, 3), [3, 3]),
        ((4, 4), [3, 3]),
        ((6, 6), [3, 3]),
        ((0, 3), [0, 3]),
    ],
)
def test_layers_on_two_cards_with_room_for_so_many(rooms, layers):
    """Beside them a minimum, a graph, one layer as a buffer, one byte, and the output on one."""
    first = 0 if rooms[0] else 1
    free = [
        MINIMUM + PARTIAL + LAYER * (1 + n) + 1 + OUTPUT * (i == first) for i, n in enumerate(rooms)
    ]
    found = place(reckoned(), tuple(free))
    assert found.layers == layers
    assert (found.overflow == 0) == (sum(layers) == 6)
    # All layers once; on each card that has some a minimum, a graph, and the buffer as a layer
    used = sum(n > 0 for n in layers)
    whole = 5 * LAYER + OUTPUT + used * (MINIMUM + LAYER + PARTIAL)
    assert (found.size, found.on_cards) == (whole, whole - found.overflow)


@pytest.mark.parametrize("rooms", [(1, 1), (2, 2), (0, 3)])
def test_one_byte_less_is_a_layer_less(rooms):
    """A card is taken where its room is more than what is asked for."""
    free = [MINIMUM + PARTIAL + LAYER * (1 + n) + OUTPUT * (n > 0) for n in rooms]
    least = [n - 1 if n else 0 for n in rooms]
    assert place(reckoned(), tuple(n - OUTPUT * (n > 0) for n in free)).layers == least


@all_of(("form", "nbytes"), [("f16", 2), ("q8_0", 1), ("q4_0", 0.5), ("", 2), ("unknown", 2)])
def test_bytes_of_caches(form, nbytes):
    """1,024 tokens of 32 layers: 268,435,456 numbers."""
    found = reckoned(1024, 32, element=ELEMENTS.get(form, 2))
    assert sum(found.caches) == 0x10000000 * nbytes
