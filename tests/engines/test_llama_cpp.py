"""llama.cpp's answer: buffers of each device, by hand and against logs of single runs."""

import json
from importlib.resources import files

import pytest

from tests.ask import usual
from tests.cases import all_of
from tests.engines.answers import answer, of_config, part
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.units import MIB
from weighbridge.engines.launch import parse
from weighbridge.engines.llama_cpp import infer as llama_cpp
from weighbridge.engines.llama_cpp.infer import number
from weighbridge.engines.llama_cpp.rules import NEWEST, rules

LLAMA = {"engine": "llama.cpp", "context": 8_192, "quantization": "Q4_K_M", "program": "cli"}


asked = usual(answer, "llama-3.1-8b", **LLAMA)


def running(found, device):
    return found.devices[device].phases[1]


def weights(found):
    return [part(d.phases[0], "weights") for d in found.devices]


# Types without a kernel

LLAMA_LAYERS = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14_336)  # values of matrices


@pytest.mark.parametrize(("form", "block"), [("TQ1_0", 54), ("TQ2_0", 66)])
def test_ternary_matrices_stay_with_the_processor(form, block):
    """CUDA multiplies neither type: the layers' matrices are the host's, the output is the GPU's,
    and nothing of them is copied to the GPU for a long prompt."""
    found = asked(quantization=form, gpu="4090")
    device, host = weights(found)
    embedded = 128_256 * 4096 // 256 * 144
    assert host == LLAMA_LAYERS // 256 * block + embedded
    assert device == 128_256 * 4096 // 256 * 210 + 65 * 4096 * 4  # Q6_K, norms
    assert part(running(found, 0), "activations") < 300 * MIB
    assert f"no GPU kernel for {form}: 1." in next(w for w in found.warnings if "kernel" in w)
    assert not any("kernel" in w for w in asked(quantization="Q2_K", gpu="4090").warnings)


def test_a_kernel_came_with_a_build():
    """Q2_0's for CUDA is of July 2026."""
    before, since = (
        asked(quantization="Q2_0", gpu="4090", engine_version=b) for b in ("10299", "10300")
    )
    assert weights(before)[1] > 1.5e9 > weights(since)[1]


def test_metal_aborts_where_it_has_no_kernel():
    for form, build in (("TQ1_0", "11200"), ("TQ2_0", "10769"), ("Q2_0", "10299")):
        with pytest.raises(
            UnsupportedError, match=f"{form}: llama.cpp {build} has no Metal kernel"
        ):
            asked(quantization=form, gpu="m3 max 36gb", engine_version=build)
    for form, build in (("TQ2_0", "10770"), ("Q2_0", "10300")):
        found = asked(quantization=form, gpu="m3 max 36gb", engine_version=build)
        assert weights(found)[0] > 1.5e9 > weights(found)[1]


# One GPU


def test_llama_8b_in_q4_k_m():
    """llama.cpp's own log: 258.50 MiB of compute buffer with flash attention, 24.01 on the host;
    1 GiB of cache; 0.49 MiB of logits; 281.81 MiB of embeddings mapped on the host."""
    found = asked()
    gpu, host = running(found, 0), running(found, 1)
    assert part(gpu, "kv_cache") == 1024 * MIB
    assert part(gpu, "activations") / MIB == 258.5
    assert part(host, "activations") / MIB == pytest.approx(24.01, abs=0.01)
    assert part(host, "logits") == 128_256 * 4
    assert weights(found)[1] == 128_256 * 4096 // 256 * 144


def test_without_flash_attention_scores_are_stored():
    """32 heads x 512 tokens x 8,192 cells x 4 bytes, 512 MiB, and what lives beside them."""
    assert part(running(asked(flash_attn="off"), 0), "activations") / MIB == pytest.approx(
        564.01, abs=0.01
    )


@pytest.mark.parametrize(("ubatch", "mib"), [(512, 258.5), (1024, 517.0), (2048, 1034.0)])
def test_logits_of_every_token_decide_for_small_models(ubatch, mib):
    """tokens x (128,256 + 4,096) x 4 bytes"""
    found = part(running(asked(ubatch_size=ubatch), 0), "activations") / MIB
    assert found == pytest.approx(mib, abs=0.01)


def test_a_server_makes_logits_of_its_slots_alone():
    found = asked(program="server")
    assert found.settings["parallel"] == 4
    assert found.settings["kv_unified"]
    assert found.settings["cache_ram"] == 8192
    assert part(running(found, 0), "activations") < 130 * MIB
    assert part(running(found, 1), "logits") == 4 * 128_256 * 4


def test_a_tied_matrix_is_on_both_sides():
    found = asked("llama-3.2-1b", quantization="Q8_0")
    embedding = 128_256 * 2048 // 32 * 34
    assert weights(found)[1] == embedding
    untied = weights(asked("llama-3.2-1b", quantization="Q8_0", n_gpu_layers=0))[0]
    assert sum(weights(found)) == pytest.approx(untied + embedding, abs=256 * 128)


def test_a_model_on_the_host_lists_no_gpu():
    found = asked(n_gpu_layers=0)
    assert [d.kind for d in found.devices] == ["host"]
    assert part(running(found, 0), "kv_cache") == 1024 * MIB


def test_half_of_the_layers():
    """-ngl 17: sixteen layers and the output; each has 32 MiB of cache."""
    found = asked(n_gpu_layers=17)
    assert [part(running(found, i), "kv_cache") // MIB for i in (0, 1)] == [512, 512]
    assert "16 of 32 layers and the output" in found.devices[0].phases[0].components[0].formula


def test_cache_kept_on_the_host():
    found = asked(no_kv_offload=True)
    assert [part(running(found, i), "kv_cache") // MIB for i in (0, 1)] == [0, 1024]


def test_a_quantized_cache():
    """34 bytes for 32 values."""
    found = asked(cache_type_k="q8_0", cache_type_v="q8_0")
    assert part(running(found, 0), "kv_cache") == 544 * MIB


# Several GPUs


def test_layers_are_dealt_by_the_split():
    """33 layers, the output among them, as 3 : 1."""
    found = asked(gpu="2xa100-80gb", tensor_split=(3.0, 1.0))
    cells = [part(running(found, i), "kv_cache") // (32 * MIB) for i in (0, 1)]
    assert cells == [25, 7]


def test_a_pipeline_keeps_its_inputs_four_times():
    one, two = asked(gpu="a100-80gb"), asked(gpu="2xa100-80gb")
    assert part(running(two, 2), "activations") > 2 * part(running(one, 1), "activations")
    apart = asked(gpu="2xa100-80gb", split_mode="none")
    assert part(running(apart, 0), "activations") == part(running(one, 0), "activations")


def test_rows_are_split_over_the_gpus():
    found = asked(gpu="2xa100-80gb", split_mode="row")
    mine, other = weights(found)[:2]
    assert mine == pytest.approx(other, rel=0.01)
    assert part(running(found, 1), "kv_cache") == 0


# Experts


def test_experts_of_the_first_layers_stay_on_the_host():
    mixed = {"quantization": "Q4_K_M", "context": 4_096, "gpu": "h100"}
    all_, some = (asked("mixtral-8x7b", n_cpu_moe=n, **mixed) for n in (0, 8))
    moved = weights(some)[1] - weights(all_)[1]
    assert weights(all_)[0] - weights(some)[0] == pytest.approx(moved, rel=1e-6)
    experts = 3 * 8 * 4096 * 14_336  # values of a layer
    assert 8 * experts * 4.5 / 8 < moved < 8 * experts * 5.6 / 8


def test_what_a_card_holds():
    found = asked("llama-3.3-70b", gpu="rtx-4090", quantization="Q4_K_M")
    layers = found.derived["n_gpu_layers_that_fit"]
    assert 30 < layers < 50  # of 81, of 0.5 GB each
    less = asked("llama-3.3-70b", gpu="rtx-4090", n_gpu_layers=layers)
    budget = found.devices[0].peak("driver").expected
    assert less.devices[0].peak("driver").high < 24 * 2**30 < budget


@pytest.mark.slow
def test_how_many_layers_must_leave_their_experts():
    found = asked("qwen3-30b-a3b", gpu="rtx-3060-12gb", quantization="Q4_K_M")
    moved = found.derived["n_cpu_moe_that_fits"]
    fits = asked("qwen3-30b-a3b", gpu="rtx-3060-12gb", n_cpu_moe=moved)
    assert fits.devices[0].peak("driver").high < 12 * 2**30
    assert 10 < moved < 48


def test_tokens_that_fit():
    found = asked(gpu="rtx-4090")
    tokens = found.derived["kv_cache_tokens"]
    assert found.derived["kv_cache_bytes_per_token"] == 131_072
    assert 145_000 < tokens < 156_000


# Other kinds


def test_an_encoder_has_neither_cache_nor_decode():
    found = asked("bge-m3", context=512, quantization="F16")
    assert [p.name for p in found.devices[0].phases] == ["load", "prefill"]
    assert part(running(found, 0), "kv_cache") == 0


def test_states_are_a_row_a_slot():
    """Falcon-Mamba, 64 layers of 8,192 channels: 3 values before the kernel, 16 of state."""
    found = asked("falcon-mamba-7b", quantization="Q8_0")
    assert part(running(found, 0), "recurrent_state") == 64 * 8192 * (3 + 16) * 4


def test_an_unknown_architecture_is_said_to_be_a_guess():
    said = [asked(name, quantization="F16").warnings for name in ("olmo-1b", "llama-3.2-1b")]
    assert ["not in our tables" in " ".join(found) for found in said] == [True, False]


def test_without_a_budget_one_gpu_is_assumed():
    assert any("one GPU is assumed" in w for w in asked().warnings)
    assert not asked(gpu="h100").warnings


@pytest.mark.slow
def test_gemma_3_27b_with_four_slots():
    """4.33 GiB of cache with four slots, 3.11 with one."""
    four, one = (
        asked("gemma-3-27b", context=32_768, program="server", parallel=n, kv_unified=True)
        for n in (4, 1)
    )
    assert part(running(four, 0), "kv_cache") == (2560 + 1872) * MIB
    assert part(running(one, 0), "kv_cache") == (2560 + 624) * MIB


# Builds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "older", "newer"),
    [
        ("gemma-3-27b", "b5331", "b5500"),  # windows have caches of their own since b5432
        ("deepseek-v2-lite", "b5000", "b5331"),  # latents are stored as such since b5130
        ("deepseek-v2-lite", "b6170", "b8480"),  # and once since January 2026
    ],
)
def test_caches_shrank(name, older, newer):
    before, after = (asked(name, engine_version=v) for v in (older, newer))
    assert part(running(before, 0), "kv_cache") > part(running(after, 0), "kv_cache")


@pytest.mark.slow
def test_latents_of_deepseek_v3_before_and_after_january_2026():
    """ik-267: 1,098 MiB of keys and 976 of values for 16,384 tokens; the values are in the keys."""
    deepseek = {"context": 16_384, "n_cpu_moe": 99}
    old, new = (asked("deepseek-v3", engine_version=v, **deepseek) for v in ("5331", "8480"))
    assert part(running(old, 0), "kv_cache") == 2074 * MIB
    assert part(running(new, 0), "kv_cache") == 1098 * MIB


def test_flash_attention_became_the_default():
    assert [rules(b).flash for b in (6324, 6325)] == ["off", "auto"]
    assert [rules(b).cache_ram for b in (6729, 6730)] == [0, 8192]


@all_of(
    ("text", "build"),
    [(None, NEWEST), ("b6325", 6325), ("5331", 5331), ("0.2.1", NEWEST), ("v0.1", NEWEST)],
)
def test_names_of_builds(text, build):
    assert number(text) == build


# Settings


@all_of(
    ("setting", "words"),
    [
        ({"program": "bench"}, "--program"),
        ({"split_mode": "tensor"}, "--split-mode"),
        ({"flash_attn": "yes"}, "--flash-attn"),
        ({"cache_type_k": "q9"}, "--cache-type-k"),
        ({"cache_type_v": "q8_0", "flash_attn": "off"}, "--cache-type-v"),
        ({"main_gpu": 2}, "--main-gpu"),
        ({"tensor_split": (1.0, 1.0), "gpu": "h100"}, "--tensor-split"),
    ],
)
def test_refused(setting, words):
    with pytest.raises(UsageError, match=words):
        asked(**setting)


def test_the_command_line():
    found = asked(program="server", cache_type_k="q8_0", flash_attn="on", n_gpu_layers=20)
    words = found.derived["launch"].splitlines()[-1].split()
    assert words[:2] == ["llama-server", "-hf"]
    assert words[2] == "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q4_K_M"
    for flag, value in (("-c", "8192"), ("-ngl", "20"), ("-ctk", "q8_0"), ("-fa", "on")):
        assert words[words.index(flag) + 1] == value


def test_only_questions_are_public():
    assert llama_cpp.__all__ == ["holds", "infer", "places", "probe"]


@pytest.mark.parametrize(
    ("flags", "cells"), [("-np 4 -kvu", "1 x 65,536"), ("-np 4", "4 x 16,384"), ("", "1 x 65,536")]
)
def test_slots_of_one_cache_are_one_cache(flags, cells):
    """tools/server/server.cpp: a number of slots that is named has a cache each unless -kvu."""
    told = parse(f"llama-server -m llama-3.1-8b.gguf -c 65536 {flags}").settings
    phase = running(asked(**told), 0)
    kept = [c for c in phase.components if c.name == "kv_cache"]
    assert [c.formula.partition(" cells")[0] for c in kept] == [cells]
    assert kept[0].bytes.expected == 65_536 * 32 * 2 * 8 * 128 * 2


@pytest.mark.parametrize(("build", "mib"), [("b7780", 71.01), ("b7800", 78.01)])
def test_an_input_of_vectors_is_reserved_since_january_2026(build, mib):
    """Qwen2.5 Coder 7B in Q8_0 (Kelsidavis/rusteze, llama.log, b7780): 71.01 MiB on the host; 512 x
    3,584 x 4 bytes more since #18550."""
    w = {"quantization": "Q8_0", "context": 32_768, "parallel": 1, "program": "server"}
    found = asked("qwen2.5-7b", **w, engine_version=build, flash_attn="on")
    assert part(running(found, 1), "activations") / MIB == pytest.approx(mib, abs=0.01)


# Gemma's embeddings of every layer


E4B = next(
    json.loads(line)
    for line in files("weighbridge_lab.evidence").joinpath("models.jsonl").read_text().splitlines()
    if '"google/gemma-4-E4B-it"' in line
)["config"]
PER_LAYER = 262_144 * 42 * 256 // 32 * 34  # bytes in Q8_0


def of_build(build):
    return answer(
        of_config(E4B), engine="llama.cpp", engine_version=build, quantization="Q8_0", context=4096
    )


@pytest.mark.slow
def test_embeddings_of_layers_went_from_the_device_to_the_host():
    """google/gemma-4-E4B-it in b8680 (acdtrx/llama-runner, llama-server.log): 680.00 MiB of model
    with the host, which is the embedding to the byte. Since #21612 they are inputs."""
    before, after = of_build("b8680"), of_build("b8750")
    assert weights(before)[1] == 680 * MIB
    assert weights(after)[1] == 680 * MIB + PER_LAYER
    assert weights(before)[0] - weights(after)[0] == PER_LAYER


@pytest.mark.slow
def test_builds_between_have_either():
    between, after = (of_build(b).devices for b in ("b8700", "b8750"))
    for device, (one, other) in enumerate(zip(between, after, strict=True)):
        low, expected, high = one.phases[0].components[0].bytes
        assert expected == other.phases[0].components[0].bytes.expected
        assert (expected - low, high - expected) == ((0, PER_LAYER), (PER_LAYER, 0))[device]
