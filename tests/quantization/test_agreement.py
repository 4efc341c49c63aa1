"""Configs and files that say different things of how the weights are packed."""

from enum import Enum

import pytest

import weighbridge
from tests import packings
from tests.cases import all_of
from tests.sparse import write_repo
from weighbridge.base.dtypes import BFLOAT16
from weighbridge.base.errors import BadFileError
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config
from weighbridge.models.quantization.declared import declared
from weighbridge.models.quantization.integers import group_of
from weighbridge.models.quantization.on_load import arguments, written
from weighbridge.models.quantization.schemes import stored

PLAN = blueprint(Config(packings.CONFIG))
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}
BNB = {"quant_method": "bitsandbytes", "bnb_4bit_quant_type": "nf4"}


def scales(raw):
    """Numbers in the scales of all matrices, by the format that the config declares."""
    found = stored(PLAN, declared(raw), dtype=BFLOAT16)
    return sum(s.nbytes for s in found if s.name.endswith("_scale_inv")) // 4


@pytest.mark.parametrize(("rows", "columns"), [(128, 128), (1, 32), (1, 1), (64, 256)])
def test_blocks_of_fp8_are_of_the_size_that_the_config_says(rows, columns):
    per_layer = sum(-(-o // rows) * -(-i // columns) for o, i in packings.MATRICES.values())
    raw = {"quant_method": "fp8", "weight_block_size": [rows, columns]}
    assert scales(raw) == packings.LAYERS * per_layer
    weights = {"num_bits": 8, "type": "float", "strategy": "block"}
    for spelled in ([rows, columns], f"{rows}x{columns}"):
        group = {"weights": weights | {"block_structure": spelled}}
        assert scales({"quant_method": "compressed-tensors", "config_groups": {"a": group}}) == (
            packings.LAYERS * per_layer
        )


@all_of("size", [[0, 128], [128], "x", [128, 128.5], [], 128, [True, 1]])
def test_blocks_that_are_none(size):
    with pytest.raises(BadFileError, match=r"weight_block_size is .*two numbers"):
        declared({"quant_method": "fp8", "weight_block_size": size})


@pytest.mark.parametrize(
    ("change", "said"),
    [({"bits": 0}, "bits is 0"), ({"bits": "4"}, "bits is '4'"), ({"bits": 5}, "gptq-5bit-g128")],
)
def test_bits_that_are_none(change, said):
    with pytest.raises(BadFileError, match=said):
        declared(GPTQ | change)
    assert declared(GPTQ | {"bits": None}).name == "gptq-4bit-g128"


def test_a_head_is_packed_where_a_config_says_so():
    form = declared(GPTQ | {"lm_head": True})
    names = {t.name for t in stored(PLAN, form, dtype=BFLOAT16, transformers=5)}
    assert {"lm_head.qweight", "model.layers.1.mlp.up_proj.qweight"} <= names
    assert names & {"lm_head.weight", "model.embed_tokens.qweight"} == set()
    assert group_of(form.name) == 128


def test_a_group_of_nothing():
    with pytest.raises(BadFileError, match="group_size is 0"):
        declared(GPTQ | {"group_size": 0})
    assert declared(GPTQ | {"group_size": -1}).name == "gptq-4bit-g-1"
    assert declared(GPTQ | {"lm_head": False}).name == "gptq-4bit-g128"
    assert declared(GPTQ | {"lm_head": True}).name == "gptq-4bit-g128-head"


@pytest.mark.parametrize("four", [True, False])
@pytest.mark.parametrize("eight", [True, False])
def test_four_and_eight_bits_at_once(four, eight):
    raw = BNB | {"load_in_4bit": four, "load_in_8bit": eight}
    if four and eight:
        with pytest.raises(BadFileError, match="so is load_in_8bit"):
            declared(raw)
    else:
        assert declared(raw).name == ("bnb-int8" if eight else "nf4")


def load(folder, tensors, quantization=None):
    more = {} if quantization is None else {"quantization_config": quantization}
    write_repo(folder, packings.CONFIG | more, tensors)
    return weighbridge.load(folder)


def test_a_format_that_no_tensor_is_in(tmp_path):
    """The tensors rule: 16 bit a weight, not 4."""
    plain = load(tmp_path / "plain", packings.plain())
    assert not plain.warnings
    for number, raw in enumerate((GPTQ, BNB, {"quant_method": "fp8"})):
        found = load(tmp_path / str(number), packings.plain(), raw)
        assert f"declares {raw['quant_method']!r} and no tensor" in found.warnings[0]
        assert (found.peak, found.workload["quantization"]) == (plain.peak, None)
    packed = load(tmp_path / "packed", packings.pack(packings.gptq), GPTQ)
    assert not packed.warnings
    assert packed.workload["quantization"] == "gptq-4bit-g128"


def test_fp8_of_which_no_config_says_how_it_was_scaled(tmp_path):
    (said,) = load(tmp_path / "a", packings.plain("F8_E4M3")).warnings
    assert "are packed (fp8: model.embed_tokens.weight) and the config has no quant" in said
    scaled = packings.pack(packings.fp8_tensor)
    assert not load(tmp_path / "b", scaled, {"quant_method": "fp8"}).warnings


@pytest.mark.parametrize("dtype", ["I8", "U8", "I32", "I64", "BOOL"])
def test_weights_of_whole_numbers(tmp_path, dtype):
    (said,) = load(tmp_path, packings.plain(dtype)).warnings
    assert "nothing says what they stand for" in said


def test_a_config_in_memory_names_its_method_by_an_enum():
    method = Enum("QuantizationMethod", {"BITS_AND_BYTES": "bitsandbytes"}, type=str)
    raw = {"quant_method": method.BITS_AND_BYTES, "load_in_4bit": True}
    assert declared(raw).name == declared(raw | {"quant_method": "bitsandbytes"}).name == "fp4"


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("torchao-int4-g128", ("Int4WeightOnlyConfig(group_size=128)",)),
        ("quanto-int8", ('weights="int8"',)),
        ("bnb-int8", ("load_in_8bit=True",)),
    ],
)
def test_a_config_is_called_as_python_writes_it(form, said):
    assert arguments(written(form, "bfloat16")) == said


def test_packed_weights_may_be_stored_as_floats():
    told = arguments(written("nf4", "float16"), "bfloat16")
    assert told[-2:] == (
        "bnb_4bit_compute_dtype=torch.float16",
        "bnb_4bit_quant_storage=torch.bfloat16",
    )
