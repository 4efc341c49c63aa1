"""The small JSON files of a model: strict parsing, indexes, pipelines, Mistral's params."""

import gc
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import all_of
from tests.corpus import MODELS, manifest
from tests.formats.drive import drive, parse, parse_params
from weighbridge.base.errors import BadFileError, UnsupportedError
from weighbridge.models.formats import whole
from weighbridge.models.formats.index import (
    index,
    parse_index,
    parse_model_index,
    parse_modules,
    safe_path,
)
from weighbridge.models.formats.strict_json import collector_paused, strict_json, strict_object


def dump(value):
    return json.dumps(value).encode()


def corpus_files(name):
    """Every such file of the corpus of real models, where it is present."""
    files = [MODELS / e["file"] for e in manifest() if e["file"].endswith(name)]
    files = [f for f in files if f.exists()]
    if not files:
        pytest.skip("the corpus of real configs is not beside this checkout")
    return files


# Strict JSON


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda i: st.lists(i) | st.dictionaries(st.text(), i),
    )
)
def test_what_json_wrote_is_read(value):
    assert strict_json(dump(value)) == value


def test_a_byte_order_mark_is_no_error():
    assert strict_json(b"\xef\xbb\xbf{}") == {}
    assert strict_json(b'"\\ud83d\\ude00"') == "\U0001f600"


@all_of(
    ("data", "words"),
    [
        (b"", "is not JSON"),
        (b'{"a": 1, "b": 2, "a": 3}', "'a' twice"),
        (b'[{"x": {"a": 1, "a": 1}}]', "'a' twice"),
        (b'{"a": NaN}', "holds NaN"),
        (b"[-Infinity]", "holds -Infinity"),
        (b"{} {}", "is not JSON: Extra data"),
        (b"'a'", "is not JSON"),
        (b"[" * 10_000, "nested too deeply"),
        (b"9" * 5000, "is not JSON: Exceeds the limit"),
        (b"\x80", "is not UTF-8: invalid start byte at byte 0"),
        ("{}".encode("utf-16"), "is not UTF-8"),
        (b'{"\\ud83d": 1}', "half of a surrogate pair"),
        (b'["\\uDE00\\ud83d"]', "half of a surrogate pair"),
        (b"1" * 101, "larger than 100 bytes"),
    ],
)
def test_strictness(data, words):
    limit = 100 if "larger" in words else 20_000
    with pytest.raises(BadFileError, match=words):
        strict_json(data, limit)


def test_constants_on_request():
    assert strict_json(b'{"time_step_limit": [0.0, Infinity]}', constants=True)["time_step_limit"][
        1
    ] == float("inf")


@pytest.mark.parametrize("on", [True, False])
def test_the_garbage_collector_is_left_as_it_was(on):
    was_on = gc.isenabled()
    (gc.enable if on else gc.disable)()
    try:
        with collector_paused():
            assert not gc.isenabled()
        assert gc.isenabled() == on
    finally:
        (gc.enable if was_on else gc.disable)()


def test_memory_is_bounded():
    with pytest.raises(BadFileError, match="of memory as JSON"):
        strict_json(b"[" + b"{}," * 5_000_000 + b"0]")


def test_one_read_of_a_bounded_file():
    plan = lambda: whole(lambda data: strict_json(data, 100), 100)  # noqa: E731
    value, reads = drive(plan(), b'{"a": 1}')
    assert (value, len(reads.ranges), reads.ranges[0].stop) == ({"a": 1}, 1, 101)
    with pytest.raises(BadFileError, match="larger than 100"):
        parse(plan(), b" " * 200)
    with pytest.raises(BadFileError, match="a JSON list; an object"):
        strict_object(b"[]")


# Indexes


def test_an_index():
    found = parse(
        index(),
        dump(
            {
                "metadata": {"total_size": 30},
                "weight_map": {"a": "2.bin", "b": "1.bin", "c": "2.bin"},
            }
        ),
    )
    assert found.files == ("2.bin", "1.bin")
    assert found.names("2.bin") == ("a", "c")
    assert found.total_size == 30


@all_of(
    ("metadata", "total"),
    [({}, None), (None, None), ({"total_size": 0}, None), ({"total_size": 7.0}, 7), ({"total_size": 7.5}, None),
     ({"total_size": True}, None), ({"total_size": "7"}, None), ({"total_size": -1}, None), ({"total_size": 1e300}, None)],
)  # fmt: skip
def test_total_sizes_as_published(metadata, total):
    assert parse_index(dump({"metadata": metadata, "weight_map": {}})).total_size == total


@all_of(
    "path",
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "a\0b",
        "",
        "a//b",
        "./a",
        "a/",
        "..",
        "C:/x",
        "c:x",
        "a\\..\\b",
    ],
)
def test_paths_stay_inside(path):
    with pytest.raises(BadFileError, match="is not a path inside"):
        parse_index(dump({"weight_map": {"w": path}}))


def test_ordinary_paths():
    assert [safe_path(p, "x") for p in ("a", "a/b.bin", "..a", "a..b/c")] == [
        "a",
        "a/b.bin",
        "..a",
        "a..b/c",
    ]


@all_of(
    ("data", "words"),
    [
        (b"{}", "weight_map: an object was expected, not None"),
        (b'{"weight_map": []}', "weight_map: an object was expected, not a list"),
        (b'{"weight_map": {"a": 3}}', "'a' is in 3, which is no file"),
        (b'{"weight_map": {"a": ["x"]}}', "which is no file"),
        (b'{"weight_map": {"a": "x", "a": "y"}}', "'a' twice"),
        (b'{"weight_map": {}, "weight_map": {}}', "'weight_map' twice"),
        (b"[]", "an object was expected"),
    ],
)
def test_hostile_indexes(data, words):
    with pytest.raises(BadFileError, match=words):
        parse_index(data)


@pytest.mark.slow
def test_every_index_of_the_corpus():
    for file in corpus_files(".index.json"):
        found = parse_index(file.read_bytes())
        assert found.files, file
        assert sum(len(found.names(f)) for f in found.files) == len(found.weight_map)


# Pipelines


def test_a_diffusers_pipeline():
    found = parse_model_index(
        dump(
            {
                "_class_name": "P",
                "_diffusers_version": "0.2",
                "vae": ["diffusers", "AutoencoderKL"],
                "safety_checker": [None, None],
                "boundary": 0.9,
                "ids": [1, 2],
            }
        )
    )
    assert [(p.name, p.library, p.cls, p.folder) for p in found.parts] == [
        ("vae", "diffusers", "AutoencoderKL", "vae")
    ]
    assert (found.cls, found.absent) == ("P", ("safety_checker",))
    assert found.settings["boundary"] == 0.9


def test_sentence_transformers():
    at = "sentence_transformers.models"
    modules = [
        ("0", "", f"{at}.Transformer"),
        ("1", "1_Pooling", f"{at}.Pooling"),
        ("2", "2_Dense", f"{at}.Dense"),
    ]
    found = parse_modules(
        dump([{"idx": i, "name": n, "path": p, "type": t} for i, (n, p, t) in enumerate(modules)])
    )
    assert [(p.library, p.cls, p.folder) for p in found.parts] == [
        (at, "Transformer", ""),
        (at, "Pooling", "1_Pooling"),
        (at, "Dense", "2_Dense"),
    ]


@all_of(
    "data",
    [
        b"[]",
        b"{}",
        b'{"_class_name": 3}',
        b'{"_class_name": "P", "..": ["a", "b"]}',
        b'{"_class_name": "P", "a/b\\u0000": ["a", "b"]}',
    ],
)
def test_hostile_pipelines(data):
    with pytest.raises(BadFileError):
        parse_model_index(data)


@all_of(
    "data",
    [
        b"{}",
        b"[3]",
        b"[[]]",
        b'["name"]',
        b'[{"name": "0"}]',
        b'[{"name": 0, "path": "", "type": "x"}]',
        b'[{"name": "0", "path": "../x", "type": "x"}]',
    ],
)
def test_hostile_modules(data):
    with pytest.raises(BadFileError):
        parse_modules(data)


def test_every_pipeline_of_the_corpus():
    for file in corpus_files("model_index.json"):
        found = parse_model_index(file.read_bytes())
        assert found.cls.isidentifier(), file
        assert len(found.parts) >= 2, file


# Mistral's params.json

SMALL = {
    "dim": 4096,
    "n_layers": 32,
    "head_dim": 128,
    "hidden_dim": 14336,
    "n_heads": 32,
    "n_kv_heads": 8,
    "norm_eps": 1e-5,
    "vocab_size": 32768,
    "rope_theta": 1e6,
}
VISION = {
    "hidden_size": 1024,
    "num_channels": 3,
    "image_size": 1024,
    "patch_size": 16,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "rope_theta": 1e4,
}


def converted(**changes):
    return parse_params(dump(SMALL | changes))


def parameters(raw):
    from weighbridge.models.arch.builder import blueprint
    from weighbridge.models.arch.config import Config

    return blueprint(Config(raw)).parameters


def test_mistral_7b():
    """7,248,023,552: total_size 14,496,047,104 of its index, in two bytes each."""
    found = converted()
    assert (found["model_type"], found["architectures"]) == ("mistral", ["MistralForCausalLM"])
    assert parameters(found) == 7_248_023_552


@pytest.mark.parametrize(
    "model", ["mistralai__Mistral-7B-Instruct-v0.3", "mistralai__Devstral-Small-2507"]
)
def test_params_agree_with_the_config_beside_them(model):
    if not (MODELS / model).exists():
        pytest.skip("the corpus of real configs is not beside this checkout")
    theirs = json.loads((MODELS / model / "config.json").read_text())
    ours = parse_params((MODELS / model / "params.json").read_bytes())
    same = ours.keys() & theirs.keys() - {"max_position_embeddings"}
    assert {k: ours[k] for k in same} == {k: theirs[k] for k in same}
    assert same >= {
        "architectures",
        "model_type",
        "hidden_size",
        "num_key_value_heads",
        "vocab_size",
    }
    assert parameters(ours) == parameters(theirs)


def test_every_key_of_a_small_model():
    names = {
        "dim": "hidden_size", "n_layers": "num_hidden_layers", "hidden_dim": "intermediate_size", "norm_eps": "rms_norm_eps",
        "n_heads": "num_attention_heads", "n_kv_heads": "num_key_value_heads",
    }  # fmt: skip
    want = {names.get(key, key): value for key, value in SMALL.items()}
    added = {
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        "tie_word_embeddings": False,
        "sliding_window": None,
    }
    assert converted() == want | added


def test_mixtral():
    """46,702,792,704 parameters: the index of Mixtral-8x7B-v0.1, 93,405,585,408 bytes of bfloat16."""
    found = converted(vocab_size=32000, moe={"num_experts": 8, "num_experts_per_tok": 2})
    assert (found["num_local_experts"], found["num_experts_per_tok"]) == (8, 2)
    assert (found["model_type"], found["architectures"]) == ("mixtral", ["MixtralForCausalLM"])
    assert "moe" not in found


def test_latent_attention_is_mistral4():
    latent = {
        "q_lora_rank": 1024,
        "kv_lora_rank": 256,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 64,
        "v_head_dim": 128,
    }
    moe = {
        "num_experts": 128,
        "num_experts_per_tok": 4,
        "num_shared_experts": 1,
        "expert_hidden_dim": 2048,
        "first_k_dense_replace": 0,
        "route_every_n": 1,
        "odd_experts": 7,
    }
    found = converted(
        **latent,
        moe=moe,
        yarn={"factor": 128, "beta": 32, "alpha": 1, "original_max_position_embeddings": 8192},
        llama_4_scaling={"beta": 0.1},
    )
    assert (
        found["model_type"],
        found["n_routed_experts"],
        found["n_shared_experts"],
        found["moe_intermediate_size"],
    ) == ("mistral4", 128, 1, 2048)
    assert found["kv_lora_rank"] == 256
    assert found["moe"] == {"odd_experts": 7}  # unknown, so handed on
    assert found["rope_parameters"]["beta_fast"] == 32
    with pytest.raises(UnsupportedError, match="kv_lora_rank without moe"):
        converted(**latent)


def test_ministral_3_with_vision():
    vision = VISION | {
        "mm_projector_id": "patch_merge",
        "adapter_bias": False,
        "spatial_merge_size": 2,
        "image_token_id": 10,
        "image_break_token_id": 12,
        "image_end_token_id": 13,
        "max_image_size": 1540,
        "add_pre_mm_projector_layer_norm": True,
    }
    found = converted(
        vision_encoder=vision,
        llama_4_scaling={"beta": 0.1},
        tied_embeddings=True,
        quantization={"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"},
    )
    assert (found["model_type"], found["architectures"]) == (
        "mistral3",
        ["Mistral3ForConditionalGeneration"],
    )
    assert (
        found["text_config"]["model_type"],
        found["text_config"]["tie_word_embeddings"],
        found["tie_word_embeddings"],
    ) == ("ministral3", True, True)
    assert found["vision_config"] == VISION | {"model_type": "pixtral", "hidden_act": "silu"}
    assert (found["spatial_merge_size"], found["multimodal_projector_bias"]) == (2, False)
    assert found["quantization_config"] == {"quant_method": "fp8", "activation_scheme": "static"}


def test_compressed_tensors_keep_their_own_description():
    found = converted(quantization={"quant_method": "compressed_tensors", "format": "nvfp4"})
    assert found["quantization_config"] == {"quant_method": "compressed-tensors", "format": "nvfp4"}


def test_pixtral_is_llava():
    found = converted(vision_encoder=VISION | {"adapter_bias": True, "image_token_id": 10})
    assert (found["model_type"], found["architectures"]) == (
        "llava",
        ["LlavaForConditionalGeneration"],
    )
    assert (found["text_config"]["model_type"], found["vision_config"]["model_type"]) == (
        "mistral",
        "pixtral",
    )
    assert (found["multimodal_projector_bias"], found["image_token_index"]) == (True, 10)


def test_voxtral():
    encoder = {
        "dim": 1280,
        "n_layers": 32,
        "head_dim": 64,
        "hidden_dim": 5120,
        "n_heads": 20,
        "vocab_size": 51866,
        "max_source_positions": None,
        "audio_encoding_args": {"num_mel_bins": 128, "window_size": 400},
    }
    found = converted(
        multimodal={
            "whisper_model_args": {
                "encoder_args": encoder,
                "downsample_args": {"downsample_factor": 4},
            }
        }
    )
    assert (found["model_type"], found["architectures"], found["text_config"]["model_type"]) == (
        "voxtral",
        ["VoxtralForConditionalGeneration"],
        "llama",
    )
    assert found["audio_config"] == {
        "model_type": "voxtral_encoder", "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
        "num_attention_heads": 20, "head_dim": 64, "vocab_size": 51866, "num_mel_bins": 128,
    }  # fmt: skip


def test_codestral_mamba():
    found = parse_params(
        dump(
            {
                "dim": 4096,
                "n_layers": 64,
                "vocab_size": 32768,
                "n_groups": 8,
                "tie_embeddings": False,
                "model_type": "mamba",
            }
        )
    )
    assert (
        found["model_type"],
        found["hidden_size"],
        found["num_hidden_layers"],
        found["n_groups"],
    ) == ("mamba2", 4096, 64, 8)


@pytest.mark.parametrize(
    ("window", "want", "layers"),
    [
        (None, None, None),
        (4096, 4096, None),
        ("4096", 4096, None),
        ([None, 32, 32, 32], 32, ["full_attention", *["sliding_attention"] * 3] * 8),
    ],
)
def test_sliding_windows(window, want, layers):
    found = converted(sliding_window=window)
    assert (found["sliding_window"], found.get("layer_types")) == (want, layers)


@all_of(
    ("changes", "words"),
    [
        ({"dim": None}, "dim: is missing"),
        ({"moe": 3}, "moe: an object was expected"),
        ({"vision_encoder": []}, "vision_encoder: an object was expected"),
        ({"sliding_window": [1, 2]}, "more than one window"),
        ({"sliding_window": [[1]]}, "more than one window"),
        ({"sliding_window": []}, "does not fit 32 layers"),
        ({"sliding_window": [1, None, None]}, "does not fit 32 layers"),
        ({"sliding_window": [1], "n_layers": 1 << 62}, "does not fit"),
        ({"quantization": {"qformat_weight": "int3"}}, "is unknown; known: fp8_e4m3"),
        ({"multimodal": {"whisper_model_args": {}}}, "has no encoder_args"),
        ({"multimodal": {"whisper_model_args": {"encoder_args": {"causal": True}}}}, "Realtime"),
    ],
)  # fmt: skip
def test_hostile_params(changes, words):
    with pytest.raises((BadFileError, UnsupportedError), match=words):
        converted(**changes)


def test_llama_is_not_mistral():
    with pytest.raises(UnsupportedError, match="Meta's Llama"):
        parse_params(
            dump({"dim": 4096, "multiple_of": 256, "n_heads": 32, "n_layers": 32, "vocab_size": -1})
        )
