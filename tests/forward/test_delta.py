"""The gated delta rule by release of transformers, by hand."""

import pytest

from weighbridge.base.dtypes import FLOAT32
from weighbridge.faces import api
from weighbridge.memory.components.activations import Heap
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.ops.scans import substituted
from weighbridge.training.forward.tensors import LeafTensor

LAYERS, HEADS = 24, 32  # of Qwen3.5-9B: layers of the rule, value heads
LENGTH = 512


def report(version, **settings):
    given = {
        "method": "lora",
        "framework": "trainer",
        "seq_len": LENGTH,
        "engine_version": version,
        **settings,
    }
    given["lora_targets"] = "all-linear"
    return api.train("qwen3.5-9b", offline=True, **given)


@pytest.fixture(scope="module")
def saved():
    return {v: report(v).derived["saved_activation_bytes"] for v in ("5.5", "5.16", "5.17", "5.23")}


def test_a_loop_of_rows_keeps_5460_bytes_a_token():
    """A chunk of 64 saves rows and what is before them, 2,016 + 85,344 numbers in float32."""
    m = Machine(Heap())
    a = m.param("a", (1, 1, 1, 64, 64), FLOAT32)
    before = m.heap.live("activations")
    out = substituted(m, a)
    assert m.heap.live("activations") - before == 4 * (2016 + 85_344) == 349_440 == 64 * 5460
    assert out.storage is a.storage


def test_and_nothing_where_nobody_asks_for_gradients():
    m = Machine(Heap())
    a = LeafTensor(
        "a", (1, 1, 1, 64, 64), FLOAT32, m.new((64, 64), FLOAT32).storage, trainable=False
    )
    before = m.heap.live("activations")
    substituted(m, a)
    assert m.heap.live("activations") == before


@pytest.mark.slow
def test_it_was_so_until_transformers_5_17(saved):
    """5,460 more, and queries and keys, that are normed in 16 bits, some hundred less."""
    each = (saved["5.16"] - saved["5.17"]) / (LAYERS * HEADS * LENGTH)
    assert 4000 < each < 5700
    assert saved["5.5"] > saved["5.16"]
    assert saved["5.17"] == saved["5.23"]


@pytest.mark.slow
def test_checkpoints_keep_it_for_one_layer():
    """349,440 bytes of a chunk and value head."""
    old, new = (
        next(p for p in report(v, checkpointing="full").devices[0].phases if p.name == "backward")
        for v in ("5.16", "5.23")
    )
    grown = old.at("allocated").expected - new.at("allocated").expected
    assert 0.7 < grown / (349_440 * HEADS * LENGTH // 64) < 1.3
