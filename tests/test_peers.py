"""What other estimators get wrong about counting and parsing, one test a defect.

Each heading names the tool whose defect it is, with the version in which it was seen. Numbers are
worked by hand from the shapes, or are the published counts of the models.
"""

import json
import os
import re
import struct
from contextlib import suppress
from functools import cache

import pytest

import weighbridge
from tests import packings
from tests.formats.build_gguf import Writer
from tests.hub import Hub
from tests.packings import GPT_OSS, GPT_OSS_EXPERT, GPT_OSS_PARAMETERS, PACKINGS, PARAMETERS
from tests.sparse import nbytes, write_repo, write_safetensors
from weighbridge import catalogue
from weighbridge.arch.config import Config
from weighbridge.arch.families import blueprint
from weighbridge.cli.menu import run
from weighbridge.dtypes import GGML, GGML_BY_NAME
from weighbridge.gather import GatherOptions, gather
from weighbridge.model import resolve

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
LLAMA_2_7B = LLAMA | {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
LLAMA_3_8B = LLAMA_2_7B | {
    "vocab_size": 128256,
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
}
LLAMA_3_70B = LLAMA_3_8B | {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
}
QWEN3_06B = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "vocab_size": 151936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}
TINY = packings.CONFIG


def parameters(model, **settings):
    return weighbridge.load(model, **settings).model.parameters


def gib(nbytes):
    return round(nbytes / 2**30, 2)


@cache
def listed(name):
    """A model of the catalogue, counted and not priced."""
    return resolve(gather(name, GatherOptions()))


def rows(report):
    return {row.dtype: row for row in report.table}


def held(report, name="weights"):
    """Expected bytes of a component on the accelerator."""
    (phase,) = report.devices[0].phases
    return sum(c.bytes.expected for c in phase.components if c.name == name)


def size_of(tensors):
    return sum(nbytes(*tensor) for tensor in tensors.values())


def repo(folder, tensors, config=None, **more):
    return str(write_repo(folder, TINY if config is None else config, tensors, **more))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Repositories, and a stand-in Hub that serves them."""
    root = tmp_path_factory.mktemp("shelf")
    write_repo(root / "org/plain", TINY, packings.plain(), shards=3)
    with Hub(root) as hub:
        yield hub
    with suppress(ImportError):  # huggingface_hub 0 has none
        from huggingface_hub.utils import close_session

        close_session()


@pytest.fixture
def hub(shelf, tmp_path, monkeypatch):
    """The stand-in as HF_ENDPOINT, with an empty cache and nobody logged in."""
    from huggingface_hub import constants

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(home / "stored_tokens"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    template = shelf.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", shelf.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("HF_ENDPOINT", shelf.endpoint)
    shelf.faults.clear()
    shelf.requests.clear()
    return shelf


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


@pytest.mark.parametrize(
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


# hf-mem, accelerate 1.15.0: where a model may be


def test_mirrors_are_honoured(hub):
    assert parameters("org/plain") == PARAMETERS
    assert {r.host for r in hub.requests} <= {f"localhost:{hub.port}", f"127.0.0.1:{hub.port}"}
    hub.requests.clear()
    assert parameters("https://huggingface.co/org/plain/tree/main") == PARAMETERS
    assert hub.requests


@pytest.mark.parametrize("form", ["{0}", "{0}/", "{0}/../plain", "{0}/config.json"])
def test_absolute_paths(hub, form):
    assert parameters(form.format(hub.root / "org" / "plain")) == PARAMETERS


@pytest.mark.parametrize(
    "form",
    ["org/plain", "./org/plain", "org/plain/", "org/../org/plain", "./org/plain/config.json"],
)
def test_relative_paths_win_over_the_hub(hub, monkeypatch, form):
    monkeypatch.chdir(hub.root)
    assert parameters(form) == PARAMETERS
    assert hub.requests == []


def test_home_links_and_dots(hub, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(hub.root))
    assert parameters("~/org/plain") == PARAMETERS
    (tmp_path / "link").symlink_to(hub.root / "org" / "plain")
    assert parameters(str(tmp_path / "link")) == PARAMETERS
    monkeypatch.chdir(tmp_path / "link")
    assert parameters(".") == PARAMETERS


def test_a_folder_of_the_hub_cache(hub, tmp_path):
    from huggingface_hub import snapshot_download

    snapshot = snapshot_download("org/plain", cache_dir=tmp_path / "cache", endpoint=hub.endpoint)
    assert parameters(snapshot) == PARAMETERS
    assert parameters(str(tmp_path / "cache" / "models--org--plain")) == PARAMETERS


def test_offline_from_the_cache(hub, tmp_path):
    from huggingface_hub import snapshot_download

    snapshot_download("org/plain", cache_dir=tmp_path / "cache", endpoint=hub.endpoint)
    hub.requests.clear()
    report = weighbridge.load("org/plain", cache_dir=str(tmp_path / "cache"), offline=True)
    assert (report.model.parameters, hub.requests) == (PARAMETERS, [])
    online = weighbridge.load("org/plain", cache_dir=str(tmp_path / "cache"))
    assert online.model.parameters == PARAMETERS
    assert hub.asked(r"safetensors$") == []


def test_offline_by_the_environment(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(weighbridge.HubError):
        weighbridge.load("org/plain")
    assert hub.requests == []
    assert parameters("llama-3.1-8b") == 8_030_261_248


# accelerate 1.15.0


def test_lm_head_is_counted():
    report = weighbridge.load(LLAMA_3_8B)
    assert report.model.parameters == 8_030_261_248
    assert gib(rows(report)["float16"].total_bytes) == 14.96
    assert gib(rows(weighbridge.load(LLAMA_3_70B))["float16"].total_bytes) == 131.42
    headless = weighbridge.load(LLAMA_3_8B, base_model=True)
    assert report.model.parameters - headless.model.parameters == 128256 * 4096
    assert gib(rows(headless)["float16"].total_bytes) == 13.98


@pytest.mark.parametrize("stored", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("key", ["torch_dtype", "dtype"])
@pytest.mark.parametrize("declared", [None, "float16", "bfloat16", "float32"])
def test_the_declared_dtype_leaks_into_no_row(tmp_path, stored, key, declared):
    """accelerate#3379: a float16 70B was halved twice."""
    config = {k: v for k, v in TINY.items() if k != "torch_dtype"} | {key: declared}
    for model in (config, repo(tmp_path, packings.plain(stored), config)):
        found = {name: row.total_bytes for name, row in rows(weighbridge.load(model)).items()}
        plain = {"float32": 32, "float16": 16, "bfloat16": 16, "fp8": 8, "int8": 8, "int4": 4}
        assert {name: found[name] for name in plain} == {
            n: PARAMETERS * b // 8 for n, b in plain.items()
        }


def test_training_is_the_sum_of_what_coexists():
    row = rows(weighbridge.load(LLAMA_3_8B))["float16"]
    assert gib(row.training_adam_bytes) == 119.66  # not 55.92
    assert row.training_adam_bytes == 16 * 8_030_261_248


def test_int8_and_int4_of_bitsandbytes_keep_what_it_keeps():
    found = rows(weighbridge.load(LLAMA_3_8B | {"dtype": "bfloat16"}))
    matrices = 32 * (2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 4096 * 14336)
    outputs = 32 * (2 * 4096 + 2 * 1024 + 2 * 14336 + 4096)
    rest = 8_030_261_248 - matrices
    assert found["bnb-int8"].total_bytes == matrices + 4 * outputs + 2 * rest
    assert found["nf4"].total_bytes >= matrices // 2 + matrices // 64 * 4 + 2 * rest
    assert found["nf4"].total_bytes <= matrices // 2 + matrices // 64 * 4 + 2 * rest + 224 * 512
    assert found["int4"].total_bytes == 8_030_261_248 // 2


def test_a_bool_buffer_is_a_byte_a_value():
    """GPT-2 of transformers 4 holds causal masks: 1,024 x 1,024 in each of 12 layers."""
    gpt2 = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    report = weighbridge.load(gpt2, engine_version="4.40")
    masks = 12 * 1024 * 1024
    assert masks <= held(report, "buffers") <= masks + 12 * 512


def test_a_stored_bool_mask_is_a_byte_a_value(tmp_path):
    gpt2 = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_layer": 0,
        "n_embd": 8,
        "n_head": 1,
        "vocab_size": 9,
        "n_positions": 16,
    }
    tensors = {
        "wte.weight": ("F32", (9, 8)),
        "wpe.weight": ("F32", (16, 8)),
        "ln_f.weight": ("F32", (8,)),
        "ln_f.bias": ("F32", (8,)),
        "h.0.attn.bias": ("BOOL", (1, 1, 16, 16)),
    }
    report = weighbridge.load(repo(tmp_path, tensors, gpt2))
    assert report.model.parameters == 9 * 8 + 16 * 8 + 16
    assert report.model.stored_bytes == 4 * (9 * 8 + 16 * 8 + 16) + 256


def test_gib_is_never_written_gb(capsys):
    assert run(["estimate-memory", "llama-3.1-8b", "--dtypes", "float16"]) == 0
    text = capsys.readouterr().out
    assert "14.96 GiB" in text
    assert not re.search(r"\b[GM]B\b", text)
    assert run(["load", "llama-3.1-8b"]) == 0
    text = capsys.readouterr().out
    assert "14.96 GiB (16.1 GB)" in text or "15.0 GiB (16.1 GB)" in text  # as downloads are sold
    assert not re.search(r"\d [GM]B\b", text.replace("(16.1 GB)", ""))
    assert run(["load", "llama-3.1-8b", "--unit", "GB"]) == 0
    text = capsys.readouterr().out
    assert "16.06 GB" in text
    assert "GiB" not in text


def test_bert_base_as_accelerate_measured_it(capsys):
    assert run(["estimate-memory", "bert-base-cased", "--base-model"]) == 0
    assert "413.18 MiB" in capsys.readouterr().out


# Vokturz and others: remote code


def test_code_of_a_repository_is_neither_fetched_nor_run(hub, tmp_path):
    config = {
        "model_type": "own",
        "architectures": ["OwnModel"],
        "auto_map": {"AutoConfig": "modeling_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"},
    }
    folder = hub.root / "org" / "own"
    repo(folder, {"a.weight": ("F32", (4, 4))}, config)
    witness = tmp_path / "ran"
    (folder / "modeling_own.py").write_text(f"open({str(witness)!r}, 'w')\n")
    for model in ("org/own", str(folder)):
        assert parameters(model) == 16
    assert not witness.exists()
    assert hub.asked(r"\.py") == []


# llm-analysis 0.2.2 and its git head, EleutherAI cookbook, llm-resource-planner 0.2.0, gpu_poor


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LLAMA_2_7B, 6_738_415_616),  # a feed-forward ratio of 2.69
        (LLAMA_3_8B, 8_030_261_248),  # not 6.16, 6.44, 6.99 or 7.50 B
        (LLAMA_3_70B, 70_553_706_496),
        (QWEN3_06B, 596_049_920),  # tied; heads of 128, not 1024 / 16
    ],
)
def test_published_counts_of_configs(config, expected):
    assert parameters(config) == expected


def test_head_dim_is_not_hidden_by_heads():
    nemo = LLAMA_3_8B | {
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        "vocab_size": 131072,
        "hidden_size": 5120,
        "num_hidden_layers": 40,
        "head_dim": 128,
    }
    assert parameters(nemo) == parameters("mistral-nemo-12b") == 12_247_782_400


@pytest.mark.parametrize(
    ("name", "expected"),
    [("llama-2-7b", 6_738_415_616), ("llama-3-8b", 8_030_261_248), ("qwen3-0.6b", 596_049_920)],
)
def test_published_counts_of_the_catalogue(name, expected):
    assert parameters(name) == expected


def test_top_k_of_every_spelling():
    """num_experts_per_tok, moe_top_k, moe_topk, top_k_experts...: the family's own."""
    for name in ("dbrx", "deepseek-v3", "qwen3-30b-a3b", "phi-3.5-moe", "jamba-v0.1"):
        assert listed(name).active_parameters < 0.5 * listed(name).parameters


# torchinfo 1.8.0, EleutherAI cookbook: tied embeddings


def test_tied_embeddings_are_counted_once():
    two_layers = LLAMA_3_8B | {"num_hidden_layers": 2, "tie_word_embeddings": True}
    assert parameters(two_layers) == 961_564_672  # not 1,486,901,248


def test_a_head_stored_twice_is_counted_once(tmp_path):
    """Qwen3-0.6B on the Hub: 751,632,384 stored values, 596,049,920 parameters."""
    names = {p.name: ("BF16", p.shape) for p in blueprint(Config(QWEN3_06B)).params if not p.tied}
    assert "lm_head.weight" not in names
    stored = names | {"lm_head.weight": ("BF16", (151936, 1024))}
    report = weighbridge.load(repo(tmp_path, stored, QWEN3_06B))
    assert report.model.parameters == 596_049_920
    assert report.model.stored_bytes == 2 * 751_632_384
    assert held(report) == 2 * 596_049_920
    assert rows(report)["float32"].total_bytes == 4 * 596_049_920


# llm-d-planner, llm-mem 0.1.1: quantized and mixed repositories


@pytest.mark.parametrize("packing", [n for n in PACKINGS if "4" in n])
def test_four_bit_weights_do_not_weigh_nothing(tmp_path, packing):
    report = weighbridge.load(repo(tmp_path, PACKINGS[packing][1], packings.config(packing)))
    assert held(report) >= 2 * packings.LEFT + packings.PACKED // 2


def test_a_repository_of_mixed_dtypes(tmp_path):
    tensors = packings.plain() | {
        "model.norm.weight": ("F32", (packings.HIDDEN,)),
        "model.embed_tokens.weight": ("F16", (packings.VOCAB, packings.HIDDEN)),
        "lm_head.weight": ("F8_E4M3", (packings.VOCAB, packings.HIDDEN)),
    }
    report = weighbridge.load(repo(tmp_path, tensors))
    assert report.model.parameters == PARAMETERS
    assert report.model.stored_bytes == size_of(tensors)


def test_a_quantized_config_alone_is_packed_too():
    """GPTQ without its weights: the config says what they are."""
    config = packings.config("gptq 4-bit")
    report = weighbridge.load(config)
    assert report.model.parameters == PARAMETERS
    assert held(report) == size_of(PACKINGS["gptq 4-bit"][1])


# llmfit 1.1.17: the catalogue; xtuner: billions


@pytest.mark.slow
def test_no_entry_has_half_the_parameters_of_its_name():
    """Dense ones; a mixture may be called by its active part."""
    for name in catalogue.names():
        said = re.findall(r"(?:^|-)(\d+(?:\.\d+)?)b(?=-|$)", name)
        if said and "experts" not in json.dumps(catalogue.find(name).config):
            assert 0.7 <= listed(name).parameters / (float(said[0]) * 1e9) <= 1.6, name


def test_billions_are_of_ten(capsys):
    assert run(["load", "qwen3-8b"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert "8.19 B" in first  # not 7.63
    assert "8,190,735,360" in first


# vram-check 0.1.1: names of dtypes


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("bf16", "bfloat16"),
        ("fp16", "float16"),
        ("half", "float16"),
        ("fp32", "float32"),
        ("float", "float32"),
        ("torch.bfloat16", "bfloat16"),
    ],
)
def test_names_of_dtypes_mean_one_thing(typed, meant):
    report = weighbridge.load(TINY, dtype=typed)
    assert report.workload["dtype"] == meant
    assert held(report) == PARAMETERS * {"float32": 4}.get(meant, 2)


# gpu_poor: one input in several forms


@pytest.mark.slow
def test_every_form_of_a_model_gives_one_answer(hub):
    folder = hub.root / "org" / "plain"
    forms = (
        TINY,
        str(folder),
        folder,
        str(folder / "config.json"),
        "org/plain",
        "hf://org/plain",
        "org/plain@main",
        f"{hub.endpoint}/org/plain",
    )
    answers = set()
    for form in forms:
        report = weighbridge.load(form)
        answers.add((report.model.parameters, report.table, report.peak))
    assert len(answers) == 1


# Red Hat training_hub, hf-mem: whose weights are fetched?


def test_weights_are_never_downloaded(hub, tmp_path):
    big = LLAMA_2_7B | {"num_hidden_layers": 1}
    shapes = {
        "model.embed_tokens.weight": ("F16", (32000, 4096)),
        "lm_head.weight": ("F16", (32000, 4096)),
    }
    repo(hub.root / "org" / "big", shapes, big)
    weighbridge.load("org/big")
    assert hub.sent < 110_000  # one first read, of 500 MB
    assert list((tmp_path / "home").rglob("*.safetensors")) == []


# torchtitan, unsloth Studio: sizes that only long integers hold


def test_a_gguf_of_a_trillion_parameters(tmp_path):
    w = Writer()
    w.key("general.architecture", w.value("str", "llama"))
    w.tensor("blk.0.ffn_up_exps.weight", [8192, 32768, 4096], 0, nbytes=4 << 40)
    head = w.head()
    path = tmp_path / "huge.gguf"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + 31 + (4 << 40))
    assert os.stat(path).st_size > 1 << 42
    assert parameters(str(path)) == 1 << 40
    assert struct.calcsize("P") == 8


# accelerate: docs/source/usage_guides/model_size_estimator.md, where MB and GB are MiB and GiB


@pytest.mark.parametrize(
    ("typed", "float32"),
    [
        (["bert-base-cased", "--base-model"], ("86.46 MiB", "413.18 MiB", "1.61 GiB")),
        (
            ["HuggingFaceM4/idefics-80b-instruct", "--base-model", "--engine-version", "4.57"],
            ("3.02 GiB", "297.12 GiB", "1.16 TiB"),
        ),
        (
            ["timm/resnet50.a1_in1k", "--library_name", "timm"],
            ("9.00 MiB", "97.70 MiB", "389.97 MiB"),
        ),
    ],
)
def test_the_three_examples_of_accelerates_tutorial(capsys, hub, typed, float32):
    """No network, torch or timm. The embeddings of BERT are one module that is never split."""
    assert run(["estimate-memory", *typed, "--offline"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "float32" in line)
    assert tuple(cell.strip() for cell in row.strip("│").split("│"))[1:] == float32


def test_what_accelerate_would_print_is_said(capsys):
    assert run(["estimate-memory", "bert-base-cased"]) == 0
    said = capsys.readouterr()
    assert "413.30 MiB" in said.out
    assert said.err.endswith(
        "note: accelerate counts BertModel, without its head: 413.18 MiB in float32; "
        "--base-model shows that table\n"
    )
