"""What llama-server is started with, by hand: slots, cells, batches, layers (common/arg.cpp,
src/llama-context.cpp)."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.base.errors import UsageError
from weighbridge.engines.llama_cpp import effective, holdings
from weighbridge.engines.llama_cpp.rules import LlamaCppRules
from weighbridge.workload import Infer

OWN = LlamaCppRules()  # slots share one cache; no layer on a GPU unless it is said
APART = replace(OWN, unified=False, server_unified=False)
FOUR = replace(OWN, server_slots=4, few_outputs=True)
MODEL = effective.ModelTraits(layers=32, causal=True, embeds=False, flash=True)
VECTORS = replace(MODEL, causal=False, embeds=True)


def launched(rules=OWN, m=MODEL, context=1000, cards=1, **asked):
    budget = SimpleNamespace(choice=SimpleNamespace(count=cards)) if cards else None
    return effective.launch(SimpleNamespace(context=context), Infer(**asked), budget, rules, m)


@all_of(
    ("rules", "asked", "slots", "unified", "cells"),
    [
        # 1,000 tokens are 1,024 cells: multiples of 256
        (OWN, {}, 1, True, 1024),
        (OWN, {"batch_size": 3}, 3, True, 3072),  # 3,000 cells of three requests
        (OWN, {"parallel": 3}, 3, True, 3072),  # each its part, in one cache as well
        (OWN, {"parallel": 3, "batch_size": 2}, 3, True, 3072),
        (OWN, {"parallel": 3, "kv_unified": True}, 3, True, 1024),  # one request may have all
        (OWN, {"parallel": 3, "kv_unified": True, "batch_size": 2}, 3, True, 2048),
        (OWN, {"parallel": 3, "kv_unified": False}, 3, False, 3 * 1024),
        (APART, {"batch_size": 3, "program": "cli"}, 3, False, 3072),
        (APART, {"parallel": 3}, 3, False, 3 * 1024),
        (FOUR, {}, 4, True, 1024),
        (FOUR, {"batch_size": 5}, 5, True, 5120),
        (FOUR, {"program": "cli"}, 1, True, 1024),
        (FOUR, {"parallel": 0}, 4, True, 1024),
        (FOUR, {"parallel": -1}, 4, True, 1024),
        (replace(FOUR, unified=False), {}, 4, True, 1024),  # a server that counts itself
        (replace(FOUR, unified=False), {"parallel": 2}, 2, False, 2048),
        (replace(FOUR, server_unified=False), {}, 4, False, 4 * 1024),
        (replace(FOUR, unified=False), {"parallel": -1}, 4, False, 4 * 1024),
    ],
)
def test_slots_and_cells(rules, asked, slots, unified, cells):
    found = launched(rules, **asked)
    assert (found.slots, found.unified, found.n_ctx) == (slots, unified, cells)
    assert found.streams == (1 if unified else slots)


@all_of(
    ("m", "context", "asked", "batch", "ubatch"),
    [
        (MODEL, 4096, {}, 2048, 512),
        (MODEL, 1000, {}, 1024, 512),  # no more than there are cells
        (MODEL, 100, {}, 256, 256),
        (MODEL, 4096, {"n_batch": 64}, 64, 64),
        (MODEL, 4096, {"ubatch_size": 1024}, 2048, 1024),
        (MODEL, 4096, {"ubatch_size": 4096}, 2048, 2048),
        (VECTORS, 100, {}, 2048, 2048),  # all of a batch at once, whatever the cells
        (VECTORS, 100, {"ubatch_size": 128}, 2048, 128),
        (replace(VECTORS, causal=True), 4096, {}, 2048, 512),
    ],
)
def test_batches(m, context, asked, batch, ubatch):
    found = launched(m=m, context=context, **asked)
    assert (found.batch, found.ubatch) == (batch, ubatch)
    assert found.step_tokens == min(found.n_ctx, ubatch)


@all_of(
    ("rules", "cards", "asked", "layers"),
    [
        (OWN, 1, {}, 33),  # with the output
        (OWN, 1, {"engine_defaults": True}, 0),
        (replace(OWN, gpu_layers=None), 1, {"engine_defaults": True}, 33),
        (OWN, 1, {"n_gpu_layers": -1}, 33),
        (OWN, 1, {"n_gpu_layers": 0}, 0),
        (OWN, 1, {"n_gpu_layers": 1}, 1),
        (OWN, 1, {"n_gpu_layers": 32}, 32),
        (OWN, 1, {"n_gpu_layers": 99}, 33),
        (OWN, None, {}, 33),
        (OWN, None, {"n_gpu_layers": 0}, 0),
        (OWN, 2, {}, 33),
    ],
)
def test_layers_on_gpus(rules, cards, asked, layers):
    found = launched(rules, cards=cards, **asked)
    assert (found.layers, found.gpu_layers) == (33, layers)
    gpus = cards or (0 if asked.get("n_gpu_layers") == 0 else 1)
    assert found.gpus == gpus


@pytest.mark.parametrize(
    ("asked", "moved"), [({}, 0), ({"n_cpu_moe": 5}, 5), ({"n_cpu_moe": 99}, 32)]
)
def test_experts_on_the_host(asked, moved):
    assert launched(**asked).cpu_moe == moved


@all_of(
    ("rules", "m", "asked", "rows"),
    [
        (OWN, MODEL, {}, 512),
        (FOUR, MODEL, {}, 4),
        (FOUR, MODEL, {"parallel": 2}, 2),
        (FOUR, MODEL, {"parallel": 600}, 512),
        (FOUR, MODEL, {"program": "cli"}, 512),
        (FOUR, replace(MODEL, embeds=True), {}, 512),
    ],
)
def test_rows_of_logits(rules, m, asked, rows):
    """A newer server reserves those of its slots alone; each token that is proposed needs one more."""
    found = launched(rules, m, **asked)
    assert found.outputs == rows
    if rows < 512:
        assert replace(found, proposed=3).outputs == 4 * rows


@all_of(
    ("told", "m", "on"),
    [
        ("on", MODEL, True),
        ("off", MODEL, False),
        ("auto", MODEL, True),
        ("auto", replace(MODEL, flash=False), False),
        ("on", replace(MODEL, flash=False), True),
        (None, MODEL, False),  # the older default
    ],
)
def test_flash_attention(told, m, on):
    asked = {} if told is None else {"flash_attn": told}
    found = launched(m=m, **asked)
    assert (found.flash, found.asked_flash) == (on, told or "off")


def test_caches_and_what_is_refused():
    found = launched(kv_cache_dtype="q8_0", flash_attn="on")
    assert (found.type_k.name, found.type_v.name) == ("Q8_0", "Q8_0")
    found = launched(cache_type_k="q8_0", cache_type_v="f16")
    assert (found.type_k.name, found.type_v.name) == ("Q8_0", "F16")
    assert launched().type_k.name == "F16"
    assert launched().swa_full and not launched(replace(OWN, windows=True)).swa_full
    assert launched(replace(OWN, windows=True), swa_full=True).swa_full
    assert launched(main_gpu=1, cards=2).main_gpu == 1
    assert launched(tensor_split=(3.0, 1.0), cards=2).tensor_split == (3.0, 1.0)
    for asked, says in (
        ({"cache_type_v": "q8_0", "flash_attn": "off"}, "flash attention"),
        ({"main_gpu": 1}, "there are 1 GPUs"),
        ({"main_gpu": 2, "cards": 2}, "there are 2 GPUs"),
        ({"tensor_split": (1.0, 1.0)}, "names 2 GPUs"),
        ({"split_mode": "diagonal"}, "not known"),
        ({"program": "bench"}, "not known"),
    ):
        with pytest.raises(UsageError, match=says):
            launched(**asked)


def test_host_memory():
    rules = replace(OWN, cache_ram=8192, copies=2)
    assert (launched(rules).cache_ram, launched(rules).copies) == (8192, 2)
    found = launched(rules, cache_ram=0, sched_max_copies=1, no_mmap=True, no_kv_offload=True)
    assert (found.cache_ram, found.copies, found.mmap, found.cache_offload) == (0, 1, False, False)
    assert launched().mmap and launched().cache_offload


@pytest.mark.slow
def test_the_tower_that_hf_loads():
    """Published: 851 MB of mmproj-gemma-3-4b-it-f16.gguf (bartowski/google_gemma-3-4b-it-GGUF)."""
    model, published = "gemma-3-4b", 851e6
    found = weighbridge.infer(
        model, engine="llama.cpp", quantization="Q4_K_M", mmproj_auto=True, context=4096
    )
    tower = [c for c in found.devices[0].phases[-1].components if c.detail == "mmproj"]
    weights, computing = (c.bytes for c in sorted(tower, key=lambda c: c.name, reverse=True))
    assert weights.low < weights.expected < published < weights.high
    assert weights.expected == pytest.approx(published, rel=0.002)
    line = found.derived["launch"].splitlines()
    assert line[-1].endswith(f"-mm {model}-mmproj-F16.gguf")
    assert line[-2].endswith(f"--outfile {model}-mmproj-F16.gguf --outtype f16 --mmproj")
    (said,) = [w for w in found.warnings if "projector" in w]
    more = weights.expected + computing.expected
    assert int(said.rpartition(" ")[2]) == 1024 + -(-more // 2**20)


def test_a_model_of_text_has_no_tower():
    asked = {"engine": "llama.cpp", "quantization": "Q4_K_M", "context": 4096}
    plain, auto = (
        weighbridge.infer("llama-3.2-1b", **asked, mmproj_auto=on) for on in (False, True)
    )
    assert plain.devices == auto.devices
    assert plain.warnings == auto.warnings
    assert plain.derived["launch"] == auto.derived["launch"]


def test_a_projector_that_stays_in_ram_leaves_the_card_by_what_it_takes_there():
    line = "llama-server -hf unsloth/Qwen3.6-27B-GGUF:Q4_K_M -c 8192{}"
    on_card, in_ram = (
        weighbridge.infer(command=line.format(flag), gpu="3090", offline=True)
        for flag in ("", " --no-mmproj-offload")
    )

    def weights(report, kind):
        (device,) = (d for d in report.devices if d.kind == kind)
        return device.phases[-1].of("weights").expected

    moved = weights(on_card, "gpu") - weights(in_ram, "gpu")
    assert moved > 2**29
    assert weights(in_ram, "host") - weights(on_card, "host") == moved
    assert in_ram.derived["launch"].endswith("--no-mmproj-offload")
    assert not any("not modelled" in line for line in in_ram.warnings)


def test_a_graph_is_placed_once_whatever_is_done_with_files(monkeypatch):
    """A page of a file and a prompt that is kept are no tensors; a type of the cache is."""
    placed, reserved = [], holdings.reserved

    def counted(layers, near):
        placed.append(layers)
        return reserved(layers, near)

    monkeypatch.setattr(holdings, "reserved", counted)
    model = weighbridge.prepare("smollm3-3b", offline=True)
    for settings in ({}, {"no_mmap": True}, {"cache_ram": 0}, {"cache_type_k": "q8_0"}):
        model.briefly(Infer(engine="llama.cpp", quantization="Q8_0", gpu="3060", **settings))
    assert len(placed) == 2
