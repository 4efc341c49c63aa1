"""What hf-mem gets wrong: keys of configs, headers of safetensors, experts, GGUF files."""

import json

import pytest

import weighbridge
from tests import packings
from tests.cases import all_of
from tests.formats.build_gguf import Writer
from tests.packings import GPT_OSS, GPT_OSS_EXPERT, GPT_OSS_PARAMETERS, PACKINGS, PARAMETERS
from tests.peers.conftest import LLAMA_2_7B, TINY, held, listed, parameters, repo, rows, size_of
from tests.sparse import write_safetensors
from weighbridge.base.dtypes import GGML, GGML_BY_NAME
from weighbridge.models import catalogue


# hf-mem 0.5.6: configs
@pytest.mark.parametrize(
    "key", ["head_dim", "num_key_value_heads", "tie_word_embeddings", "rope_scaling"]
)
def test_a_null_in_a_config_is_the_default(key):
    written, absent = TINY | {key: None}, {k: v for k, v in TINY.items() if k != key}
    expected = parameters(absent if key != "tie_word_embeddings" else TINY)
    assert parameters(written) == expected


def test_null_head_dim_and_null_kv_heads_by_hand():
    config = LLAMA_2_7B | {"head_dim": None, "num_key_value_heads": None}
    assert parameters(config) == 6_738_415_616


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (  # n_embd, n_layer, n_positions; tied
            {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257},
            124_439_808,
        ),
        (  # multi_query: one head of keys and values; tied
            {
                "model_type": "falcon",
                "architectures": ["FalconForCausalLM"],
                "hidden_size": 4544,
                "num_hidden_layers": 32,
                "num_attention_heads": 71,
                "multi_query": True,
                "parallel_attn": True,
                "new_decoder_architecture": False,
                "bias": False,
                "vocab_size": 65024,
            },
            6_921_720_704,
        ),
        (  # d_model, d_kv, d_ff, num_heads
            {
                "model_type": "t5",
                "architectures": ["T5ForConditionalGeneration"],
                "d_model": 512,
                "d_kv": 64,
                "d_ff": 2048,
                "num_heads": 8,
                "num_layers": 6,
                "vocab_size": 32128,
            },
            60_506_624,
        ),
    ],
    ids=["gpt2", "falcon-7b", "t5-small"],
)
def test_other_names_of_the_same_keys(config, expected):
    assert parameters(config) == expected


def test_num_kv_heads_and_n_head_kv_are_read_where_the_family_says_so():
    # Falcon-40B: 8 groups, whose key and value projections are part of query_key_value
    config = catalogue.find("falcon-40b").config
    assert parameters("falcon-40b") == 41_303_293_952
    fewer = next(k for k in ("num_kv_heads", "n_head_kv") if k in config)
    narrow = parameters({**config, fewer: 4})
    assert 41_303_293_952 - narrow == 60 * 2 * 4 * 64 * 8192


# hf-mem 0.5.6: safetensors
ODD = {
    "BOOL": (8, 8),
    "F4": (8, 4),
    "F6_E2M3": (8, 6),
    "F6_E3M2": (8, 6),
    "F8_E8M0": (8, 8),
    "F8_E4M3": (8, 8),
    "F8_E4M3FNUZ": (8, 8),
    "F8_E5M2": (8, 8),
    "F8_E5M2FNUZ": (8, 8),
    "C64": (8, 64),
    "U16": (8, 16),
    "U32": (8, 32),
    "U64": (8, 64),
    "F64": (8, 64),
}


@pytest.mark.parametrize("dtype", ODD)
def test_every_dtype_of_the_format_is_read(tmp_path, dtype):
    tensors = packings.plain() | {"model.odd.weight": (dtype, (16, 8))}
    report = weighbridge.load(repo(tmp_path, tensors))
    bits = ODD[dtype][1]
    assert report.model.stored_bytes == size_of(packings.plain()) + 16 * 8 * bits // 8
    assert report.model.parameters == PARAMETERS  # the class loads no such tensor
    assert report.derived["unloaded_bytes"] == 16 * bits


def header_of(path, size):
    """A file whose JSON header has exactly `size` bytes."""
    write_safetensors(path, packings.plain())
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header["__metadata__"]["note"] = ""
    bare = len(json.dumps(header, separators=(",", ":")))
    header["__metadata__"]["note"] = "x" * (size - bare)
    text = json.dumps(header, separators=(",", ":")).encode()
    assert len(text) == size
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + size + size_of(packings.plain()))


@pytest.mark.slow
@pytest.mark.parametrize("size", range(99_990, 100_011))
def test_headers_around_the_first_read(hub, size):
    folder = hub.root / "headers" / str(size)
    repo(folder, {"unused": ("F32", (1,))})
    header_of(folder / "model.safetensors", size)
    report = weighbridge.load(f"headers/{size}")
    assert report.model.parameters == PARAMETERS
    assert sum(r.sent for r in hub.asked("/cdn/")) <= 1.5 * size
    assert len(hub.asked("/cdn/")) <= 2


@pytest.mark.parametrize("packing", PACKINGS)
def test_the_true_count_of_a_packed_checkpoint(tmp_path, packing):
    tensors = PACKINGS[packing][1]
    report = weighbridge.load(repo(tmp_path, tensors, packings.config(packing)))
    assert report.model.parameters == report.model.active_parameters == PARAMETERS
    assert report.model.stored_bytes == size_of(tensors)
    # loading it takes what is stored, not what the config's dtype would
    assert held(report) == size_of(tensors)
    assert rows(report)["float16"].total_bytes == 2 * PARAMETERS


@pytest.mark.parametrize("packing", [n for n in PACKINGS if n != "mlx"])
def test_the_true_count_without_a_config(tmp_path, packing):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, PACKINGS[packing][1])
    assert parameters(str(path)) == PARAMETERS


def test_mxfp4_experts_are_counted_and_only_routed_ones_are_active(tmp_path):
    report = weighbridge.load(repo(tmp_path, packings.gpt_oss(), GPT_OSS))
    idle = (packings.EXPERTS - packings.TOP) * GPT_OSS_EXPERT
    assert report.model.parameters == GPT_OSS_PARAMETERS
    assert report.model.active_parameters == GPT_OSS_PARAMETERS - idle
    assert held(report) == size_of(packings.gpt_oss())


def test_gpt_oss_as_published():
    # 20.9 B and 3.6 B, 116.8 B and 5.1 B: arXiv 2508.10925, table 1, counts the unembedding once
    # as active and the embedding never; here both are
    small, large = (listed(f"gpt-oss-{size}") for size in ("20b", "120b"))
    table = 201088 * 2880
    assert small.parameters == 20_914_757_184
    assert large.parameters == 116_829_156_672
    assert round((small.active_parameters - table) / 1e9, 1) == 3.6
    assert round((large.active_parameters - table) / 1e9, 1) == 5.1


@all_of(
    "name", ["mixtral-8x7b", "gpt-oss-20b", "llama-4-scout", "qwen3.5-35b-a3b", "qwen3-30b-a3b"]
)
def test_experts_stacked_or_not_are_a_mixture(name):
    assert listed(name).active_parameters < 0.35 * listed(name).parameters


def test_active_parameters_by_hand():
    mixtral = listed("mixtral-8x7b")
    assert mixtral.parameters == 46_702_792_704
    assert mixtral.parameters - mixtral.active_parameters == 32 * (8 - 2) * 3 * 4096 * 14336
    qwen = listed("qwen3-30b-a3b")
    assert qwen.parameters == 30_532_122_624
    assert qwen.parameters - qwen.active_parameters == 48 * (128 - 8) * 3 * 2048 * 768


def test_shared_experts_are_always_active():
    model = listed("deepseek-v3")
    # 671,026,419,200 are stored, with 58 x 256 corrections of the router, which are buffers
    assert model.parameters == 671_026_419_200 - 58 * 256
    assert model.parameters - model.active_parameters == 58 * (256 - 8) * 3 * 7168 * 2048


DEEPSEEK = {
    "model_type": "deepseek_v3",
    "architectures": ["DeepseekV3ForCausalLM"],
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 2,
    "first_k_dense_replace": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "num_nextn_predict_layers": 1,
    "tie_word_embeddings": False,
}


def deepseek_layer(layer, experts):
    at = f"model.layers.{layer}."
    shapes = {
        "input_layernorm.weight": (64,),
        "post_attention_layernorm.weight": (64,),
        "self_attn.q_a_proj.weight": (24, 64),
        "self_attn.q_a_layernorm.weight": (24,),
        "self_attn.q_b_proj.weight": (4 * 12, 24),
        "self_attn.kv_a_proj_with_mqa.weight": (20, 64),
        "self_attn.kv_a_layernorm.weight": (16,),
        "self_attn.kv_b_proj.weight": (4 * 16, 16),
        "self_attn.o_proj.weight": (64, 32),
    }
    places = [("mlp.", 96)] if experts is None else [("mlp.shared_experts.", 32)]
    places += [(f"mlp.experts.{i}.", 32) for i in range(experts or 0)]
    if experts is not None:
        shapes["mlp.gate.weight"] = (experts, 64)
    for place, inner in places:
        shapes |= {f"{place}{name}_proj.weight": (inner, 64) for name in ("gate", "up")}
        shapes[f"{place}down_proj.weight"] = (64, inner)
    return {at + name: ("BF16", shape) for name, shape in shapes.items()}


def deepseek():
    """The class's tensors; its gate's correction bias is a float32 buffer that is stored."""
    ends = {
        "model.embed_tokens.weight": ("BF16", (100, 64)),
        "model.norm.weight": ("BF16", (64,)),
        "lm_head.weight": ("BF16", (100, 64)),
        "model.layers.1.mlp.gate.e_score_correction_bias": ("F32", (4,)),
    }
    return ends | deepseek_layer(0, None) | deepseek_layer(1, 4)


def elements(tensors):
    total = 0
    for _, shape in tensors.values():
        count = 1
        for n in shape:
            count *= n
        total += count
    return total


def test_a_prediction_layer_is_told_apart_and_stops_nothing(tmp_path):
    prediction = deepseek_layer(2, 4) | {
        "model.layers.2.embed_tokens.weight": ("BF16", (100, 64)),
        "model.layers.2.enorm.weight": ("BF16", (64,)),
        "model.layers.2.hnorm.weight": ("BF16", (64,)),
        "model.layers.2.eh_proj.weight": ("BF16", (64, 128)),
        "model.layers.2.shared_head.norm.weight": ("BF16", (64,)),
        "model.layers.2.shared_head.head.weight": ("BF16", (100, 64)),
    }
    alone = weighbridge.load(repo(tmp_path / "a", deepseek(), DEEPSEEK))
    both = weighbridge.load(repo(tmp_path / "b", deepseek() | prediction, DEEPSEEK))
    assert alone.model.parameters == both.model.parameters == elements(deepseek()) - 4
    assert (both.derived["unloaded_tensors"], both.derived["unloaded_bytes"]) == (
        len(prediction),
        size_of(prediction),
    )
    assert held(alone) == held(both)


def test_layers_with_different_experts_stop_nothing(tmp_path):
    """A pruned mixture whose config names one number for all layers."""
    pruned = deepseek_layer(1, 3)
    tensors = {k: v for k, v in deepseek().items() if k not in deepseek_layer(1, 4)} | pruned
    report = weighbridge.load(repo(tmp_path, tensors, DEEPSEEK))
    assert report.model.stored_bytes == size_of(tensors)
    (warning,) = report.warnings  # ... but the class would not load it
    assert "model.layers.1.mlp.gate.weight (192 of 256 values)" in warning


def test_an_unknown_mixture_is_read_from_its_headers(tmp_path):
    config = {"model_type": "never_heard_of", "architectures": ["NeverForCausalLM"]}
    tensors = deepseek() | deepseek_layer(2, 2) | deepseek_layer(3, 7)
    report = weighbridge.load(repo(tmp_path, tensors, config))
    assert report.model.stored_bytes == size_of(tensors)
    assert report.model.parameters == elements(tensors)


# hf-mem 0.5.6, gguf-parser 0.1.1: GGUF
def gguf(path, build, *, architecture="llama", version=3):
    w = Writer(version=version)
    w.key("general.architecture", w.value("str", architecture))
    build(w)
    path.write_bytes(w.file())
    return str(path)


def llama_tensors(w, kind="Q4_K"):
    w.tensor("token_embd.weight", [256, 512], kind)
    w.tensor("blk.0.attn_q.weight", [256, 256], kind).tensor("blk.0.attn_norm.weight", [256])
    return 256 * 512 + 256 * 256 + 256


def test_gguf_with_lists_of_heads_and_of_widths(tmp_path):
    def build(w):
        w.key("llama.attention.head_count_kv", w.array("i32", [8, 0, 4]))
        w.key("llama.attention.head_count", w.array("i32", [16, 16, 8]))
        w.key("llama.feed_forward_length", w.array("i32", [512, 0, 256]))
        llama_tensors(w)

    report = weighbridge.load(gguf(tmp_path / "m.gguf", build))
    assert report.model.parameters == 256 * 512 + 256 * 256 + 256
    assert report.model.stored_bytes == (256 * 512 + 256 * 256) // 256 * 144 + 4 * 256


@pytest.mark.parametrize(
    ("architecture", "tensors"),
    [
        ("mamba", {"blk.0.ssm_a": [16, 128], "blk.0.ssm_conv1d.weight": [4, 128], "blk.0.ssm_in.weight": [64, 256]}),
        ("rwkv6", {"blk.0.time_mix_lerp_x.weight": [64], "blk.0.time_mix_first.weight": [64, 1], "blk.0.time_mix_key.weight": [64, 64]}),
        ("jamba", {"blk.0.ssm_d": [128], "blk.1.attn_k.weight": [64, 64], "blk.1.ffn_gate_exps.weight": [64, 32, 4]}),
    ],
)  # fmt: skip
def test_gguf_of_recurrent_models(tmp_path, architecture, tensors):
    def build(w):
        w.key(f"{architecture}.ssm.state_size", w.value("u32", 16))
        for name, dims in tensors.items():
            w.tensor(name, dims, "F16")

    report = weighbridge.load(gguf(tmp_path / "m.gguf", build, architecture=architecture))
    expected = elements({name: ("F16", dims) for name, dims in tensors.items()})
    assert (report.model.parameters, report.model.stored_bytes) == (expected, 2 * expected)


def test_gguf_keys_that_end_alike(tmp_path):
    def build(w):
        w.key("llama.context_length", w.value("u32", 163840))
        w.key("llama.rope.scaling.original_context_length", w.value("u32", 4096))
        w.key("llama.attention.indexer.head_count", w.value("u32", 64))
        w.key("llama.attention.head_count", w.value("u32", 8))
        llama_tensors(w)

    assert parameters(gguf(tmp_path / "m.gguf", build)) == 256 * 512 + 256 * 256 + 256


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    "kind", ["Q4_0", "Q6_K", "IQ4_XS", "BF16", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4"]
)
def test_gguf_versions_and_types(tmp_path, version, kind):
    numbers = {d.name: number for number, d in GGML.items()}
    block = GGML_BY_NAME[kind]
    size = 512 * 256 // block.block * block.nbytes

    def build(w):
        w.tensor("token_embd.weight", [512, 256], numbers[kind], nbytes=size)

    report = weighbridge.load(gguf(tmp_path / "m.gguf", build, version=version))
    assert (report.model.parameters, report.model.stored_bytes) == (512 * 256, size)


def test_gguf_data_is_aligned_to_32_bytes_where_nothing_is_said(tmp_path):
    path = tmp_path / "m.gguf"
    gguf(path, lambda w: w.tensor("a", [5]).tensor("token_embd.weight", [256, 2], "Q4_K"))
    assert parameters(str(path)) == 5 + 512
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(weighbridge.BadFileError):
        weighbridge.load(str(path))


@pytest.mark.slow
def test_one_gguf_of_a_repository_by_its_quantization(hub):
    folder = hub.root / "org" / "gguf"
    folder.mkdir(exist_ok=True)
    for kind in ("Q4_K", "Q6_K"):
        gguf(folder / f"tiny-{kind}_M.gguf", lambda w, k=kind: llama_tensors(w, k))
    small, large = (weighbridge.load(f"org/gguf:{k}_M").model for k in ("Q4_K", "Q6_K"))
    assert small.parameters == large.parameters
    assert (small.stored_bytes, large.stored_bytes) == (768 * 144 + 1024, 768 * 210 + 1024)
    with pytest.raises(weighbridge.NotFoundError, match="Q4_K_M"):
        weighbridge.load("org/gguf:Q8_0")


@pytest.mark.slow
def test_a_gguf_by_its_address(hub):
    folder = hub.root / "org" / "address"
    folder.mkdir(exist_ok=True)
    gguf(folder / "m.gguf", llama_tensors)
    for address in (
        "org/address/m.gguf",
        f"{hub.endpoint}/org/address/blob/main/m.gguf",
        f"http://127.0.0.1:{hub.port}/plain/org/address/m.gguf",
    ):
        assert parameters(address) == 256 * 512 + 256 * 256 + 256
