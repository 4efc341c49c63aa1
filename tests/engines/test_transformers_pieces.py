"""Small rules of transformers' engine, by hand: which layers are run, who has which, packed products."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest

import weighbridge
from tests.cases import all_of
from tests.engines.answers import answer
from weighbridge.base.dtypes import FLOAT16, FLOAT32
from weighbridge.base.errors import BadFileError
from weighbridge.base.units import GIB, KIB
from weighbridge.engines.transformers import attention, forward, kernels, plan, workspaces
from weighbridge.engines.transformers.infer import told_apart
from weighbridge.engines.transformers.kernels import KernelHeads
from weighbridge.engines.transformers.placement import _numbers
from weighbridge.engines.transformers.rules import rules
from weighbridge.engines.transformers.stage import DeviceLayers
from weighbridge.engines.transformers.step import (
    AROUND,
    ClassStyle,
    Distances,
    ForwardStep,
    _distances,
    style,
)
from weighbridge.machines.accelerators.names import find
from weighbridge.memory.components.activations import Heap, LivePeak
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.mixers import Attention


def step(batch=1, dtype=FLOAT16, **how):
    """64 tokens of 64 numbers."""
    return ForwardStep(
        batch=batch,
        tokens=64,
        past=0,
        hidden=64,
        dtype=dtype,
        kernel="eager",
        rules=rules((5, 23), "llama"),
        style=ClassStyle(**how),
    )


def test_of_each_kind_the_first_two_and_the_last_are_run():
    found = DeviceLayers.of_blocks(tuple("aaabababbb"))
    assert found.kinds == (0, 0, 0, 3, 0, 3, 0, 3, 3, 3)
    assert found.whole == (True, True, False, True, False, True, True, False, False, True)
    assert list(found.different) == [(0, "a", 5), (3, "b", 5)]
    assert DeviceLayers.of_blocks(tuple("abc")).whole == (True,) * 3


def test_layers_of_the_language_model_are_the_last_run_of_as_many():
    """An encoder of images has as many blocks as the language model, another one has fewer."""
    runs = ("vision.blocks", "model.layers")
    units = ["a.0", *(f"{stem}.{n}" for stem in runs for n in (0, 1)), "lm_head"]
    assert _numbers(units, 2) == {"model.layers.0": 0, "model.layers.1": 1}
    assert _numbers(units, 1) == {"a.0": 0}
    assert _numbers(units, 3) == {}


@all_of(
    ("config", "distances"),
    [
        ({"position_buckets": 256, "pos_att_type": ["c2p", "p2c"]}, Distances(512, 2)),
        ({"max_relative_positions": 100, "pos_att_type": ["p2c"]}, Distances(200, 1)),
        # not above 0: as many as there are positions (DebertaV2Encoder.__init__)
        ({"max_relative_positions": -1, "pos_att_type": ["c2p"]}, Distances(1024, 1)),
        ({"max_position_embeddings": 300, "pos_att_type": ["c2p"]}, Distances(600, 1)),
        ({"position_buckets": 256, "pos_att_type": []}, None),
        ({"relative_attention": False, "pos_att_type": ["c2p"]}, None),
    ],
)
def test_distances_to_both_sides(config, distances):
    raw = {"model_type": "deberta-v2", "relative_attention": True, **config}
    assert _distances(Config(raw)) == distances


def biases(*mixers, **more):
    heap = Heap()
    stage = SimpleNamespace(blocks=[SimpleNamespace(mixers=mixers)])
    kept = forward._bias(heap, step(biased=True, **more), stage)
    return heap.most, kept.nbytes


def test_biases_by_distance():
    """64 x 64 pairs: six tables of 8 bytes and one of one, beside four of the width (T5's normed
    input, queries, keys and values); what is left is a number a pair and head."""
    own = Attention(heads=4, kv_heads=4, key_dim=16, value_dim=16)
    pair, width = 64 * 64, 4 * 64 * 64 * 2
    assert biases(own) == (width + (6 * 8 + 1) * pair, pair * 4 * 2)
    assert biases(own, batch=2)[1] == pair * 4 * 2
    assert biases(own, batch=2, norms_behind=True)[1] == 2 * pair * 4 * 2  # MPNet's


@pytest.mark.parametrize(
    ("how", "total"),
    [({}, 8), ({"wide_stream": True}, 16), ({"dtype": FLOAT32}, 16)],
)
def test_the_sum_of_a_residual(how, total):
    """64 x 64 numbers, in KiB: in float32 where layers hand on float32 (Mamba)."""
    s, heap = step(**how), Heap()
    assert forward._added(heap, s, [], [], []).nbytes == total * KIB


def test_queries_and_keys_are_normed_and_values_are_not(monkeypatch):
    found = []
    norm = attention.norm
    monkeypatch.setattr(attention, "norm", lambda h, s, w: (found.append(w), norm(h, s, w))[1])
    m = Attention(heads=4, kv_heads=2, key_dim=16, value_dim=8)
    attention._projected(Heap(), step(query_norms=True), m)
    assert found == [64, 32]


@all_of(
    ("form", "rows", "size", "before"),
    [
        ("nf4", 2, 2, (400,)),
        ("nf4", 1, 2, ()),  # a kernel of its own (gemv_4bit)
        ("fp4", 1, 2, (40, 80)),
        ("fp4", 2, 2, (400, 800, 240)),
        ("fp4", 2, 4, (800, 0, 240)),
        ("bnb-int8", 3, 2, (30, 12, 240)),
        ("mxfp4", 1, 2, (400,)),
    ],
)
def test_what_stands_before_a_packed_product_of_10_by_20(form, rows, size, before):
    assert AROUND[form](rows, 10, 20, size) == (before, ())


@pytest.mark.parametrize(("inputs", "scales"), [(128, 12), (129, 24)])
def test_rows_in_float8_have_a_scale_for_128(inputs, scales):
    assert AROUND["fp8-block"](3, inputs, 20, 2) == ((3 * inputs, scales), ())


@pytest.mark.parametrize(
    ("live", "told"),
    [
        ({"kv_cache": 6, "temporaries": 5}, {"kv_cache": 10, "temporaries": 1}),
        ({"kv_cache": 6, "temporaries": 4}, {"kv_cache": 10}),
        ({"kv_cache": 6}, {"kv_cache": 6}),  # less than the cache: as it was
    ],
)
def test_what_is_beyond_a_cache_of_ten_bytes_is_temporary(live, told):
    peak = LivePeak(live={**live, "logits": 5}, allocated=15, reserved=15)
    assert told_apart(peak, 10).live == {**told, "logits": 5}


def test_requests_at_once_are_those_whose_caches_fit():
    """Qwen3 0.6B: 28 layers of 8 heads, a key and a value of 128 in 16 bits."""
    found = answer("qwen3-0.6b", engine="transformers", context=4096, gpu="4090").derived
    assert found["kv_cache_bytes_per_token"] == 28 * 8 * 2 * 128 * 2
    assert found["max_concurrency"] == found["kv_cache_tokens"] // 4096 > 1


def test_each_component_says_what_it_is_of():
    found = answer("qwen3-0.6b", engine="transformers", context=4096, gpu="4090")
    (decode,) = (p for p in found.devices[0].phases if p.name == "decode")
    said = {c.name: c.formula for c in decode.components}
    assert said["kv_cache"].startswith("28 layers x")
    assert said["activations"].startswith("one layer of a step: ")


@all_of(
    ("how", "reach", "causal", "elements"),
    [
        # a prompt of 64 tokens; a step behind 63
        ({"kernel": "flash"}, None, True, 0),
        ({"kernel": "eager"}, None, True, 64 * 64),
        ({"kernel": "eager"}, None, False, 0),
        ({"kernel": "sdpa"}, None, True, 0),
        ({"kernel": "sdpa"}, 65, True, 0),
        ({"kernel": "sdpa"}, 64, True, 64 * 64),
        ({"kernel": "sdpa", "tokens": 1, "past": 63}, 64, True, 64),
        ({"kernel": "sdpa", "tokens": 1, "past": 63}, 10, True, 10),
        ({"kernel": "sdpa", "cache": "static"}, 64, True, 0),
        ({"kernel": "sdpa", "cache": "static"}, 63, True, 64 * 64),
        ({"kernel": "sdpa", "cache": "static"}, None, True, 0),
        ({"kernel": "sdpa", "cache": "static", "tokens": 1, "longest": 99}, None, True, 99),
    ],
)
def test_masks_of_a_step(how, reach, causal, elements):
    """masking_utils.py: none where the kernel knows by itself."""
    s = replace(step(), **how)
    assert forward._mask(s, reach, causal=causal) == elements


def staged(causal=True, **how):
    """A stage of a layer that attends."""
    block = SimpleNamespace(
        mixers=(Attention(heads=1, kv_heads=1, key_dim=64, value_dim=64, **how),)
    )
    return SimpleNamespace(
        first=True, blocks=(block,), body=SimpleNamespace(causal=causal, blocks=(block,))
    )


@all_of(
    ("how", "causal", "bools"),
    [
        ({"window": 32}, True, 3),  # masking_utils.py, and_masks: of the window, causal, and both
        ({"window": 32}, False, 16),  # before: distances and their sizes in 64 bits
        ({}, True, 0),
    ],
)
def test_while_a_mask_is_made_its_conditions_are_there(how, causal, bools):
    heap, prompt = Heap(), replace(step(), kernel="sdpa")
    forward._masks(heap, prompt, staged(causal, **how))
    assert heap.most == bools * 64 * 64


def test_what_layers_get_beside_their_states_is_projected_and_normed():
    """64 tokens of 512 numbers, 64 KiB: with what was looked up, and the projection, a float32 copy
    of it and the copy's square are there; the scaled sum stays (Gemma4TextModel)."""
    heap, each = Heap(), 64 * KIB
    kept = forward._per_layer(heap, step(per_layer=512), staged())
    assert heap.most == (1 + 1 + 2 + 2) * each
    assert kept.nbytes == heap.live("activations") == each


def fused(width):
    """A layer of 4 heads of 16 and 2 of keys and values, whose projection makes `width` numbers."""
    m = Attention(heads=4, kv_heads=2, key_dim=16, value_dim=8)
    joined = SimpleNamespace(name="h.0.attn.c_attn.weight", shape=(width, 50))
    made = SimpleNamespace(counted=(joined,), part=lambda name: "language model")
    body = SimpleNamespace(blocks=(SimpleNamespace(mixers=(m,)),))
    return SimpleNamespace(part=SimpleNamespace(blueprint=made), body=body)


@all_of("width", [64 + 32 + 16, 64, 64 - 32 + 16, 64 + 32, 64 + 16])
def test_queries_keys_and_values_add_up(width):
    if width == 112:
        plan._adding_up(fused(width))
        return
    with pytest.raises(BadFileError, match="112 numbers a token"):
        plan._adding_up(fused(width))


@pytest.mark.parametrize(
    ("gpu", "library"),
    [(None, ["cuBLAS"]), ("h100", ["cuBLAS"]), ("mi300x", ["hipBLAS"]), ("m1 16gb", [])],
)
def test_whose_library_multiplies(gpu, library):
    part = None if gpu is None else find(gpu).part
    found = workspaces.products(part, (2, 13))
    assert [one.detail for one in found] == library


def test_one_query_splits_its_keys():
    """4 heads on the 216 halves of an A100's 108 multiprocessors: 32 blocks of 256 keys are split
    in as many parts; a part has a logsumexp and an output of 64 numbers in float32."""
    one = replace(step(), tokens=1, past=8191)
    heads = KernelHeads(count=4, groups=1, key_dim=64, value_dim=64, seen=8192)
    sums = kernels._accumulated(one, heads, masked=False)
    assert sums == [32 * 4 * 4, 32 * 4 * 4 * 64]


def test_one_head_of_keys_for_all_queries_is_a_view():
    """repeat_kv expands it; of two heads it copies keys and values, 1,000 bytes each, twice."""
    under_sdpa = replace(step(), kernel="sdpa")

    def most(groups):
        heap = Heap()
        heads = KernelHeads(
            count=4, groups=groups, key_dim=64, value_dim=64, seen=under_sdpa.tokens, mask=1
        )
        kernels.attend(heap, under_sdpa, heads, 1000, 1000)
        return sum(heap.phase().live.values())

    assert most(2) - most(4) == 2 * 2 * 1000


H100 = {"gpu": "h100", "max_new_tokens": 8, "engine_version": "5.17"}


def test_mamba_2_contracts_as_its_release_does():
    """What an H100 allocated and reserved under 5.17 (our own, torch 2.11), in GiB."""
    measured = {
        ("granite-4.0-h-tiny", 8192): (62.63, 63.54),
        ("granite-4.0-h-tiny", 2048): (25.43, 25.70),
        ("nemotron-nano-9b-v2", 2048): (33.62, 49.73),
    }
    for (model, prompt), (allocated, reserved) in measured.items():
        device = weighbridge.infer(model, prompt_len=prompt, **H100).fullest
        assert abs(device.peak("allocated").expected / GIB / allocated - 1) < 0.001, model
        assert abs(device.peak("reserved").expected / GIB / reserved - 1) < 0.01, model


def test_a_law_of_mamba_2_holds_in_the_releases_that_it_was_read_in():
    """Granite's product of C and B, by hand, has chunk x H x N floats of each token, 256 x 48 x 128;
    before 5.15 it has a name, and so lives beside the states."""
    asked = partial(weighbridge.infer, "granite-4.0-h-tiny", prompt_len=8192, gpu="h100")

    def peak(version):
        (one,) = {
            p.at("allocated").expected
            for p in asked(engine_version=version).devices[0].phases
            if p.name == "prefill"
        }
        return one

    product = 8192 * 256 * 48 * 128 * 4
    assert peak("5.18") == peak("5.23") < peak("5.15") == peak("5.17") < peak("5.14") == peak("5.1")
    assert product < peak("5.17") - 14 * GIB < 1.2 * product


def test_inputs_of_layers_and_states_for_one_live_through_all_layers():
    """GiB that an H100 allocated under 5.17 (our own); a class without them has none."""
    measured = {("gemma-3n-e2b", 8192): 11.94, ("gemma-3n-e2b", 2048): 10.57}
    for (model, prompt), allocated in {**measured, ("gemma-4-e4b", 8192): 16.35}.items():
        peak = weighbridge.infer(model, prompt_len=prompt, **H100).fullest.peak("allocated")
        assert abs(peak.expected / GIB / allocated - 1) < 0.03, model
        assert peak.low < allocated * GIB < peak.high, model
    whole = {"num_hidden_layers": 30, "hidden_size": 2048, "hidden_size_per_layer_input": 256}
    for inputs, numbers in ((4, 15 * 2048), (0, 0)):
        config = Config({**whole, "altup_num_inputs": inputs, "model_type": "gemma3n_text"})
        assert (style((), config).per_layer, style((), config).beside) == (30 * 256, numbers)
    llama = style((), Config({"model_type": "llama", "hidden_size": 2048}))
    assert llama.per_layer == llama.beside == 0
