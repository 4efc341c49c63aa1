"""vLLM's budget: published figures, edges by hand, versions that differ."""

import math
from itertools import product

import pytest

import weighbridge
from tests.ask import usual
from tests.cases import all_of
from tests.engines.answers import answer, load_gib, of_config, part
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.memory import Bytes
from weighbridge.base.sentences import keys_of
from weighbridge.base.units import GIB, KIB, MIB
from weighbridge.engines.vllm import forward, graphs, hardware, profile
from weighbridge.engines.vllm.effective import captures
from weighbridge.engines.vllm.forward import RankShare
from weighbridge.engines.vllm.rules import rules
from weighbridge.machines.accelerators.budget import budget
from weighbridge.models import catalogue
from weighbridge.models.arch.body import Dense, Experts, LayerBlock, Tower
from weighbridge.models.arch.mixers import Attention, Latent, Mamba2
from weighbridge.workload import Infer

H100 = {"engine": "vllm", "gpu": "H100"}


served = usual(answer, None, engine="vllm")


# Versions


@pytest.mark.slow
def test_the_share_of_the_card():
    """0.90 before 0.20; 81,086 MiB that a process sees on an H100."""
    old, new = (served("llama-3.1-8b", gpu="H100", engine_version=v) for v in ("0.19", "0.33"))
    assert old.settings["gpu_memory_utilization"] == 0.90
    assert new.settings["gpu_memory_utilization"] == 0.92
    assert hardware.total(budget("H100", None, None)) == 81_086 * MIB


@all_of(
    ("version", "sampler", "graphs_inside", "step"),
    [
        ((0, 9), "sort", False, 8),
        ((0, 12), "sort", False, 16),
        ((0, 19), "triton", False, 16),
        ((0, 20), "triton", True, 16),
        ((0, 33), "flashinfer", True, 16),
    ],
)
def test_rules_by_version(version, sampler, graphs_inside, step):
    r = rules(version)
    assert (r.sampler, r.graphs_inside, r.graph_step) == (sampler, graphs_inside, step)


@pytest.mark.slow
def test_qwen3_14b_in_0_15():
    """5.64 GiB of activations, as llm-d-planner's earlier table has it: sorting 1,024 rows."""
    found = served("qwen3-14b", gpu="H100", engine_version="0.15", context=8192)
    assert found.derived["profile_peak_bytes"] / GIB == pytest.approx(5.64, abs=0.01)


def test_counts_of_the_newer_runner_come_off_the_cache():
    """4 bytes a token of the vocabulary and a bit, for 1,024 sequences: outside until 0.27."""
    inside = served("llama-3.1-8b", gpu="H100", engine_version="0.33", context=8192)
    counts = 1024 * 4 * (128_256 + 2 * 4008 + 4481)
    assert part(inside.devices[0].phases[0], "buffers", "requests") > counts
    before = served("llama-3.1-8b", gpu="H100", engine_version="0.19", context=8192)
    assert part(before.devices[0].phases[0], "buffers", "requests") < counts


# Batches


@all_of(
    ("gpu", "version", "tokens", "sequences"),
    [
        (None, "0.33", 2048, 256),
        ("4090", "0.33", 2048, 256),
        ("H100", "0.33", 8192, 1024),
        ("A100 80GB PCIe", "0.33", 2048, 256),
        ("B200", "0.33", 16_384, 1024),
        ("B200", "0.19", 8192, 1024),
    ],
)
def test_batches_by_card(gpu, version, tokens, sequences):
    found = served("llama-3.1-8b", gpu=gpu, engine_version=version).settings
    assert (found["max_num_batched_tokens"], found["max_num_seqs"]) == (tokens, sequences)


def test_a_batch_is_at_most_all_sequences():
    found = served("llama-3.1-8b", gpu="H100", context=4, max_num_seqs=8).settings
    assert found["max_num_batched_tokens"] == 32


def test_more_requests_than_usual_raise_the_sequences():
    found = served("llama-3.1-8b", gpu="4090", batch_size=300, context=128).settings
    assert found["max_num_seqs"] == 300


def test_a_prompt_that_is_read_at_once_fits_a_batch():
    """BERT sees all tokens at once; 0.11 takes exactly a prompt, 0.12 at least the default."""
    found = [
        served("bge-large-en-v1.5", engine_version=v, context=512).settings[
            "max_num_batched_tokens"
        ]
        for v in ("0.11", "0.12")
    ]
    assert found == [512, 2048]
    with pytest.raises(UsageError, match="--max-num-batched-tokens 256"):
        served("bge-large-en-v1.5", context=512, max_num_batched_tokens=256)


@pytest.mark.parametrize(
    ("version", "sequences", "count", "largest"),
    [
        ("0.9", 1, 67, 512),
        ("0.10", 16, 7, 32),
        ("0.10", 1, 3, 4),
        ("0.11", 16, 7, 32),
        ("0.13", 1, 2, 2),
        ("0.19", 1024, 51, 512),
        ("0.19", 8, 5, 16),
    ],
)
def test_sizes_of_graphs(version, sequences, count, largest):
    """51 are in the logs of 0.19; before 0.12 every eighth up to the end, and 1, 2 and 4 always.
    vllm 0.9.2 and 0.10.0 config.py (SchedulerConfig.cuda_graph_sizes)."""
    w = {"engine_version": version, "max_num_seqs": sequences, "context": 8192}
    found = served("llama-3.1-8b", gpu="H100", **w).settings
    assert found["max_cudagraph_capture_size"] == largest
    assert len(sizes(largest, rules(tuple(map(int, version.split(".")))))) == count


def sizes(largest, r):
    return [
        n for n in {1, 2, 4, *range(8, 256, 8), *range(256, 1025, r.graph_step)} if n <= largest
    ]


def test_gpt_oss_asks_for_more_graphs():
    found = served("gpt-oss-20b", gpu="H100", engine_version="0.19", context=8192)
    assert found.settings["max_cudagraph_capture_size"] == 1024
    assert len(sizes(1024, rules((0, 19)))) == 83


@pytest.mark.parametrize(
    ("version", "count", "largest"), [("0.10.1", 83, 1024), ("0.11", 81, 992), ("0.12", 83, 1024)]
)
def test_gpt_oss_has_always_asked_for_them(version, count, largest):
    """The counts stand in vllm/model_executor/models/config.py (GptOssForCausalLMConfig)."""
    r = rules(tuple(map(int, version.split("."))))
    assert len(captures((8192, 16), 1, Infer(), None, r, wide=True)) == count
    assert captures((8192, 16), 1, Infer(), None, r, wide=True)[-1] == largest


def test_eager_has_no_graphs():
    found = served("llama-3.1-8b", gpu="H100", enforce_eager=True)
    assert found.derived["cuda_graph_bytes"] == 0
    assert found.settings["max_cudagraph_capture_size"] == 0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"gpu_memory_utilization": 1.5}, "--gpu-memory-utilization 1.5"),
        ({"gpu_memory_utilization": 0.0}, "--gpu-memory-utilization 0.0"),
        ({"tensor_parallel_size": 4, "decode_context_parallel_size": 3}, "does not divide"),
        ({"tensor_parallel_size": 3}, "--tensor-parallel-size"),
    ],
)
def test_what_vllm_refuses(asked, said):
    with pytest.raises(UsageError, match=said):
        served("llama-3.1-8b", **asked)


@pytest.mark.parametrize("name", ["max_num_seqs", "max_num_batched_tokens", "block_size"])
def test_what_vllm_counts_is_refused_below_one_before_it_is_asked(name):
    flag = "--" + name.replace("_", "-")
    with pytest.raises(UsageError, match=f"{flag} is at least 1, not 0"):
        weighbridge.infer("llama-3.1-8b", offline=True, engine="vllm", **{name: 0})


# Latent attention: buffers of 128 MiB that modules of kernels make when they are imported

KIMI_VL = {
    "architectures": ["KimiVLForConditionalGeneration"],
    "model_type": "kimi_vl",
    "torch_dtype": "bfloat16",
    "vocab_size": 163_840,
    "text_config": {
        "model_type": "deepseek_v3",
        "first_k_dense_replace": 1,
        "hidden_size": 2048,
        "intermediate_size": 11_264,
        "kv_lora_rank": 512,
        "max_position_embeddings": 131_072,
        "moe_intermediate_size": 1408,
        "n_group": 1,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "num_attention_heads": 16,
        "num_experts_per_tok": 6,
        "num_hidden_layers": 27,
        "num_key_value_heads": 16,
        "q_lora_rank": None,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "rope_theta": 800_000.0,
        "tie_word_embeddings": False,
        "topk_group": 1,
        "v_head_dim": 128,
        "vocab_size": 163_840,
    },
    "vision_config": {
        "model_type": "moonvit",
        "hidden_size": 1152,
        "init_pos_emb_height": 64,
        "init_pos_emb_width": 64,
        "intermediate_size": 4304,
        "merge_kernel_size": [2, 2],
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "patch_size": 14,
    },
}


def loaded_gib(found):
    phase = found.devices[0].phases[0]
    names = ("weights", "buffers", "rounding", "workspaces")
    own = (c for c in phase.components if c.name in names and c.detail != "requests")
    return sum(c.bytes.expected for c in own) / GIB


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "gib"), [(1, 30.74), (2, 15.53)])
def test_kimi_vl_as_logged_by_0_19(ranks, gib):
    """llm-d-planner's logs of Kimi-VL-A3B-Instruct. The buffer is whole on each of two ranks."""
    w = {**H100, "engine_version": "0.19", "context": 8192, "tensor_parallel_size": ranks}
    found = answer(of_config(KIMI_VL), **w)
    assert loaded_gib(found) == pytest.approx(gib, abs=0.005)
    assert part(found.devices[0].phases[0], "workspaces", "latent") == 128 * MIB


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "gpu", "mib"),
    [
        ("0.9", "H100", 0),
        ("0.11", "H100", 0),
        ("0.11", "B200", 128),
        ("0.12", "A100 80GB PCIe", 128),
        ("0.24", "B200", 256),
        ("0.25", "H100", 0),
        ("0.33", "B200", 128),
    ],
)
def test_kernels_that_are_tried_by_version(version, gpu, mib):
    found = served("deepseek-v2-lite", gpu=gpu, engine_version=version, context=4096)
    assert part(found.devices[0].phases[0], "workspaces", "latent") == mib * MIB
    plain = served("llama-3.1-8b", gpu=gpu, engine_version=version, context=4096)
    assert part(plain.devices[0].phases[0], "workspaces", "latent") == 0


def test_compiled_code_keeps_rotary_tables_in_the_models_dtype():
    """DeepSeek-V2-Lite: 163,840 rows of 64; in float32 where FlashInfer rotates, without graphs.
    Beside them the scales of 27 layers: 4 numbers each, 7 before 0.28."""
    found = [
        part(
            served("deepseek-v2-lite", engine_version=v, context=512, enforce_eager=e)
            .devices[0]
            .phases[0],
            "buffers",
        )
        - part(
            served("deepseek-v2-lite", engine_version=v, context=512, enforce_eager=e)
            .devices[0]
            .phases[0],
            "buffers",
            "requests",
        )
        for v, e in (("0.33", None), ("0.33", True), ("0.13", True))
    ]
    table = 163_840 * 64
    scales, before = 27 * 4 * 4, 27 * 7 * 4
    assert found == [2 * table + scales, 4 * table + scales, 2 * table + before]


@pytest.mark.parametrize(
    ("name", "asked", "printed"),
    [
        ("qwen3-30b-a3b-thinking-2507", {"context": 6144, "engine_version": "0.10.2"}, 56.9342),
        ("qwen2.5-3b", {"dtype": "float16", "engine_version": "0.10.2"}, 5.7916),
        ("qwen3-32b", {"tensor_parallel_size": 8, "engine_version": "0.10.0"}, 7.6871),
    ],
)
def test_what_is_loaded_is_as_logged_to_a_tenth_of_a_mebibyte(name, asked, printed):
    """Logs of vLLM (Model loading took): kolyangg/mlops-assignment at 4854374d41e3,
    ShanghaoLi0913/memory-aware_RLHF at 6942bb45efe6, DaisukeTakai/eval_dataset at f200e1cdc361."""
    found = served(name, **asked).devices[0].phases[0]
    requests = part(found, "buffers", "requests")
    loaded = sum(part(found, n) for n in ("weights", "buffers", "rounding")) - requests
    assert loaded / GIB == pytest.approx(printed, abs=0.00011)


def test_inputs_as_embeddings_are_kept_by_the_older_runner():
    """8,192 x 4,096 in bfloat16: 0.19's logs peak 64 MiB above what Llama 3.1 8B takes."""
    old, new = (
        part(
            served("llama-3.1-8b", gpu="H100", engine_version=v, context=8192).devices[0].phases[0],
            "buffers",
            "requests",
        )
        for v in ("0.19", "0.33")
    )
    assert 64 * MIB < old < 68 * MIB
    counts = 1024 * 4 * (128_256 + 2 * 4008 + 4481)
    assert counts < new < counts + 4 * MIB


# Logits


@all_of(
    ("kind", "itemsize", "rows", "nbytes"),
    [
        ("sort", 2, 1024, 38),
        ("sort", 2, 127, 50),
        ("sort", 4, 128, 36),
        ("triton", 2, 8, 14),
        ("triton", 2, 7, 50),
        ("flashinfer", 2, 1, 14),
        ("float32", 2, 1024, 6),
        ("own", 2, 1024, 2),
        ("warm", 2, 1024, 14),
    ],
)
def test_bytes_of_a_logit(kind, itemsize, rows, nbytes):
    assert profile.entry(kind, itemsize, rows) == nbytes


def test_float32_has_a_tensor_more():
    """Llama 3.1 8B in 0.19 with 8,192 tokens: 2.21 GiB in its log, 1.89 in bfloat16."""
    wide, usual = (
        served("llama-3.1-8b", gpu="H100", engine_version="0.19", context=8192, dtype=dtype)
        for dtype in ("float32", "bfloat16")
    )
    assert wide.derived["profile_peak_bytes"] / GIB == pytest.approx(2.21, abs=0.01)
    assert usual.derived["profile_peak_bytes"] / GIB == pytest.approx(1.89, abs=0.01)
    copied = [c for c in wide.devices[0].phases[1].components if c.name == "activations"]
    assert copied[0].bytes.expected - copied[0].bytes.low == 1024 * 128_256 * 4
    few = served("llama-3.1-8b", engine_version="0.19", dtype="float32", max_num_seqs=8)
    (step,) = [c for c in few.devices[0].phases[1].components if c.name == "activations"]
    assert step.bytes.high - step.bytes.expected == 14_336 * 2048 * 4


def test_the_buffer_of_top_k():
    """A row a program: as many as sequences to a power of two, and no more than processors."""
    assert profile.buffer("triton", 1024, 1000, 132) == 132 * 4000
    assert profile.buffer("triton", 100, 1000, 132) == 128 * 4000
    assert profile.buffer("triton", 7, 1000, 132) == profile.buffer("sort", 99, 1000, 132) == 0


# Steps


HEAD = Attention(heads=8, kv_heads=2, key_dim=16, value_dim=16)


ALONE = RankShare()


def step(*feeds, mixer=HEAD, hidden=64, share=ALONE, eager=False):
    return forward.step((LayerBlock(mixers=(mixer,), feeds=feeds),), hidden, share, eager=eager)


def test_the_widest_moment():
    """128 from attention, the residual twice, gate and up and their product; with eager layers their
    input in the place of what attention gave."""
    assert step(Dense(width=1000)).widest == 128 + 2 * 64 + 3 * 1000
    assert step(Dense(width=1000, gated=False)).widest == 128 + 2 * 64 + 2 * 1000
    assert step(Dense(width=1000), eager=True).widest == 64 + 2 * 64 + 3 * 1000
    assert step(Dense(width=1000), share=RankShare(tensor=4)).widest == 32 + 2 * 64 + 3 * 250


def test_projections_are_wider_than_a_narrow_feed_forward():
    """Queries, keys, values; queries and keys again, rotated."""
    assert step(Dense(width=8)).widest == 128 + 3 * 64 + (128 + 32 + 32) + (128 + 32)


def test_the_workspace_of_experts():
    """Qwen3-30B-A3B: 8 experts of 768, 2,048 wide: two times 2,048 a row."""
    experts = Experts(count=128, top_k=8, width=768)
    assert step(experts, hidden=2048).workspace == 8 * (2048 + 2048)
    split = RankShare(tensor=2, expert_width=2)
    wide = Experts(count=8, top_k=2, width=14_336)  # Mixtral
    assert step(wide, hidden=4096, share=split).workspace == 2 * (7168 + 14_336)


def test_latents_try_how_much_context_fits():
    latent = Latent(heads=16, rank=512, rotary=64, nope=128, value_dim=128)
    blocks = (LayerBlock(mixers=(latent,)),)
    one, two = (forward.widths(blocks, 64, RankShare(tensor=n), eager=False) for n in (1, 2))
    assert (one.expanded, two.expanded) == (16 * 256, 8 * 256)
    assert (one.latent, two.latent) == (576, 576)
    assert forward.widths((LayerBlock(mixers=(HEAD,)),), 64, ALONE, eager=False).expanded == 0
    assert forward.expanded_rows(8192, 1024) == 65_536
    assert forward.expanded_rows(1024, 4) == 8192


TOWER = Tower(
    kind="image",
    hidden=8,
    heads=2,
    head_dim=4,
    layers=1,
    feed=Dense(width=32, gated=False),
    positions=100,
    tokens=25,
    patch=12,
)


def test_as_many_images_as_fit_a_batch():
    found = profile.encoded((TOWER,), 64, tokens=250, context=1000, sequences=4, share=RankShare())
    assert found.held == 10 * (100 * 12 + 25 * 64)
    assert found.widest == 10 * 100 * (3 * 8 + 2 * 32)  # the caller holds the layer's input, too
    assert profile.item_count(TOWER, tokens=10, context=10, sequences=1) == 1
    assert profile.item_count(TOWER, tokens=10_000, context=50, sequences=2) == 4
    assert profile.encoded((), 64, tokens=1, context=1, sequences=1, share=RankShare()).held == 0


def test_graphs_by_kernels():
    dense = LayerBlock(mixers=(HEAD,))
    mixed = LayerBlock(mixers=(HEAD,), feeds=(Experts(count=1, top_k=1, width=1),))
    assert graphs.kernels((dense, mixed)) == 11 + 16
    assert graphs.graphs((1, 2, 4, 8), 4, 1, full=True) == 4 + 3
    assert graphs.graphs((1, 2, 4, 8), 4, 1, full=False) == 4
    one = graphs.GraphKind()
    none = graphs.CapturedGraphs(graphs.NONE, graphs.NONE)
    assert graphs.estimate((dense,), (0, 0), graphs.GraphPool(999), one) == none
    found = graphs.estimate((dense,), (5, 0), graphs.GraphPool(MIB, 100 * MIB), one)
    assert found.taken == Bytes(
        *((first + 1 + 100) * MIB + 5 * 11 * k * KIB for first, k in LOGGED_DENSE)
    )
    assert found.charged.low == 100 * MIB + 3 * 11 * 9 * KIB  # splits are more than the pool
    assert found.charged.high == 181 * MIB + 3 * 11 * 17 * KIB
    both = graphs.estimate((dense,), (5, 5), graphs.GraphPool(MIB), one)
    assert both.taken.low == 65 * MIB + 5 * (11 + 19) * 9 * KIB
    held = graphs.estimate(
        (dense,), (5, 0), graphs.GraphPool(MIB, matrices=Bytes(0, 0, 7 * MIB)), one
    )
    assert held.taken.high - held.taken.expected == (50 + 7) * MIB + 5 * 11 * 3 * KIB


LOGGED_DENSE = ((64, 9), (130, 14), (180, 17))  # MiB of the first capture, KiB of a kernel


def test_graphs_of_experts_and_of_many_ranks():
    """Layers with experts have bytes of their own; with eight ranks before 0.12 a layer took more."""
    mixed = LayerBlock(mixers=(HEAD,), feeds=(Experts(count=1, top_k=1, width=1),))
    common = LayerBlock(mixers=(HEAD,), feeds=(Experts(count=1, top_k=1, width=1, shared=1),))
    assert graphs.kernels((common,)) == 20
    own, less = (
        graphs.estimate((mixed,), (5, 0), graphs.GraphPool(), graphs.GraphKind(sparse=s)).taken
        for s in (graphs.SPARSE, graphs.SPARSE_LESS)
    )
    assert own.expected - less.expected == 5 * 16 * 8 * KIB
    assert own.high == less.high
    assert less.low == 64 * MIB + 5 * 16 * 3 * KIB
    four, eight, fused = (
        graphs.estimate(
            (mixed,), (5, 0), graphs.GraphPool(), graphs.GraphKind(ranks=n, fused=f)
        ).taken
        for n, f in ((4, False), (8, False), (8, True))
    )
    assert four == own
    assert eight.expected - own.expected == 5 * 104 * KIB
    assert (fused.expected, fused.high) == (own.expected, eight.high)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "w", "gib"),
    [
        ("qwen2.5-3b", {"engine_version": "0.10.2", "max_num_seqs": 1, "gpu": "4090"}, 0.14),
        ("llama-3.1-8b", {"engine_version": "0.17.1", "gpu": "a100-sxm4-80gb"}, 0.50),
        ("qwen2.5-3b", {"engine_version": "0.17.1", "gpu": "a100-sxm4-80gb"}, 0.51),
        ("qwen3-30b-a3b", {"engine_version": "0.10.2", "gpu": "h100"}, 0.69),
        (
            "qwen3-32b",
            {"engine_version": "0.10.0", "gpu": "h100:8", "tensor_parallel_size": 8},
            1.17,
        ),
        ("qwen3-vl-30b-a3b", {"engine_version": "0.13.0", "gpu": "h100-nvl"}, 0.66),
    ],
)
def test_graphs_that_were_logged(name, w, gib):
    """Logs that the constants were not read in are inside of the interval."""
    found = served(name, context=4096, engine_defaults=True, **w)
    low, _, high = next(
        c.bytes
        for phase in found.devices[0].phases
        for c in phase.components
        if c.name == "cuda_graphs"
    )
    assert low <= gib * GIB <= high


@pytest.mark.slow
def test_awq_unpacks_a_layer_into_the_pool_of_graphs():
    """Qwen2.5-14B, --quantization awq, A5000, 0.13: 1.18 GiB. Turing has no other kernel, and since
    0.24 the flag does not choose one."""
    quantized = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"}
    model = of_config({**catalogue.find("qwen2.5-14b").config, "quantization_config": quantized})
    packed = {"engine_version": "0.13.0", "dtype": "float16", "context": 8192, "max_num_seqs": 256}

    def on(gpu, said=None, **more):
        return served(model, gpu=gpu, quantization=said, **packed | more)

    ampere, plain, turing = on("a5000"), on("a5000", "awq"), on("rtx-8000")
    small = on("rtx-8000", max_num_seqs=64)
    matrices = 3 * 5120 * 13824 * 2

    def graphs_of(answer):
        phases = answer.devices[0].phases
        return next(c.bytes for c in phases[1].components if c.name == "cuda_graphs")

    assert graphs_of(plain).expected == pytest.approx(1.18 * GIB, rel=0.01)
    assert graphs_of(plain).expected - graphs_of(ampere).expected == matrices
    assert graphs_of(plain).high - graphs_of(ampere).high == matrices
    assert graphs_of(on("a5000", "awq_marlin")) == graphs_of(ampere)
    newer = {"engine_version": "0.24"}
    assert graphs_of(on("a5000", "awq", **newer)) == graphs_of(on("a5000", **newer))
    assert graphs_of(turing).expected - graphs_of(ampere).expected == matrices
    assert graphs_of(small).high < matrices + 180 * MIB


@all_of(
    ("mixer", "ranks", "mib"),
    [
        (Attention(heads=32, kv_heads=8, key_dim=128, value_dim=128), 1, 256),
        (Attention(heads=32, kv_heads=8, key_dim=128, value_dim=128), 4, 64),
        (Latent(heads=16, rank=512, rotary=64, nope=128, value_dim=128), 1, 512),
        (Latent(heads=16, rank=512, rotary=64, nope=128, value_dim=128), 2, 256),
        (Mamba2(inner=64, heads=8, groups=1, state=16, kernel=4), 1, 0),
    ],
)
def test_splits_of_attention(mixer, ranks, mib):
    """The first whole graph in logs of 0.19, of 512 tokens: 260 MiB with Llama 3.1 8B, 70 on one of
    four ranks, 522 with DeepSeek-V2-Lite, 264 with Kimi-VL-A3B on one of two."""
    assert graphs.splits((LayerBlock(mixers=(mixer,)),), 512, ranks) == mib * MIB


def test_only_hopper_splits_attention():
    """Nor where Triton attends, as in Gemma 3 with its tower."""
    hopper, ampere = (
        served("llama-3.1-8b", gpu=g, max_num_seqs=256, max_num_batched_tokens=2048).derived
        for g in ("H100", "A100 80GB PCIe")
    )
    assert hopper["cuda_graph_bytes"] - ampere["cuda_graph_bytes"] == 32 * 256 * 4096 * 4


# Needed, and taken


def test_needed_is_the_sum_of_its_parts():
    found = served("llama-3.1-8b", gpu="H100", context=8192, batch_size=4)
    device = found.devices[0]
    prefill = next(p for p in device.phases if p.name == "prefill")
    assert part(prefill, "kv_cache") == (4 * 512 + 1) * 2 * MIB
    assert part(prefill, "weights") == 16_060_522_496
    assert found.derived["kv_cache_bytes_per_token"] == 131_072
    assert device.peak("driver").expected == prefill.at("driver").expected


@pytest.mark.slow
def test_no_more_is_taken_than_a_process_can_have():
    """0.11 does not charge graphs to its share: 0.95 of 24 GiB, and 1.3 to 2.9 GiB beside it, are
    more than the card has, and it may die while they are captured."""
    tight = weighbridge.infer(
        "qwen3-32b",
        engine="vllm",
        engine_version="0.11.0",
        quantization="awq-4bit-g128",
        tensor_parallel_size=2,
        gpu="4090:2",
        context=32768,
        gpu_memory_utilization=0.95,
    )
    assert tight.verdict is not None
    assert tight.verdict.fits == "unknown"
    assert "may not start" in tight.verdict.reason
    assert tight.devices[0].taken == tight.verdict.usable.high


def test_taken_is_the_share_and_what_is_outside():
    """Whatever is asked: 0.92 of the card, the context, kernels that are loaded later, and graphs
    beyond what is charged for them."""
    small, large = (served("llama-3.1-8b", gpu="H100", context=8192, batch_size=n) for n in (1, 16))
    assert small.devices[0].taken == large.devices[0].taken
    share = math.ceil(0.92 * 81_086 * MIB)
    facts = small.derived
    more = facts["cuda_graph_bytes"] - facts["cuda_graph_estimate_bytes"]
    assert 0 < more < 200 * MIB
    assert small.devices[0].taken == share + (522 + 448) * MIB + more
    assert served("llama-3.1-8b", context=8192).devices[0].taken is None


def test_the_cache_has_what_is_left():
    """Bytes, blocks of 2 MiB and tokens agree, and twice the requests are half as often there."""
    found = served("llama-3.1-8b", gpu="H100", context=8192).derived
    assert found["num_gpu_blocks"] == found["available_kv_cache_bytes"] // (2 * MIB)
    assert found["kv_cache_tokens"] == 16 * found["num_gpu_blocks"]
    assert found["max_concurrency"] == pytest.approx(found["kv_cache_tokens"] / 8192, abs=0.01)


def test_bytes_of_the_cache_as_given():
    w = {"gpu": "H100", "context": 8192, "kv_cache_memory_bytes": 8 * GIB}
    found = served("llama-3.1-8b", **w)
    assert found.derived["available_kv_cache_bytes"] == 8 * GIB
    assert found.derived["kv_cache_tokens"] == 65_536
    usual = served("llama-3.1-8b", gpu="H100", context=8192)
    assert found.devices[0].taken < usual.devices[0].taken


@pytest.mark.slow
def test_requests_that_wait_are_told_with_the_share_that_has_no_room_for_them():
    """The launch line beside that asks for a larger share, in which there is room for all."""
    for given, key in (({}, "not_at_once.share"), ({"kv_cache_memory_bytes": GIB}, "not_at_once")):
        found = served("qwen3-8b", gpu="4090", context=4096, batch_size=10, **given)
        told = {key for line in found.warnings for key in keys_of(line)}
        assert {one for one in told if one.startswith("not_at_once")} == {key}
    found = served("qwen3-8b", gpu="4090", context=4096, batch_size=10)
    assert any(
        "with --gpu-memory-utilization 0.92: there is room for 8." in w for w in found.warnings
    )


@pytest.mark.slow
def test_blocks_as_given():
    """100 blocks of 2 MiB and the tokens in them, whatever the card has; no more than it has."""
    w = {"gpu": "H100", "context": 1024, "num_gpu_blocks_override": 100}
    found = served("llama-3.1-8b", **w)
    assert found.derived["num_gpu_blocks"] == 100
    assert found.derived["kv_cache_tokens"] == 1600
    assert found.derived["serves_as_asked"]
    assert "--num-gpu-blocks-override 100" in found.derived["launch"]
    usual = served("llama-3.1-8b", gpu="H100", context=1024)
    spared = usual.derived["available_kv_cache_bytes"] - 200 * MIB
    assert usual.devices[0].taken - found.devices[0].taken == pytest.approx(spared, abs=MIB)
    many = served("llama-3.1-8b", **(w | {"num_gpu_blocks_override": 10**6}))
    assert not many.derived["serves_as_asked"]


@pytest.mark.slow
def test_towers_may_be_left_out():
    """Gemma 3 4B: 416,866,032 parameters of its tower, 2,950,272 of the projector."""
    raw = {**catalogue.find("gemma-3-4b").config, "_name_or_path": "org/gemma"}
    whole, text = (
        answer(of_config(raw), **H100, context=4096, language_model_only=only)
        for only in (False, True)
    )
    weights = [part(a.devices[0].phases[0], "weights") for a in (whole, text)]
    assert weights[0] - weights[1] == 2 * (416_866_032 + 2_950_272)
    assert text.derived["profile_peak_bytes"] < whole.derived["profile_peak_bytes"]
    assert "--language-model-only" in text.derived["launch"]


def test_one_request_too_long_is_said():
    found = served("llama-3.1-8b", gpu="4090", context=131_072)
    assert any("will not start" in said for said in found.warnings)
    assert found.derived["max_concurrency"] < 1


def test_requests_that_wait_are_said():
    found = served("llama-3.1-8b", gpu="4090", context=16_384, batch_size=8)
    assert any("do not run at once" in said for said in found.warnings)


def test_a_share_that_is_not_free_is_said():
    found = served("llama-3.1-8b", gpu="H100", gpu_memory_utilization=1.0)
    assert any("vLLM refuses" in said for said in found.warnings)
    assert not served("llama-3.1-8b", gpu="H100").warnings


def test_the_launch_line_asks_for_what_is_needed():
    """A share that the default does not give; and nothing that the default does."""
    plain = served("llama-3.1-8b", gpu="H100", context=8192).derived["launch"]
    assert plain.startswith("vllm serve ")
    assert plain.endswith(" --max-model-len 8192")
    tight = served("llama-3.1-8b", gpu="4090", context=22_500, batch_size=2)
    share = float(tight.derived["launch"].split("--gpu-memory-utilization ")[1].split()[0])
    assert 0.92 < share == tight.derived["gpu_memory_utilization_needed"] <= 1
    again = served(
        "llama-3.1-8b",
        gpu="4090",
        context=22_500,
        batch_size=2,
        gpu_memory_utilization=share,
    )
    assert again.derived["max_concurrency"] >= 2


def test_a_shared_prefix_is_stored_once():
    """Three of four requests spare 128 blocks of 2 MiB each."""
    w = {"context": 4096, "batch_size": 4}
    apart, joined = (
        served("llama-3.1-8b", **w, shared_prefix=n).devices[0].peak("driver").expected
        for n in (None, 2048)
    )
    assert apart - joined == 3 * 128 * 2 * MIB
    without = served("llama-3.1-8b", **w, shared_prefix=2048, enable_prefix_caching=False)
    assert without.devices[0].peak("driver").expected == apart


# Several devices


@pytest.mark.slow
def test_ranks_share_weights_and_heads():
    one = served("llama-3.1-70b", gpu="H100", context=8192)
    four = served("llama-3.1-70b", gpu="4x H100", tensor_parallel_size=4, context=8192)
    gpus = [d for d in four.devices if d.kind == "gpu"]
    assert [d.index for d in gpus] == [0, 1, 2, 3]
    weights = [part(d.phases[0], "weights") for d in gpus]
    assert sum(weights) == pytest.approx(part(one.devices[0].phases[0], "weights"), rel=0.001)
    assert all(part(d.phases[0], "communication") > GIB for d in gpus)
    assert four.derived["kv_cache_bytes_per_token"] == one.derived["kv_cache_bytes_per_token"]


def test_replicas_have_a_cache_each():
    one, two = (
        served("llama-3.1-8b", gpu="2x H100", data_parallel_size=n, context=8192) for n in (1, 2)
    )
    assert len([d for d in two.devices if d.kind == "gpu"]) == 2
    assert two.derived["kv_cache_tokens"] == pytest.approx(
        2 * one.derived["kv_cache_tokens"], rel=0.02
    )


def test_only_the_last_stage_makes_logits():
    found = served("llama-3.1-70b", gpu="2x H100", pipeline_parallel_size=2, context=8192)
    first, last = (d.phases[1] for d in found.devices if d.kind == "gpu")
    assert part(first, "logits") == 0
    assert part(last, "logits") == 14 * 1024 * 128_256


def usual_need(host):
    """What processes take beside weights that are offloaded."""
    return [c.bytes for c in host.phases[0].components if c.name == "other"]


def test_the_host_is_last_and_holds_what_is_offloaded():
    found = served("llama-3.1-8b", cpu_offload_gb=4)
    host = found.devices[-1]
    assert host.kind == "host"
    assert host.phases[0].needed.low >= 4 * GIB
    assert usual_need(host) == usual_need(served("llama-3.1-8b").devices[-1])
    usual = served("llama-3.1-8b")
    spared = part(usual.devices[0].phases[0], "weights") - part(
        found.devices[0].phases[0], "weights"
    )
    # a layer: 48 MiB of queries, keys and values, 32 of the output, 224 and 112 of the MLP, two
    # norms; the parameter that passes 4 GiB is the last, in a layer's order of the class
    layer = [224, 112, 48, 32]
    assert 4 * GIB <= spared < 4 * GIB + max(layer) * MIB
    away = host.phases[0].components[0].bytes
    assert away.low == spared
    # a whole layer of 416 MiB is in blocks of 64, 32, 256 and 128
    assert away.expected / spared == pytest.approx(480 / 416, rel=0.02)
    assert host.phases[-1].name == "decode" and host.phases[-1].components[0].bytes == away


# Kinds of models


def test_an_encoder_remembers_nothing():
    found = served("bge-large-en-v1.5", gpu="L4", context=512)
    names = {c.name for p in found.devices[0].phases for c in p.components}
    assert [p.name for p in found.devices[0].phases] == ["load", "prefill"]
    assert "kv_cache" not in names
    assert "kv_cache_tokens" not in found.derived


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert-base-uncased", "modernbert-base", "nomic-embed-text-v1.5"])
@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_encoders_do_not_decode_whatever_head_they_have(kind, name):
    """BERT's own class predicts masked words: it makes logits of no next token."""
    found = answer(name, engine=kind, gpu="L4", context=512)
    assert [p.name for p in found.devices[0].phases] == ["load", "prefill"]


@all_of(
    ("kind", "name"),
    product(
        ["vllm", "sglang", "llama.cpp"], ["resnet-50", "vit-base-patch16-224", "wav2vec2-base"]
    ),
)
def test_what_reads_no_text_is_not_served(kind, name):
    with pytest.raises(UnsupportedError, match=f"reads no text, and {kind}") as said:
        answer(name, engine=kind)
    assert "--engine transformers" in str(said.value)
    assert "\n" not in str(said.value)


def test_clip_reads_text():
    assert answer("clip-vit-base-patch32", engine="vllm").devices


@pytest.mark.slow
def test_states_take_two_blocks_where_prefixes_are_kept():
    """Since 0.26, for hybrids: one for the request, one for what the next may start from."""
    old, new = (
        part(served("qwen3-next-80b-a3b", engine_version=v, context=4096).devices[0].phases[1], n)
        for v, n in (("0.25", "kv_cache"), ("0.33", "kv_cache"))
    )
    assert new > old


def test_a_mamba_layer_has_its_projections():
    mamba = Mamba2(inner=64, heads=8, groups=1, state=16, kernel=4)
    assert step(mixer=mamba, hidden=32).widest == 64 + 3 * 32 + 64 + 2 * 96


def test_adapters_are_on_the_card():
    found = served("llama-3.1-8b", max_loras=2, max_lora_rank=16)
    plain = served("llama-3.1-8b")
    assert part(found.devices[0].phases[0], "adapters") > 0
    assert found.devices[0].peak("driver").expected > plain.devices[0].peak("driver").expected
    assert "--enable-lora" in found.derived["launch"]


def test_layers_that_predict_have_caches_of_their_own():
    """DeepSeek-V3: a 62nd layer of 1,152 bytes a token, and one slot more."""
    w = {"tensor_parallel_size": 8, "context": 4096}
    plain = served("deepseek-v3", **w)
    drafted = served("deepseek-v3", speculative_method="mtp", num_speculative_tokens=1, **w)
    assert drafted.derived["kv_cache_bytes_per_token"] == 8 * 62 * 1152
    assert plain.derived["kv_cache_bytes_per_token"] == 8 * 61 * 1152


def test_images_are_profiled():
    """Gemma 3: 32 images of 256 tokens and 4,096 positions in 8,192 tokens."""
    raw = catalogue.find("gemma-3-4b").config
    if "vision_config" not in raw:
        pytest.skip("the catalogue has the text model alone")
    found = answer(of_config(raw), **H100, context=8192, engine_version="0.19")
    assert found.derived["profile_peak_bytes"] > 3.85 * GIB


@pytest.mark.parametrize(
    ("version", "images", "told"),
    [("0.26", 0, False), ("0.26", 1, True), ("0.26", 2, True), ("0.27", 1, False)],
)
def test_images_that_the_newer_runner_does_not_profile(version, images, told):
    """Until 0.27 its profile_run sees text alone; one image is encoded as well as two."""
    found = served("qwen2.5-vl-7b", gpu="H100", engine_version=version, context=8192, images=images)
    parts = [c for p in found.devices[0].phases for c in p.components if "not profile" in c.detail]
    assert bool(parts) == told
    assert all(c.bytes.expected > 100 * MIB for c in parts)


@pytest.mark.parametrize(
    ("name", "version", "mib"),
    [
        ("qwen2.5-3b", "0.10.2", 36.6),
        ("qwen2.5-3b", "0.17.1", 35.0),
        ("qwen2.5-1.5b", "0.9.2", 4.5),
        ("qwen2.5-7b", "0.19.1", 58.4),
        ("qwen2.5-1.5b", "0.20", 3.4),
        ("qwen2.5-1.5b", "0.21", 94.4),
        ("qwen2.5-7b", "0.33", 98.8),
    ],
)
def test_what_loading_takes_is_the_weights_and_their_rounding(name, version, mib):
    """The first four are what logs print above the bare sum of the tensors. Since 0.21 no segment
    of 20 MiB and more is split while it loads, and its remainders count."""
    found = served(name, engine_version=version, context=4096)
    load = found.devices[0].phases[0].components
    parts = {c.name: c.bytes.expected for c in load if not c.detail}
    assert parts["rounding"] / MIB == pytest.approx(mib, abs=1.7)
    whole = parts["weights"] + parts["buffers"] + parts["rounding"]
    assert found.derived["model_loading_bytes"] == whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "w", "tokens"),
    [
        ("gemma-4-26b-a4b", {"gpu": "4090", "engine_version": "0.21"}, 2048),
        ("gemma-4-26b-a4b", {"gpu": "4090", "engine_version": "0.22"}, 2496),
        ("gemma-4-26b-a4b", {"gpu": "4090", "max_num_batched_tokens": 2048}, 2048),
        ("gemma-4-26b-a4b", {"gpu": "4090", "language_model_only": True}, 2048),
        ("gemma-4-26b-a4b", {"gpu": "H100"}, 8192),
        ("gemma-3-4b", {"gpu": "4090"}, 2048),
    ],
)
def test_a_batch_has_room_for_a_whole_video(name, w, tokens):
    """Where its tokens see each other: 32 frames of 78 tokens of Gemma 4."""
    assert served(name, context=8192, **w).settings["max_num_batched_tokens"] == tokens


def test_the_largest_image_is_profiled():
    """Qwen3-VL-30B, 0.13, H100 NVL: 16,384 tokens of one image, with three levels of deepstack;
    19.40 GiB were left for the cache, 19.91 by what an image of a megapixel takes."""
    found = served(
        "qwen3-vl-30b-a3b",
        engine_version="0.13.0",
        gpu="h100-nvl",
        context=8192,
        max_num_batched_tokens=8192,
        gpu_memory_utilization=0.9,
    )
    left = found.derived["available_kv_cache_bytes"] / GIB
    assert left == pytest.approx(19.40, rel=0.006)
    assert served("gemma-3-4b").derived == served("gemma-3-4b", image_size=(4000, 4000)).derived


def test_marlin_multiplies_gpt_oss_on_hopper_in_0_10_1():
    """vLLM 0.10.1 read 65.97 GiB on an H100: Marlin's layout, since torch 2.7 lacks what Triton's
    kernels ask for; 0.10.2 has torch 2.8."""
    held = {
        number: load_gib(
            answer("gpt-oss-120b", engine="vllm", context=512, gpu="h100", engine_version=number)
        )
        for number in ("0.10.1", "0.10.2")
    }
    assert held["0.10.1"] == pytest.approx(65.97, rel=0.006)
    assert held["0.10.2"] < held["0.10.1"] - 1


@pytest.mark.parametrize(
    ("version", "context", "tokens", "room"),
    [
        ("0.6.4", 20_000, 20_000, 33_872),  # 31,232 in vllm-project/vllm issue 10517
        ("0.6.4", 29_000, 29_000, 26_272),  # refused there
        ("0.6.4", 32_768, 32_768, None),
        ("0.6.4", 32_769, 512, None),
        ("0.6.4", 35_000, 512, 41_216),  # runs there
        ("0.7.3", 35_000, 2048, 41_120),
        ("0.6.4", 1000, 2048, None),
        ("0.8.5", 20_000, 2048, 41_120),
        ("0.9", 20_000, 2048, 41_120),
    ],
)
def test_the_first_engine_reads_whole_prompts(version, context, tokens, room):
    """Llama 3.1 8B on an RTX 3090: its profile is of the whole prompt, up to 32,768 tokens."""
    w = {"engine_version": version, "context": context, "gpu": "3090", "engine_defaults": True}
    found = served("llama-3.1-8b", **w)
    assert found.settings["max_num_batched_tokens"] == tokens
    whole = any("reads prompts of up to 32,768 tokens at once" in s for s in found.warnings)
    assert whole is (version == "0.6.4" and context < 32_769)
    if room is not None:
        assert found.derived["kv_cache_tokens"] == room
        assert (room < context) is (not found.derived["serves_as_asked"])


def test_pieces_of_the_first_engine_are_for_text_alone():
    """Not with images, adapters or windows, however long the context is."""
    long = {"engine_version": "0.6.4", "context": 40_000}
    for name, w in (("llama-3.1-8b", {"max_loras": 1, "max_lora_rank": 16}), ("gemma-3-4b", {})):
        assert served(name, **long, **w).settings["max_num_batched_tokens"] == 40_000
    assert served("llama-3.1-8b", **long).settings["max_num_batched_tokens"] == 512


def test_graphs_that_nobody_counted_may_run_out():
    """Experts on four A10, 0.8.5: out of memory while capturing, and --enforce-eager starts. The
    share leaves less than what may be outside of it, which releases that count graphs do not."""
    asked = {"gpu": "a10:4", "tensor_parallel_size": 4, "context": 8192, "engine_defaults": True}

    def said(**w):
        found = served("qwen3-30b-a3b", **asked, **w)
        return found.serves.surely, any(
            "vLLM may not start: its share" in s for s in found.warnings
        )

    assert said(engine_version="0.8.5") == ("unknown", True)
    assert said(engine_version="0.8.5", enforce_eager=True) == ("yes", False)
    assert said(engine_version="0.33") == ("yes", False)


@all_of(
    ("version", "gpu"),
    product(("0.22.0", "0.24.0", "0.26.0", "0.28.0"), ("3090", "4090", "a10", "l4")),
)
def test_a_plain_line_starts_on_a_card_of_24_gb(version, gpu):
    """Its graphs are outside the share, whose default leaves 1.8 to 1.9 GiB."""
    asked = {"engine_version": version, "gpu": gpu, "engine_defaults": True, "context": 8192}
    assert served("qwen3-4b", **asked).serves.surely == "yes"
    raised = served("qwen3-4b", **asked, gpu_memory_utilization=0.94)
    assert raised.serves.surely == "unknown"  # of a share that is not its own nothing is known
    two = served("qwen3-4b", **{**asked, "gpu": f"{gpu}:2"}, tensor_parallel_size=2)
    assert two.serves.surely == "unknown"


def test_experts_are_not_shared_out_where_there_are_none():
    """ "Number of experts in the model must be greater than 0 when expert parallelism is enabled":
    vLLM does not start."""
    asked = {"engine": "vllm", "gpu": "h100:2", "enable_expert_parallel": True}
    with pytest.raises(UsageError, match="--enable-expert-parallel: the model has no experts"):
        answer("llama-3.1-8b", **asked)
    assert answer("qwen3-30b-a3b", **asked).settings["enable_expert_parallel"]


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_encoder_with_more_layers_than_its_decoder_is_loaded_whole(ranks):
    """whisper-large-v3-turbo: 809 M numbers in float16, of which 32 layers encode and 4 decode; on
    two ranks its matrices are halved, its tables of positions are not."""
    w = {"engine": "vllm", "gpu": f"4090:{ranks}", "tensor_parallel_size": ranks}
    found = answer("whisper-large-v3-turbo", **w).devices[0].phases[0]
    whole = 808_878_080 * 2
    assert part(found, "weights") == pytest.approx(whole / ranks, rel=0.015)


@pytest.mark.parametrize(
    ("card", "release", "told"),
    [("v100-32gb", "0.33", True), ("v100-32gb", "0.20", False), ("t4", "0.33", False)],
)
def test_a_card_that_no_wheel_is_built_for_is_told(card, release, told):
    report = weighbridge.infer("qwen3-0.6b", engine="vllm", engine_version=release, gpu=card)
    assert any("are for compute capability 7.5" in line for line in report.warnings) is told
