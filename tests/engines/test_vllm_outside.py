"""What vLLM has beyond its share of the card: sleep mode, graphs that nobody charges, stacks."""

from types import SimpleNamespace

import pytest

from tests.ask import usual
from tests.engines.answers import answer, of_config, part
from weighbridge.base.memory import Bytes
from weighbridge.base.units import MIB
from weighbridge.engines.launch import parse
from weighbridge.engines.vllm import outside_torch, profile
from weighbridge.machines.accelerators.budget import budget
from weighbridge_lab.evidence import predict, records

FREED = "freed while loading"


served = usual(answer, None, engine="vllm", context=4096, max_num_seqs=16)


def freed(name, **asked):
    found = served(name, enable_sleep_mode=True, **asked)
    return [part(d.phases[1], "other", FREED) for d in found.devices if d.kind == "gpu"]


def test_a_head_that_is_made_and_then_tied_is_counted_twice():
    """128,256 x 2,048 numbers of 2 bytes of Llama 3.2 1B; a rank of two has half of them."""
    head = 128_256 * 2048 * 2
    assert freed("llama-3.2-1b", engine_version="0.26") == [head]
    assert freed("llama-3.2-1b", engine_version="0.26", tensor_parallel_size=2) == [head // 2] * 2
    assert freed("llama-3.2-1b", engine_version="0.26", pipeline_parallel_size=2) == [0, head]


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("qwen2.5-0.5b", "0.26"),  # takes the embedding for its head at once
        ("llama-3.1-8b", "0.26"),  # is not tied
        ("llama-3.2-1b", "0.15"),  # loads outside the pool
        ("llama-3.2-1b", "0.27"),  # counts free memory
        ("llama-3.2-1b", "0.9"),  # counts what is allocated
    ],
)
def test_nothing_is_counted_twice(name, version):
    assert freed(name, engine_version=version) == [0]


def test_sleep_mode_takes_more_of_the_card_and_leaves_the_cache_alone():
    plain, asleep = (
        served("llama-3.2-1b", gpu="A100 SXM 40GB", engine_version="0.26", enable_sleep_mode=on)
        for on in (False, True)
    )
    assert asleep.devices[0].taken - plain.devices[0].taken == 128_256 * 2048 * 2
    told = "available_kv_cache_bytes"
    assert asleep.derived[told] == plain.derived[told]
    assert "--enable-sleep-mode" in asleep.derived["launch"]
    assert parse(asleep.derived["launch"]).settings["enable_sleep_mode"] is True


def test_repacked_weights_are_an_interval():
    """Up to five layers of them: of 32 of Llama 3.1 8B in four bits."""
    w = {"engine_version": "0.26", "quantization": "awq-4bit-g128"}
    found = served("llama-3.1-8b", enable_sleep_mode=True, **w).devices[0].phases[1]
    (one,) = [c for c in found.components if c.detail.startswith(FREED)]
    assert one.bytes.low == 0 < one.bytes.expected < one.bytes.high == 5 * one.bytes.expected
    assert 100 * MIB < one.bytes.expected < 125 * MIB


@pytest.mark.parametrize(
    ("name", "version", "charged"),
    [
        ("llama-3.1-8b", "0.24", False),
        ("llama-3.1-8b", "0.28", False),
        ("llama-3.1-8b", "0.29", True),
        ("granite-3.1-1b-a400m", "0.22", True),  # by the older runner
    ],
)
def test_graphs_of_the_newer_runner_come_off_nothing(name, version, charged):
    found = served(name, engine_version=version).derived
    assert (found["cuda_graph_estimate_bytes"] > 0) is charged
    assert found["cuda_graph_bytes"] > 64 * MIB


def test_graphs_that_nobody_charges_leave_more_to_the_cache():
    """What is not charged is given to the cache, and taken a second time."""
    old, new = (served("llama-3.1-8b", gpu="H100", engine_version=v) for v in ("0.28", "0.29"))
    told, charged = "available_kv_cache_bytes", new.derived["cuda_graph_estimate_bytes"]
    assert old.derived[told] - new.derived[told] == pytest.approx(charged, abs=MIB)


def test_slots_for_adapters_double_the_graphs():
    with_slots, without = (
        served("llama-3.1-8b", engine_version="0.33", max_loras=n).derived["cuda_graph_bytes"]
        for n in (1, None)
    )
    kernels = 32 * 14 * 1024  # of all layers, bytes of one
    graphs = 7 + 5  # up to 32 tokens, and whole ones up to 16
    assert with_slots - without == graphs * 19 * kernels


def test_requests_that_gave_up_their_blocks_are_read_again():
    """16 requests of 4,096 tokens do not fit: what they have written is a prompt of as many tokens
    as the cache holds. SmolLM2 on an L4 read 0.8 to 1.1 GiB more than with smaller batches."""
    w = {"gpu": "L4", "context": 4096, "prompt_len": 128, "max_new_tokens": 3968}
    w |= {"gpu_memory_utilization": 0.45, "max_num_batched_tokens": 65_536, "max_num_seqs": 16}
    w |= {"shared_prefix": 128, "engine_version": "0.23"}
    one, many = (answer("smollm2-1.7b", engine="vllm", batch_size=n, **w).derived for n in (1, 16))
    held = many["kv_cache_tokens"]
    assert 4096 < held < 16 * 4096
    step = 2 * held * (2048 + 2 * 2048 + 3 * 8192)
    assert many["serving_bytes"] - one["serving_bytes"] == pytest.approx(step, rel=0.1)


def test_windows_of_running_requests_are_not_admission_maxima():
    """16 requests of 4,096 tokens of Gemma 4 E4B on an A100 of 40 GB ran in 24.9 GB, with slots for
    adapters and sleep mode besides. By hand: one group of full attention, 256 blocks of 16 tokens;
    five of windows of 512, in blocks of 32, of which admission keeps 129 free for a batch of 65,536
    tokens, and a request that writes, two tokens on their way, holds 18."""
    w = {"gpu": "A100 40GB", "context": 4096, "prompt_len": 1024, "max_new_tokens": 3072}
    w |= {"gpu_memory_utilization": 0.65, "max_num_batched_tokens": 65_536, "max_num_seqs": 16}
    w |= {"engine_version": "0.26", "images": 0}
    many = answer("gemma-4-e4b", engine="vllm", batch_size=16, **w)
    one = answer("gemma-4-e4b", engine="vllm", batch_size=1, **w)
    assert many.derived["serves_as_asked"] is True
    block = one.derived["kv_cache_bytes_per_request"] // (256 + 5 * 129)
    held = sum(c.bytes.expected for c in many.devices[0].phases[1].components if "kv" in c.name)
    assert held == block * (1 + 256 + 5 * 129 + 15 * (256 + 5 * 18))
    assert many.derived["serving_bytes"] / 1e9 == pytest.approx(24.9, rel=0.03)
    low, expected, high = many.derived["serving_interval"]
    assert (high - expected) / 1e9 == pytest.approx(4.3, abs=0.2)  # all of it read again
    assert expected - low < 800 * MIB
    assert one.derived["serving_interval"][2] - one.derived["serving_bytes"] < 800 * MIB


def test_requests_with_windows_were_not_read_again_at_once():
    """Gemma 4 E2B in 0.45 of an A100 of 40 GB: 3,054 blocks, of the 4,733 that 16 requests draw;
    the driver showed 15.58 GB (AgileRL's rig), 1.4 less than with all of it in one step."""
    w = {"gpu": "A100 40GB", "context": 4096, "prompt_len": 1024, "max_new_tokens": 3072}
    w |= {"gpu_memory_utilization": 0.45, "max_num_batched_tokens": 65_536, "max_num_seqs": 16}
    w |= {"engine_version": "0.26", "images": 0, "shared_prefix": 1024, "batch_size": 16}
    w |= {"enable_sleep_mode": True, "max_loras": 1, "max_lora_rank": 8}
    found = answer("gemma-4-e2b", engine="vllm", **w).derived
    assert found["serves_as_asked"] is False
    low, expected, high = found["serving_interval"]
    assert found["serving_bytes"] / 1e9 == expected / 1e9 == pytest.approx(15.58, rel=0.02)
    assert low < 15.58e9 < 16.8e9 < high


# Growth outside torch


def grown(name="llama-3.1-8b", gpu="H100", **asked):
    found = answer(name, engine="vllm", context=4096, gpu=gpu, **asked)
    return [part(d.phases[1], "other", "kernels and handles") for d in found.devices[:-1]]


def test_an_odd_vocabulary_spills_more():
    """Logs of 0.19 on an H100: 0.25 GiB of most, 0.46 of Granite's 49,155 and 49,159 words."""
    card = budget("H100", None, None)
    even, odd = (outside_torch.local_memory(n, card).expected for n in (49_152, 49_155))
    assert odd / even == 1888 / 800
    assert even == 800 * 132 * 2048 * 7 // 8
    assert outside_torch.stack_bytes(49_154, (9, 0)).high == 1888
    assert outside_torch.local_memory(49_152, budget("T4", None, None)).expected < 40 * MIB


@pytest.mark.parametrize(
    ("version", "mib"), [("0.11", 130), ("0.15", 130), ("0.17", 130), ("0.19", 255), ("0.33", 230)]
)
def test_growth_by_version(version, mib):
    assert grown(engine_version=version)[0] / MIB == pytest.approx(mib, abs=1)


def test_a_rank_that_does_not_sample_grows_less():
    """0.07 GiB in two logs of 0.19 with a pipeline; the last rank has the sampler."""
    first, last = grown(engine_version="0.19", pipeline_parallel_size=2)
    assert (first / MIB, last / MIB) == pytest.approx((75, 255), abs=1)
    assert grown(engine_version="0.19", max_num_seqs=4) == [75 * MIB]
    for version, sampling in (("0.15", 130), ("0.33", 230)):
        first, last = grown(engine_version=version, pipeline_parallel_size=2)
        assert (first / MIB, last / MIB) == pytest.approx((75, sampling), abs=1)


def test_stages_talk_after_the_profile():
    """What sends and receives open is outside the share, since the profile sends nothing."""
    found = answer(
        "llama-3.1-8b",
        engine="vllm",
        context=4096,
        gpu="H100",
        engine_version="0.19",
        pipeline_parallel_size=2,
    )
    assert found.derived["non_torch_bytes"] / MIB == pytest.approx(255, abs=1)
    first = found.derived["first_rank"]
    assert first["non_torch_bytes"] / MIB == pytest.approx(75, abs=1)
    assert first["profile_peak_bytes"] < found.derived["profile_peak_bytes"]  # samples nothing
    assert found.derived["stages"][0] == first
    assert first["non_torch_interval"] == [40 * MIB, 75 * MIB, 128 * MIB]


def test_each_stage_has_a_profile_of_its_own():
    """Behind the first, hidden states and residual are received: two tensors of a batch's tokens,
    which the first step makes and the rank's log counts."""
    asked = {"engine_version": "0.19", "gpu": "H100", "max_num_seqs": 8, "context": 4096}
    told = answer("llama-3.1-8b", engine="vllm", pipeline_parallel_size=2, **asked).derived
    first, last = told["stages"]
    more = last["profile_peak_bytes"] - first["profile_peak_bytes"]
    assert more == 2 * 8192 * 4096 * 2
    assert told["profile_peak_bytes"] == last["profile_peak_bytes"]
    alone = answer("llama-3.1-8b", engine="vllm", **asked).derived
    assert alone["stages"] == [alone["first_rank"]]
    assert alone["profile_peak_bytes"] == first["profile_peak_bytes"]


@pytest.mark.slow
def test_the_compiler_of_0_11_keeps_no_workspace_for_sums():
    old, new = (
        answer("llama-3.1-8b", engine="vllm", gpu="H100", engine_version=v, tensor_parallel_size=2)
        for v in ("0.11", "0.19")
    )
    less = new.derived["non_torch_bytes"] - old.derived["non_torch_bytes"]
    assert less / MIB == pytest.approx(1780 - 430 + 125, abs=1)


@pytest.mark.slow
def test_published_windows_with_sleep_mode():
    """NVML in windows of AgileRL's rig: seldom above the interval, whatever the model."""
    found = predict.outcomes(records.chosen(source="agilerl_grpo"))
    read = [p for p in found if isinstance(p, predict.Prediction)]
    assert read
    above = [p for p in read if p.record.measured > 1.01 * p.bytes.high]
    assert len(above) <= 0.02 * len(read)
    gemma = [p for p in read if "gemma-4" in p.record.model]
    assert not [p for p in gemma if p in above]
    assert sum(p.error for p in gemma) / len(gemma) > -0.02


def gemma(**text):
    """Gemma 4 E4B in small, with a tower; its text config names no type of its own."""
    own = {
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "global_head_dim": 128,
        "vocab_size": 262_144,
        "vocab_size_per_layer_input": 1024,
        "hidden_size_per_layer_input": 32,
        "num_kv_shared_layers": 2,
        "sliding_window": 512,
        "tie_word_embeddings": True,
        "layer_types": (["sliding_attention"] * 2 + ["full_attention"]) * 2,
    }
    tower = {"model_type": "gemma4_audio", "hidden_size": 64, "num_hidden_layers": 2}
    return {"model_type": "gemma4", "text_config": own | text, "audio_config": tower}


def gemma_served(config, **asked):
    w = {"engine_version": "0.26", "context": 4096, "max_num_seqs": 16} | asked
    return answer(of_config(config), engine="vllm", **w)


def test_a_head_is_asked_of_the_text_by_its_class():
    """Half of it was charged where only the outer type is written: 640 MiB of Gemma 4 E4B."""
    typed = gemma(model_type="gemma4_text")
    found = [gemma_served(c, enable_sleep_mode=True) for c in (gemma(), typed)]
    heads = [part(a.devices[0].phases[1], "other", FREED) for a in found]
    assert heads == [262_144 * 256 * 2] * 2
    pools = [
        c.bytes for c in found[0].devices[0].phases[1].components if c.detail.startswith("the pool")
    ]
    assert pools == [(490 * MIB, 640 * MIB, 790 * MIB)]


def test_slices_for_each_layer_live_through_the_step_and_in_a_buffer():
    """6 layers x 32 numbers x 2 bytes a token, in the profile and beside the weights."""
    few, many = (gemma_served(gemma(), max_num_batched_tokens=n) for n in (2048, 4096))
    plain, more = (
        gemma_served(gemma(hidden_size_per_layer_input=0), max_num_batched_tokens=n)
        for n in (2048, 4096)
    )

    def grown(a, b, name):
        both = (x.devices[0].phases[1].components for x in (a, b))
        less, found = (sum(c.bytes.expected for c in own if c.name == name) for own in both)
        return found - less

    each = 2048 * 6 * 32 * 2
    assert grown(few, many, "activations") - grown(plain, more, "activations") == each
    assert grown(few, many, "buffers") - grown(plain, more, "buffers") == each


def test_buffers_of_deepstack_are_loaded_with_the_model():
    """Qwen3-VL: three levels of 8,192 tokens x 2,048 numbers; none without its tower. 58.23 GiB in
    a log of 0.13, of which 0.19 are not found."""

    def loaded(**w):
        asked = {"engine_version": "0.13", "max_num_batched_tokens": 8192} | w
        found = answer("qwen3-vl-30b-a3b", engine="vllm", context=8192, gpu="h100-nvl", **asked)
        own = found.devices[0].phases[0].components
        names = ("weights", "buffers", "rounding")
        return sum(c.bytes.expected for c in own if c.name in names and not c.detail)

    assert loaded() - loaded(max_num_batched_tokens=4096) == 3 * 4096 * 2048 * 2
    few, more = (loaded(language_model_only=True, max_num_batched_tokens=n) for n in (4096, 8192))
    assert few == more
    assert 0.001 < 1 - loaded() / (58.23 * 1024**3) < 0.004


def test_indices_of_sparse_attention_are_a_buffer():
    """DeepSeek 3.2: 2,048 of them a token, of 4 bytes."""
    few, more = (
        answer("deepseek-v3.2", engine="vllm", context=4096, engine_version="0.33", **w)
        for w in ({"max_num_batched_tokens": 2048}, {"max_num_batched_tokens": 4096})
    )
    own = (a.devices[0].phases[0].components for a in (few, more))
    held = [
        sum(c.bytes.expected for c in one if (c.name, c.detail) == ("buffers", "")) for one in own
    ]
    assert held[1] - held[0] == 2048 * 2048 * 4


def test_a_backend_that_was_named():
    """FlashInfer has a workspace wherever it runs; FlashAttention alone cuts contexts, on Hopper."""

    def facts(gpu, backend):
        found = answer(
            "llama-3.1-8b", engine="vllm", context=4096, gpu=gpu, attention_backend=backend
        )
        return part(found.devices[0].phases[1], "workspaces", "attention"), found.derived[
            "cuda_graph_bytes"
        ]

    hopper = {b: facts("H100", b) for b in (None, "flash_attn_vllm_v1", "FLASHINFER", "auto")}
    assert hopper[None] == hopper["flash_attn_vllm_v1"] == hopper["auto"]
    assert hopper["FLASHINFER"][0] - hopper[None][0] == 394 * MIB
    assert hopper[None][1] - hopper["FLASHINFER"][1] == 32 * 512 * 4096 * 4
    assert facts("B200", None)[0] - facts("B200", "TRITON_ATTN")[0] == 394 * MIB


@pytest.mark.parametrize(
    ("gpu", "version", "low", "mib", "high"),
    [
        ("H100", "0.26", 180, 230, 300),
        ("H100", "0.33", 180, 230, 300),
        ("L4", "0.26", 40, 130, 352),
    ],
)
def test_growth_where_flashinfer_samples(gpu, version, low, mib, high):
    """Seven engines of 0.26 on an H100 grew by 230 to 246 MiB; of other cards no log is published."""
    launched = SimpleNamespace(
        pooling=False, sequences=256, rules=SimpleNamespace(sampler="flashinfer")
    )
    rank = SimpleNamespace(last=True)
    found = outside_torch.growth(launched, rank, 128_256, budget(gpu, None, None))
    assert found == Bytes(low * MIB, mib * MIB, high * MIB)
    assert outside_torch.growth(launched, SimpleNamespace(last=False), 1, None).expected == 75 * MIB


@pytest.mark.parametrize(
    ("vocabulary", "measured"), [(128_256, 551.5), (102_400, 442.8)], ids=["Llama", "DeepSeek"]
)
def test_counts_of_the_newer_runner(vocabulary, measured):
    """What 1,024 sequences held on an H100 before the cache was made, in vLLM 0.26; each block
    leaves less than a MiB."""
    found = profile.counts(1024, vocabulary, 0)
    assert 0 <= measured - found / MIB < 2
    by_hand = vocabulary + 2 * vocabulary // 32 + 4481
    assert found == 1024 * 4 * by_hand
    assert profile.counts(1024, vocabulary, 3) - found == 1024 * 4 * 3 * vocabulary // 32


# ROCm


def first_rank(**asked):
    found = served("qwen3.5-9b", **asked).derived
    return found["first_rank"]["profile_peak_interval"], found["profile_peak_interval"], found


@pytest.mark.parametrize(
    ("gpu", "version", "charged", "printed"),
    [
        ("H100", "0.26", True, False),
        ("H100", "0.27", True, True),
        ("MI300X", "0.25", False, False),
        ("MI300X", "0.26", True, False),
        ("MI300X", "0.27", True, True),
    ],
)
def test_graphs_that_are_expected_stand_in_the_printed_activation(gpu, version, charged, printed):
    """gpu_worker.py: peak_activation_memory has the estimate since 0.27, which ROCm makes since
    0.26 (is_cuda_alike)."""
    of_log, peak, found = first_rank(gpu=gpu, engine_version=version)
    assert (found["cuda_graph_estimate_bytes"] > 0) is charged
    assert of_log[1] - peak[1] == found["cuda_graph_estimate_bytes"] * printed


def test_graphs_of_rocm_are_as_far_apart_as_two_logs():
    """Gemma 4 E2B on an MI300X: 3.90 GiB; Qwen3.8 27B on a Strix Halo: 0.71, and 1.55 expected."""
    w = {"engine": "vllm", "engine_version": "0.29", "context": 32_768}
    (graphs,) = graphs_of(answer("gemma-4-e2b", gpu="MI300X", **w))
    assert graphs.low < graphs.expected < 2**30 < 3.9 * 2**30 < graphs.high < 4.5 * 2**30
    w = {"engine": "vllm", "engine_version": "0.28", "context": 262_144, "skip_mm_profiling": True}
    (graphs,) = graphs_of(answer("qwen3.8-27b", gpu="strix-halo", **w))
    assert graphs.low < 0.71 * 2**30 < graphs.high < 1.6 * 2**30


def graphs_of(found):
    return [c.bytes for c in found.devices[0].phases[1].components if c.name == "cuda_graphs"]


@pytest.mark.parametrize(
    ("gpu", "version", "sequences"),
    [
        ("strix-halo", "0.23", 1024),
        ("strix-halo", "0.24", 256),
        ("MI300X", "0.24", 1024),
        ("gb10", "0.23", 256),
    ],
)
def test_defaults_by_vram_that_the_bios_set_aside(gpu, version, sequences):
    """platforms/rocm.py asks amdsmi since 0.24. A Strix Halo with 78 GiB for HIP had 0.85 GiB
    above its weights, which 256 rows of 248,320 logits are, and 1,024 are not."""
    w = {"engine": "vllm", "engine_version": version, "context": 4096, "gpu": gpu}
    assert answer("qwen3-0.6b", **w).settings["max_num_seqs"] == sequences


KERNEL_LESS = [  # GiB of scores that are expected, and that may be
    ("strix-halo", {}, 512, 512),
    ("strix-halo", {"skip_mm_profiling": True}, 0, 0),
    ("radeon-ai-pro-r9700", {}, 0, 512),
    ("7900xtx", {"language_model_only": True}, 0, 0),
    ("MI300X", {}, 0, 0),
    ("H200", {}, 0, 0),
]


@pytest.mark.parametrize(("gpu", "more", "likely", "most"), KERNEL_LESS)
def test_scores_of_a_tower_without_a_kernel(gpu, more, likely, most):
    """Qwen3.8 27B on a Strix Halo was asked for 256 GiB while its tower was profiled, and ran with
    --skip-mm-profiling: 16 heads x 65,536 x 65,536 positions in float32, once more as weights. A
    Radeon R9700 profiled such towers by Triton's kernel, which vLLM asks for since 0.16."""
    w = {"engine": "vllm", "engine_version": "0.28", "context": 262_144, "gpu": gpu, **more}
    found = answer("qwen3.5-9b", **w)  # whose tower is as large
    low, expected, high = found.derived["profile_peak_interval"]
    assert low < 8 * 2**30
    assert (expected - low) // 2**30 == likely
    assert (high - low) // 2**30 in range(most, most + 8)
    assert any("Triton" in line for line in found.warnings) is bool(most)
    assert found.derived["available_kv_cache_interval"][2] > 0


@pytest.mark.parametrize(("version", "likely"), [("0.15", True), ("0.16", False)])
def test_a_kernel_of_towers_that_releases_do_not_ask_for(version, likely):
    """Qwen3-VL was too much for a Radeon 7800 XT in 0.11: before 0.16 no kernel was asked for."""
    w = {"engine": "vllm", "engine_version": version, "context": 8192, "gpu": "7800xt"}
    low, expected, high = answer("qwen3-vl-2b", **w).derived["profile_peak_interval"]
    assert (expected == high) is likely
    assert (expected == low) is not likely
