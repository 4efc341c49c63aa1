"""Folders that contradict themselves: each is refused, or said; and right ones are silent."""

import json

import pytest

import weighbridge
from tests import packings
from tests.hostile.contradictions import adapter, folders, gguf, having, right, whole
from tests.sparse import write_repo
from weighbridge.base.dtypes import BFLOAT16, SAFETENSORS
from weighbridge.base.errors import BadFileError, WeighbridgeError
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config
from weighbridge.models.quantization.declared import declared
from weighbridge.models.quantization.schemes import stored

CASES = dict(folders())


def said(folder):
    """What an answer about a folder says, or why there is none."""
    try:
        return weighbridge.load(folder).warnings
    except WeighbridgeError as error:
        return (str(error),)


@pytest.mark.parametrize("name", [None, *packings.PACKINGS])
def test_a_folder_that_agrees_is_silent(tmp_path, name):
    write_repo(tmp_path, *right(name))
    assert said(tmp_path) == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda config, tensors: None,
        lambda config, tensors: config.update(base_model_name_or_path="/a/b"),
        lambda config, tensors: config.update(base_model_name_or_path=None, target_modules=".*"),
        lambda config, tensors: config.update(
            r=4, rank_pattern={"self_attn.q_proj": 8, "v_proj": 8}
        ),
        lambda config, tensors: config.update(rank_pattern={"^.*q_proj": 8}, r=4),
        lambda config, tensors: config.update(layers_to_transform=list(range(28))),
        having("0.input_layernorm.bias", (1024,)),
        lambda config, tensors: tensors.update(
            {"base_model.model.lm_head.weight": ("F32", (151_936, 1024))}
        ),
        whole("model.embed_tokens", 151_936),
    ],
)
def test_an_adapter_that_agrees_is_silent(tmp_path, change):
    adapter(change)(tmp_path)
    assert said(tmp_path) == ()


DECLARED = {
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 64},
    "gptq, and the head": {"quant_method": "gptq", "bits": 4, "group_size": 64, "lm_head": True},
    "gptq, 8 bit": {"quant_method": "gptq", "bits": 8, "group_size": 128},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemm"},
    "fp8": {"quant_method": "fp8", "weight_block_size": [64, 128]},
    "nf4": {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "int8": {"quant_method": "bitsandbytes", "load_in_8bit": True},
    "nvfp4": {"quant_method": "modelopt", "quant_algo": "NVFP4"},
    "mlx": {"group_size": 32, "bits": 8},
    "left alone": {
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
        "modules_to_not_convert": ["mlp"],
    },
}
MIXTURE = packings.CONFIG | {
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
}


@pytest.mark.parametrize("config", [packings.CONFIG, MIXTURE])
@pytest.mark.parametrize("raw", DECLARED.values(), ids=list(DECLARED))
def test_what_a_format_makes_of_a_class_agrees_with_it(tmp_path, config, raw):
    """Every format that we know the tensors of, experts among them: no false word."""
    plan, names = blueprint(Config(config)), {dtype.name: n for n, dtype in SAFETENSORS.items()}
    made = stored(plan, declared(raw), dtype=BFLOAT16, transformers=4)
    write_repo(
        tmp_path,
        config | {"quantization_config": raw},
        {t.name: (names[t.dtype.name], t.shape) for t in made},
    )
    assert said(tmp_path) == ()


def test_a_gguf_file_that_agrees_is_silent(tmp_path):
    gguf(lambda facts, tensors: None)(tmp_path)
    assert said(tmp_path) == ()


@pytest.mark.parametrize("name", CASES)
def test_a_contradiction_is_said_or_refused(tmp_path, name):
    CASES[name](tmp_path)
    assert said(tmp_path) != ()


def told(folder, name):
    CASES[name](folder)
    return said(folder)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gptq: key heads of fewer", "k_proj.weight (32,768 of 16,384 values)"),
        ("bnb: key heads of fewer", "k_proj.weight (32,768 of 16,384 values)"),
        ("bnb: key heads of more", "k_proj.weight (32,768 of 65,536 values)"),
        ("gptq: undeclared", "14 weights are packed (gptq or awq: model.layers.0.self_attn.q_proj"),
        ("gptq: 8 bits", "gptq-8bit-g128, where layers.0.self_attn.q_proj.weight would be 65,536"),
        ("gptq: groups of 32", "2,048 scales and zero points, and the files have 32,768 bytes"),
        ("gptq: no zero points", "512 scales and zero points, and the files have 32,768 bytes in"),
        ("gptq: awq", "in words of 256 x 32, 512 scales and zero points, and the files have"),
        ("fp8: blocks of 64", "65,536 bytes, 16 scales, and the files have 65,536 bytes, 4 scales"),
        ("gptq: left alone", "leaves model.layers.0.self_attn.q_proj.weight, model.layers.0.self_"),
        ("plain: one tensor of another", "and its files hold 1 under other names (t0)"),
        ("plain: names with a prefix", "all names in the files begin with 'xx'"),
        ("files: a tensor in both shards", "input_layernorm.weight is in more than one file"),
        ("files: a tensor in no map", "input_layernorm.weight is in a shard, and not in it"),
        ("files: a tensor mapped elsewhere", "is in another shard than it says"),
        ("files: a tensor that is nowhere", "layers.9.mlp.up_proj.weight is in no shard"),
        ("files: a total below zero", "total_size is -1, and the shards hold"),
        ("files: a shard in no map", "model-00003-of-00003.safetensors is not loaded with model-0"),
        ("files: all weights beside their shards", "and 1 more are not loaded with model.safeten"),
        ("files: settings of a format in two files", "quantize_config.json: bits is 8, and 4 in"),
        ("adapter: a larger rank", "56 modules: model.layers.0.self_attn.q_proj (8 for 16)"),
        ("adapter: no rank", "model.layers.0.self_attn.q_proj (8 for 0)"),
        ("adapter: fewer modules", "does not name model.layers.0.self_attn.v_proj"),
        ("adapter: more modules", "target_modules names o_proj, of which"),
        ("adapter: ranks of their own", "those of 28 modules: model.layers.0.self_attn.q_proj"),
        ("adapter: some layers", "layers_to_transform lacks layer 10"),
        (
            "adapter: another kind",
            "peft_type is LOHA, and no tensor of the adapter is called hada_",
        ),
        ("adapter: twice as wide", "is for 2,048 x 2,048 values, and Qwen3ForCausalLM has 2,048 x"),
        ("adapter: more layers than its base", "has no model.layers.28.self_attn.q_proj (4 such"),
        ("adapter: one that is wider", "layers.1.self_attn.q_proj is for 2,048 x 2,048 values, an"),
    ],
)
def test_both_sides_are_named(tmp_path, name, words):
    assert words in " ".join(told(tmp_path, name))


def test_a_tensor_of_two_files_is_counted_once(tmp_path):
    CASES["files: a tensor in both shards"](tmp_path / "twice")
    write_repo(tmp_path / "once", packings.CONFIG, packings.plain())
    twice, once = (weighbridge.load(tmp_path / name) for name in ("twice", "once"))
    assert twice.model.stored_bytes == once.model.stored_bytes
    assert twice.peak == once.peak


@pytest.mark.parametrize(
    ("share", "refused"), [(0.49, True), (0.5, False), (2, False), (2.01, True)]
)
def test_files_of_another_model_hold_twice_as_many_values_or_half(tmp_path, share, refused):
    """Other names alone are how a model was called before it was converted."""
    rows = int(packings.PARAMETERS * share)
    write_repo(tmp_path, packings.CONFIG, {"tok.values": ("BF16", (rows,))})
    if refused:
        with pytest.raises(BadFileError, match="they are of another model"):
            weighbridge.load(tmp_path)
    else:
        assert "taken as its own under other names" in said(tmp_path)[0]


@pytest.mark.parametrize(("more", "count"), [(63, 0), (65, 1)])
def test_an_index_may_be_off_by_little(tmp_path, more, count):
    from weighbridge.base.dtypes import FLOAT16
    from weighbridge.models.checkpoint.indexed import differences
    from weighbridge.models.formats.index import parse_index
    from weighbridge.models.tensors import CheckpointTensor

    told = {"metadata": {"total_size": 64 * 64 + more}, "weight_map": {"a": "f"}}
    index = parse_index(json.dumps(told).encode())
    tensors = (CheckpointTensor("a", FLOAT16, (64 * 32,), 64 * 64, "f"),)
    assert len(list(differences("i", index, tensors))) == count
