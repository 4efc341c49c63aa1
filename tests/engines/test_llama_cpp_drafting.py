"""llama.cpp: draft models and layers for multi-token prediction beside the model."""

from dataclasses import replace

import pytest

from tests.engines.answers import answer, named, part
from tests.engines.serving import served
from weighbridge.answers.estimate import uncounted
from weighbridge.base.errors import UsageError
from weighbridge.base.units import GIB, align_up
from weighbridge.engines.interface import SearchPoint
from weighbridge.engines.launch import parse
from weighbridge.engines.llama_cpp.answers import known_network
from weighbridge.engines.llama_cpp.infer import holds, infer, probe
from weighbridge.engines.subject import subject
from weighbridge.engines.table import engine, version
from weighbridge.workload import Infer

ASKED = {"engine": "llama.cpp", "quantization": "Q4_K_M", "context": 8192}


def drafted(name="qwen3-8b", draft="qwen3-0.6b", **more):
    w = Infer(**ASKED | more)
    kind = engine("llama.cpp")
    number = version(kind, None)[0]
    own = subject(named(draft), w.but(quantization="Q8_0"), kind, number)
    return replace(subject(named(name), w, kind, number), draft=own), w


def running(found, device=0):
    return found.devices[device].phases[1]


def test_a_draft_model_has_a_cache_and_a_buffer_of_its_own():
    """Qwen3 0.6B: 28 layers x 8 heads x 128 x 2 x 2 bytes a token, as many tokens as the model."""
    s, w = drafted(cache_type_k="q8_0", cache_type_v="q8_0", gpu="4090")
    found, alone = infer(s, w, w.budget()), answer("qwen3-8b", **ASKED, gpu="4090")
    assert part(running(found), "kv_cache", "draft") == 8192 * 28 * 8 * 128 * 2 * 2
    own = answer("qwen3-0.6b", **ASKED | {"quantization": "Q8_0"}, gpu="4090")
    for name in ("weights", "activations"):
        assert part(running(found), name, "draft") == part(running(own), name)
    assert part(running(found, 1), "logits") == 4 * part(running(alone, 1), "logits")
    assert part(running(found), "weights") - part(running(found), "weights", "draft") == part(
        running(alone), "weights"
    )
    assert uncounted.of_subject(s, w) == ()


def test_searches_count_it():
    s, w = drafted(gpu="4090", gpu_memory="7GiB")
    plain = replace(s, draft=None)
    assert holds(plain, w, w.budget())
    assert not holds(s, w, w.budget())
    w = w.but(gpu_memory=None)
    at = SearchPoint(w.context, None, 1)
    told = (probe(one, w, w.budget())(at).kinds[0][1] for one in (s, plain))
    bytes_of = [sum(b.expected for _, b in parts) for parts in told]
    found = [infer(one, w, w.budget()) for one in (s, plain)]
    sizes = [running(f).at("driver").expected for f in found]
    assert bytes_of[0] - bytes_of[1] == sizes[0] - sizes[1] > GIB
    assert found[0].derived["kv_cache_tokens"] < found[1].derived["kv_cache_tokens"]
    each = [f.derived["kv_cache_bytes_per_token"] for f in found]
    assert each[0] - each[1] == 28 * 8 * 128 * 2 * 2


@pytest.mark.parametrize("draft", ["qwen3-0.6b", "falcon-mamba-7b"])
def test_a_search_says_what_the_answer_says(draft):
    s, w = drafted(draft=draft, gpu="h100")
    told = probe(s, w, w.budget())(SearchPoint(w.context, None, 1)).kinds[0][1]
    found = infer(s, w, w.budget())
    assert sum(b.expected for _, b in told) == running(found).at("driver").expected


def test_tokens_that_fit_are_of_both_caches():
    s, w = drafted(gpu="4090")
    derived = infer(s, w, w.budget()).derived
    room = w.budget().of(0).low
    assert room / 2 < derived["kv_cache_tokens"] * derived["kv_cache_bytes_per_token"] < room


@pytest.mark.slow
def test_layers_that_predict_are_where_the_output_is():
    found = answer("qwen3.5-27b", **ASKED, gpu="4090:2", speculative_method="mtp")
    for name in ("weights", "kv_cache"):
        first, last = (part(running(found, d), name, "MTP") for d in range(2))
        assert first == 0 < last


def test_their_logits_are_of_the_slots_alone():
    """n_outputs_max of that context: 512 rows of 248,320 would be 485 MiB."""
    found = answer("qwen3.5-27b", **ASKED, speculative_method="mtp", engine_version="b9200")
    assert part(running(found), "activations", "MTP") < 300 << 20


def test_before_contexts_were_one_each_slot_had_one():
    s, w = drafted(engine_version="b9000", parallel=4)
    (buffer,) = (
        c
        for c in running(infer(s, w, None)).components
        if c.name == "activations" and "draft" in c.detail
    )
    assert buffer.bytes.high == 4 * buffer.bytes.expected


@pytest.mark.slow
def test_layers_that_predict():
    """Qwen3.5 27B: one layer with 4 heads x 256 of keys and values, and 2 D x D that joins; a
    running state for each of 3 proposed tokens beside each slot's own."""
    plain, found = (
        running(answer("qwen3.5-27b", **ASKED, parallel=1, speculative_method=m))
        for m in (None, "mtp")
    )
    assert part(found, "kv_cache", "MTP") == 8192 * 4 * 256 * 2 * 2
    assert part(found, "recurrent_state") == 4 * part(plain, "recurrent_state")
    net = known_network(served("qwen3.5-27b", "llama.cpp", quantization="Q4_K_M"))
    like = net.of_layer(63)
    joins = max(like, key=lambda t: t.ne[0] * t.ne[-1]).dtype.size(2 * 5120 * 5120)
    own = sum(align_up(t.nbytes, 128) for t in like) + joins
    assert part(found, "weights", "MTP") == own
    more = running(
        answer(
            "qwen3.5-27b",
            **ASKED,
            parallel=1,
            speculative_method="mtp",
            num_speculative_tokens=7,
        )
    )
    assert part(more, "recurrent_state") == 8 * part(plain, "recurrent_state")


@pytest.mark.parametrize(
    ("name", "more", "says"),
    [
        ("qwen3-8b", {"speculative_method": "mtp"}, "no layers for multi-token prediction"),
        ("qwen3.5-27b", {"speculative_method": "mtp", "engine_version": "b8000"}, "since May 2026"),
        ("qwen3-8b", {"speculative_method": "eagle3"}, "llama.cpp has draft, mtp, ngram"),
        ("qwen3-8b", {"speculative_method": "draft"}, "needs a --draft-model"),
    ],
)
def test_what_it_cannot_propose_with(name, more, says):
    with pytest.raises(UsageError, match=says):
        answer(name, **ASKED | more)


def test_logits_are_of_all_proposed_tokens():
    """4 slots of 1 + 3 or 1 + 48 tokens x 151,936 x 4 bytes (server_n_outputs_max)."""
    rows = {}
    for kind, count in ((None, None), ("ngram", 3), ("ngram", None)):
        found = answer("qwen3-8b", **ASKED, speculative_method=kind, num_speculative_tokens=count)
        rows[kind, count] = part(running(found, 1), "logits") / 151_936 / 4
        assert not any("draft" in c.detail for c in running(found).components)
    assert rows == {(None, None): 4, ("ngram", 3): 16, ("ngram", None): 196}


def test_a_line_is_read_and_written():
    line = answer("qwen3.5-27b", **ASKED, speculative_method="mtp", num_speculative_tokens=2)
    read = parse(line.derived["launch"]).settings
    assert (read["speculative_method"], read["num_speculative_tokens"]) == ("mtp", 2)
    assert "--spec-type draft-mtp --draft-max 2" in line.derived["launch"]


SERVED = {"engine": "llama.cpp", "quantization": "Q4_K_M", "speculative_method": "mtp"}


def buffers(found, what):
    detail = f"compute buffer{what}"
    devices = (running(found, d).components for d in range(len(found.devices) - 1))
    return [c.bytes for parts in devices for c in parts if c.detail == detail]


@pytest.mark.slow
@pytest.mark.parametrize("context", [8192, 32_768])
def test_a_layer_that_predicts_has_all_that_it_makes_at_once(context):
    """Logs of Qwen3.8 27B at 2,048 tokens a step: 520.06 MiB for either context. The model's own
    buffer was 48.5 MiB more under Vulkan than under CUDA."""
    w = {"context": context, "parallel": 1, "n_batch": 2048, "ubatch_size": 2048, "gpu": "3090"}
    found = answer("qwen3.8-27b", num_speculative_tokens=2, engine_version="9849", **SERVED | w)
    (mine,), (theirs,) = buffers(found, ""), buffers(found, ", MTP layers")
    assert theirs.expected / 2**20 == pytest.approx(520.06, abs=0.1)
    logged = {8192: 568.53, 32_768: 664.18}[context]
    assert 0 < logged - mine.expected / 2**20 < 49 < (mine.high - mine.low) / 2**20 + 0.3


@pytest.mark.slow
def test_layers_that_predict_count_among_those_that_are_dealt_out():
    """-ts 17,13 of 66 layers: 29 and 19 delta nets of Qwen3.5 27B, not 28 and 20; its draft's mask
    is kept four times by the pipeline, 613 MiB in all."""
    w = {"context": 262_144, "parallel": 1, "n_batch": 1024, "ubatch_size": 256, "kv_unified": True}
    w |= {"tensor_split": (17, 13), "cache_type_k": "q8_0", "cache_type_v": "q8_0"}
    w |= {"gpu": "rtx-5060-ti-16gb:2", "engine_version": "9800", "flash_attn": "on"}
    found = answer("qwen3.5-27b", n_gpu_layers=99, **SERVED | w)
    states = [part(running(found, d), "recurrent_state") for d in range(2)]
    one = sum(states) // 48
    assert states == [29 * one, 19 * one]
    (draft,) = buffers(found, ", MTP layers")
    assert draft.expected / 2**20 == pytest.approx(613, rel=0.12)
    assert draft.low / 2**20 < 613 < draft.high / 2**20
