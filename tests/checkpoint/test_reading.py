"""From a folder to a model: which files are chosen, what is told apart, what is refused."""

import json
import struct

import pytest

import weighbridge
from tests.formats.build_gguf import Writer
from tests.sparse import as_tensors, write_repo, write_safetensors
from tests.tiny import config
from weighbridge.base.errors import UnsupportedError
from weighbridge.models.arch import torch_modules
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config
from weighbridge.models.checkpoint.gather import GatherOptions, gather
from weighbridge.models.checkpoint.model import resolve

TINY = config("first", vocab_size=100, intermediate_size=96)
PLAN = blueprint(Config(TINY))
TENSORS = as_tensors(PLAN)


def folder(path, files):
    for name, content in files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict) and name.endswith(".safetensors"):
            write_safetensors(target, content)
        else:
            target.write_text(json.dumps(content))
    return path


def weigh(path, **settings):
    return weighbridge.load(str(path), **settings)


# Which files


def test_safetensors_before_pickles_and_whole_before_consolidated(tmp_path):
    write_repo(tmp_path, TINY, PLAN)
    (tmp_path / "pytorch_model.bin").write_bytes(b"not read")
    (tmp_path / "training_args.bin").write_bytes(b"not read")
    write_safetensors(tmp_path / "consolidated.safetensors", {"twice": ("F32", (10,))})
    write_safetensors(tmp_path / "model.fp16.safetensors", {"variant": ("F16", (10,))})
    report = weigh(tmp_path)
    assert report.model.stored_bytes == 2 * PLAN.parameters
    assert report.model.parameters == PLAN.parameters


def test_weights_without_a_config_are_counted_and_said_to_be(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", TENSORS)
    report = weigh(tmp_path)
    assert (report.model.parameters, report.model.architecture) == (
        PLAN.parameters,
        "unknown class",
    )


def test_a_named_file_finds_the_config_beside_it(tmp_path):
    write_repo(tmp_path, TINY, PLAN)
    report = weigh(tmp_path / "model.safetensors")
    assert (report.model.parameters, report.model.architecture) == (
        PLAN.parameters,
        "LlamaForCausalLM",
    )


def test_an_index_whose_shards_are_elsewhere_leaves_the_config(tmp_path):
    write_repo(tmp_path, TINY, PLAN, shards=2)
    for shard in tmp_path.glob("*.safetensors"):
        shard.unlink()
    report = weigh(tmp_path)
    assert report.model.parameters == PLAN.parameters
    assert report.model.stored_bytes is None
    assert any("2 shards" in line for line in report.warnings)


def test_a_missing_shard_is_an_error(tmp_path):
    write_repo(tmp_path, TINY, PLAN, shards=3)
    next(iter(sorted(tmp_path.glob("*.safetensors")))).unlink()
    with pytest.raises(weighbridge.BadFileError, match="1 of 3 shards"):
        weigh(tmp_path)


# What is told apart


def test_tensors_that_the_class_does_not_load(tmp_path):
    extra = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": ("F32", (8,)),
        "model.layers.2.mlp.up_proj.weight": ("BF16", (96, 64)),
    }
    write_repo(tmp_path, TINY, {**TENSORS, **extra})
    report = weigh(tmp_path)
    assert report.model.parameters == PLAN.parameters
    assert report.derived["unloaded_tensors"] == 2
    assert report.derived["unloaded_bytes"] == 32 + 2 * 96 * 64
    assert any("inv_freq" in line for line in report.warnings)


def test_a_tied_head_that_is_stored_again_is_no_parameter(tmp_path):
    config = {**TINY, "tie_word_embeddings": True}
    write_repo(tmp_path, config, TENSORS)
    report = weigh(tmp_path)
    assert report.model.parameters == PLAN.parameters - 100 * 64
    assert report.derived["unloaded_bytes"] == 2 * 100 * 64


def test_names_without_the_base_models_prefix(tmp_path):
    stripped = {name.removeprefix("model."): tensor for name, tensor in TENSORS.items()}
    write_repo(tmp_path, TINY, stripped)
    assert weigh(tmp_path).derived["unloaded_tensors"] == 0


def test_a_base_model_of_a_file_with_a_head(tmp_path):
    write_repo(tmp_path, TINY, TENSORS)
    report = weigh(tmp_path, base_model=True)
    assert report.derived["unloaded_tensors"] == 1


MOE = {
    "model_type": "qwen3_moe",
    "architectures": ["Qwen3MoeForCausalLM"],
    "vocab_size": 50,
    "hidden_size": 32,
    "head_dim": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "decoder_sparse_step": 1,
}


def test_experts_stored_as_a_stack_are_the_same_parameters(tmp_path):
    plan = blueprint(Config(MOE))
    apart = as_tensors(plan)
    stacked = {n: t for n, t in apart.items() if ".experts." not in n}
    at = "model.layers.0.mlp.experts."
    stacked |= {f"{at}gate_up_proj": ("BF16", (4, 32, 32)), f"{at}down_proj": ("BF16", (4, 32, 16))}
    write_repo(tmp_path / "apart", MOE, apart)
    write_repo(tmp_path / "stacked", MOE, stacked)
    for name in ("apart", "stacked"):
        report = weigh(tmp_path / name)
        assert (report.model.parameters, report.derived["unloaded_tensors"]) == (plan.parameters, 0)


def test_a_packed_checkpoint_is_loaded_as_it_is_stored(tmp_path):
    layer = {
        "qweight": ("I32", (8, 64)),
        "qzeros": ("I32", (1, 8)),
        "scales": ("F16", (1, 64)),
        "g_idx": ("I32", (64,)),
    }
    packed = {n: t for n, t in TENSORS.items() if "q_proj" not in n}
    for i in range(2):
        packed |= {f"model.layers.{i}.self_attn.q_proj.{k}": v for k, v in layer.items()}
    config = {**TINY, "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 64}}
    report = weigh(write_repo(tmp_path, config, packed))
    assert report.model.parameters == PLAN.parameters
    weights = report.devices[0].phases[0].components[0]
    assert (weights.basis, weights.bytes.expected) == ("read", report.model.stored_bytes)


# Several parts


def test_a_pipeline_by_part(tmp_path):
    files = {
        "model_index.json": {
            "_class_name": "TinyPipeline",
            "text_encoder": ["transformers", "LlamaForCausalLM"],
            "unet": ["diffusers", "SomeUNet"],
            "safety_checker": [None, None],
            "scheduler": ["diffusers", "DDIMScheduler"],
        },
        "scheduler/scheduler_config.json": {},
        "text_encoder/config.json": TINY,
        "text_encoder/model.safetensors": TENSORS,
        "unet/config.json": {"_class_name": "SomeUNet"},
        "unet/diffusion_pytorch_model.safetensors": {"conv.weight": ("F16", (8, 4, 3, 3))},
    }
    report = weigh(folder(tmp_path, files))
    assert dict(report.model.parts) == {"text_encoder": PLAN.parameters, "unet": 288}
    assert report.model.architecture == "LlamaForCausalLM + SomeUNet"


def test_sentence_transformers_modules(tmp_path):
    files = {
        "config.json": {**TINY, "architectures": ["LlamaModel"]},
        "model.safetensors": {
            n.removeprefix("model."): t for n, t in TENSORS.items() if "lm_head" not in n
        },
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {
                "idx": 1,
                "name": "1",
                "path": "1_Pooling",
                "type": "sentence_transformers.models.Pooling",
            },
            {
                "idx": 2,
                "name": "2",
                "path": "2_Dense",
                "type": "sentence_transformers.models.Dense",
            },
        ],
        "1_Pooling/config.json": {},
        "2_Dense/config.json": {"in_features": 64, "out_features": 16},
        "2_Dense/model.safetensors": {
            "linear.weight": ("F32", (16, 64)),
            "linear.bias": ("F32", (16,)),
        },
    }
    report = weigh(folder(tmp_path, files))
    assert report.model.parameters == PLAN.parameters - 100 * 64 + 16 * 64 + 16


def test_an_adapter_is_weighed_by_itself(tmp_path):
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    files = {
        "adapter_config.json": {"peft_type": "LORA", "r": 8, "base_model_name_or_path": "org/base"},
        "adapter_model.safetensors": {
            name.format("A"): ("F32", (8, 64)),
            name.format("B"): ("F32", (64, 8)),
        },
    }
    report = weigh(folder(tmp_path, files))
    assert (report.model.parameters, report.model.architecture) == (2 * 8 * 64, "PEFT LORA")


def test_mistrals_own_params_json(tmp_path):
    params = {
        "dim": 64,
        "n_layers": 2,
        "head_dim": 16,
        "hidden_dim": 96,
        "n_heads": 4,
        "n_kv_heads": 4,
        "norm_eps": 1e-5,
        "vocab_size": 100,
    }
    (tmp_path / "params.json").write_text(json.dumps(params))
    report = weigh(tmp_path)
    assert (report.model.parameters, report.model.architecture) == (
        PLAN.parameters,
        "MistralForCausalLM",
    )


# Other doors


def test_a_path_object(tmp_path):
    write_repo(tmp_path, TINY, PLAN)
    assert weighbridge.load(tmp_path).model.parameters == PLAN.parameters


def test_what_is_no_model():
    with pytest.raises(TypeError, match="reference"):
        weighbridge.load(7)


# GGUF


def test_a_file_without_tensors_says_so(tmp_path):
    (tmp_path / "none.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
    with pytest.raises(weighbridge.BadFileError, match=r"none\.gguf: the file has no tensors"):
        weighbridge.load(tmp_path / "none.gguf")


def gguf(path, *, experts=False, split=None):
    w = Writer()
    w.key("general.architecture", w.value("str", "llama"))
    if experts:
        w.key("llama.expert_count", w.value("u32", 8))
        w.key("llama.expert_used_count", w.value("u32", 2))
        w.tensor("blk.0.ffn_up_exps.weight", [64, 32, 8], "Q4_0")
    if split is not None:
        w.key("split.no", w.value("u16", split)).key("split.count", w.value("u16", 2))
    w.tensor(f"blk.{split or 0}.attn_q.weight", [64, 64], "Q8_0")
    path.write_bytes(w.file())
    return path


def test_a_gguf_file_takes_what_its_tensors_take(tmp_path):
    report = weigh(gguf(tmp_path / "model.gguf"))
    assert (report.model.parameters, report.model.architecture) == (4096, "GGUF llama")
    assert report.workload["engine"] == "llama.cpp"
    assert report.devices[0].peak("reserved").expected == 4096 // 32 * 34


def test_active_parameters_of_a_gguf_file(tmp_path):
    report = weigh(gguf(tmp_path / "model.gguf", experts=True))
    assert report.model.parameters == 4096 + 8 * 64 * 32
    assert report.model.active_parameters == 4096 + 2 * 64 * 32


def test_naming_one_part_of_a_split_file_names_all(tmp_path):
    for i in (0, 1):
        gguf(tmp_path / f"m-0000{i + 1}-of-00002.gguf", split=i)
    assert weigh(tmp_path / "m-00002-of-00002.gguf").model.parameters == 2 * 4096


def test_a_folder_of_several_gguf_files_asks_which(tmp_path):
    for name in ("a.Q5_K_M.gguf", "a.Q8_0.gguf"):
        gguf(tmp_path / name)
    with pytest.raises(weighbridge.UsageError, match="Q8_0"):
        weigh(tmp_path)
    gguf(tmp_path / "a.Q4_K_M.gguf")
    assert weigh(tmp_path).model.parameters == 4096


def test_half_of_a_split_file(tmp_path):
    gguf(tmp_path / "m-00001-of-00002.gguf", split=0)
    with pytest.raises(weighbridge.WeighbridgeError, match="00002-of-00002"):
        weigh(tmp_path)


def indexed(folder, config, names, total):
    """A folder with a config and the index of shards that are not there."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    index = {
        "metadata": {"total_size": total},
        "weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors"),
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return resolve(gather(str(folder), GatherOptions()))


def test_an_index_says_how_much_a_class_holds_that_nothing_here_can_build(tmp_path, monkeypatch):
    """Say as many bytes as FLUX.1's transformer has: 11,901,408,320 numbers of 16 bits."""

    def lacking(config):
        raise UnsupportedError("to build it on the meta device: pip install")

    monkeypatch.setattr(torch_modules, "diffusers", lacking)
    config = {"_class_name": "LatteTransformer3DModel"}
    names = ("context_embedder.bias", "proj_out.weight")
    found = indexed(tmp_path / "transformer", config, names, 23_802_816_640)
    assert found.parameters == 11_901_408_320
    assert found.parts[0].blueprint.cls == "LatteTransformer3DModel"
    assert any("23,802,816,640 bytes, taken as numbers of 16 bits" in n for n in found.notes)
    with pytest.raises(UnsupportedError, match="meta device"):
        indexed(tmp_path / "silent", config, names, 0)


T5_CONFIG = {
    "model_type": "t5",
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 128,
    "num_heads": 4,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "vocab_size": 100,
    "is_encoder_decoder": True,
}


@pytest.mark.parametrize(
    ("names", "more", "cls"),
    [
        (("shared.weight", "encoder.block.0.x"), {}, "T5EncoderModel"),
        (("encoder.embed_tokens.weight",), {}, "T5EncoderModel"),
        (("shared.weight", "encoder.x", "decoder.x"), {}, "T5ForConditionalGeneration"),
        (("shared.weight",), {}, "T5ForConditionalGeneration"),
        (("encoder.x",), {"architectures": ["T5Model"]}, "T5Model"),
    ],
)
def test_an_encoder_without_its_decoder(tmp_path, names, more, cls):
    """The second text encoder of FLUX.1, whose config names no class."""
    found = indexed(tmp_path / "text_encoder_2", T5_CONFIG | more, names, 1000)
    assert found.parts[0].blueprint.cls == cls
    held = {p.name.partition(".")[0] for p in found.parts[0].blueprint.counted}
    assert ("decoder" in held) is (cls != "T5EncoderModel")


def test_a_config_of_the_current_folder_has_a_name(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": 12}))
    monkeypatch.chdir(tmp_path)
    names = {weighbridge.load(typed).model.name for typed in ("./config.json", "config.json")}
    assert names == {"config.json"}


def test_a_class_that_nothing_here_can_build_is_told_once(tmp_path, monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(torch_modules, "import_module", absent)
    path = folder(tmp_path, {"config.json": TINY | {"architectures": ["LlamaForSomething"]}})
    with pytest.raises(UnsupportedError, match=r"and \d+ more\); to build it") as caught:
        weigh(path)
    assert str(caught.value).count("not in our tables") == 1
