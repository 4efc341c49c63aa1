"""Each format against the library that makes it: one Linear, or a tiny model through transformers.

A library that is not installed is skipped; all of them run on a CPU.
"""

import pytest

from tests.quantization.models import one, packed, pieces
from weighbridge.base.dtypes import BFLOAT16
from weighbridge.models.quantization.packed import logical
from weighbridge.models.quantization.schemes import scheme, stored
from weighbridge.models.tensors import CheckpointTensor

torch = pytest.importorskip("torch")

UP = "model.layers.0.mlp.up_proj.weight"
SHAPES = [(512, 256), (96, 384), (7, 640)]

pytestmark = pytest.mark.filterwarnings("ignore")


def linear(outputs, inputs):
    return torch.nn.Linear(inputs, outputs, bias=False, dtype=torch.bfloat16)


def facts(tensors):
    """{name: (dtype, shape)} of what a library holds."""
    return {
        name: (str(t.dtype).removeprefix("torch."), tuple(t.shape)) for name, t in tensors.items()
    }


def ours(name, outputs, inputs):
    return pieces(one(outputs, inputs), name, UP)


@pytest.mark.parametrize("shape", [*SHAPES, (3, 5)])
@pytest.mark.parametrize(("name", "nested"), [("nf4", False), ("nf4-dq", True)])
def test_bitsandbytes_four_bit(name, nested, shape):
    bnb = pytest.importorskip("bitsandbytes")
    weight = bnb.nn.Params4bit(
        linear(*shape).weight.data,
        requires_grad=False,
        quant_type="nf4",
        compress_statistics=nested,
    ).to("cpu")
    state = weight.quant_state
    held = {"weight": weight.data, "weight.absmax": state.absmax, "weight.quant_map": state.code}
    if nested:
        held["weight.nested_absmax"] = state.state2.absmax
        held["weight.nested_quant_map"] = state.state2.code
        held["weight.nested_offset"] = state.offset
    assert facts(held) == ours(name, *shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_bitsandbytes_int8(shape):
    bnb = pytest.importorskip("bitsandbytes")
    weight = bnb.nn.Int8Params(
        linear(*shape).weight.data, requires_grad=False, has_fp16_weights=False
    ).to("cpu")
    assert facts({"weight": weight.data, "SCB": weight.SCB}) == ours("bnb-int8", *shape)


@pytest.mark.parametrize("shape", [*SHAPES[:2], (16, 640)])
@pytest.mark.parametrize(("bits", "group"), [(8, 64), (4, 64), (4, 128), (3, 64), (2, 64), (1, 64)])
def test_hqq(bits, group, shape):
    hqq = pytest.importorskip("hqq.core.quantize")
    layer = hqq.HQQLinear(
        linear(*shape),
        hqq.BaseQuantizeConfig(nbits=bits, group_size=group, axis=1),
        compute_dtype=torch.bfloat16,
        device="cpu",
    )
    held = {"W_q": layer.W_q, "scale": layer.meta["scale"], "zero": layer.meta["zero"]}
    assert facts(held) == ours(f"hqq-{bits}bit-g{group}", *shape)


@pytest.mark.parametrize("shape", [*SHAPES[:2], (16, 640), (64, 80), (64, 96), (64, 200)])
@pytest.mark.parametrize("name", ["int8", "int4", "int2", "float8"])
def test_quanto(name, shape):
    quanto = pytest.importorskip("optimum.quanto")
    kinds = {
        "int8": quanto.qint8,
        "int4": quanto.qint4,
        "int2": quanto.qint2,
        "float8": quanto.qfloat8,
    }
    outputs, inputs = shape
    layer = quanto.QLinear(
        inputs, outputs, bias=False, weights=kinds[name], dtype=torch.bfloat16, device="cpu"
    )
    torch.nn.init.normal_(layer.weight)
    layer.freeze()
    assert facts(layer.state_dict()) == ours(f"quanto-{name}", *shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("name", "config"),
    [("torchao-int8", "Int8WeightOnlyConfig"), ("torchao-fp8", "Float8WeightOnlyConfig")],
)
def test_torchao(name, config, shape):
    api = pytest.importorskip("torchao.quantization")
    model = torch.nn.Sequential(linear(*shape))
    api.quantize_(model, getattr(api, config)())
    weight = model[0].weight
    names = [*weight.tensor_data_names, *getattr(weight, "optional_tensor_data_names", ())]
    held = {f"_weight_{n}": getattr(weight, n) for n in names if getattr(weight, n) is not None}
    assert facts(held) == ours(name, *shape)


def compressed(shape, arguments, *, activations=None):
    """The state of a Linear after compressed-tensors has compressed it."""
    ct = pytest.importorskip("compressed_tensors")
    quantization = pytest.importorskip("compressed_tensors.quantization")
    lifecycle = pytest.importorskip("compressed_tensors.quantization.lifecycle.initialize")
    weights = quantization.QuantizationArgs(**arguments)
    plan = quantization.QuantizationScheme(
        targets=["Linear"], weights=weights, input_activations=activations
    )
    layer = linear(*shape)
    lifecycle.initialize_module_for_quantization(layer, plan, force_zero_point=False)
    for name, parameter in layer.named_parameters():
        if "scale" in name:
            parameter.data.fill_(1.0)
    name = ct.compressors.format.infer_module_format(torch.nn.Linear, plan)
    compressor = ct.compressors.base.BaseCompressor.get_value_from_registry(str(name.value))
    return facts(compressor.compress(dict(layer.state_dict()), plan))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("bits", "group"), [(4, 128), (4, 32), (8, None)])
def test_compressed_tensors_packs_integers(bits, group, shape):
    strategy = "group" if group else "channel"
    arguments = {"num_bits": bits, "group_size": group, "strategy": strategy, "type": "int"}
    held = compressed(shape, {**arguments, "symmetric": True})
    name = f"w{bits}a16-g{group}" if group else f"w{bits}a16"
    assert held == ours(name, *shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_compressed_tensors_packs_mxfp4(shape):
    arguments = {"num_bits": 4, "group_size": 32, "strategy": "group", "type": "float"}
    held = compressed(shape, {**arguments, "symmetric": True, "scale_dtype": torch.uint8})
    assert held == ours("mxfp4", *shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_compressed_tensors_packs_mxfp8(shape):
    arguments = {"num_bits": 8, "group_size": 32, "strategy": "group", "type": "float"}
    held = compressed(shape, {**arguments, "symmetric": True, "scale_dtype": torch.uint8})
    assert held == ours("mxfp8", *shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_compressed_tensors_packs_nvfp4(shape):
    quantization = pytest.importorskip("compressed_tensors.quantization")
    arguments = {
        "num_bits": 4,
        "group_size": 16,
        "strategy": "tensor_group",
        "type": "float",
        "symmetric": True,
        "scale_dtype": torch.float8_e4m3fn,
    }
    activations = quantization.QuantizationArgs(**arguments, dynamic="local")
    assert compressed(shape, arguments, activations=activations) == ours("nvfp4", *shape)


@pytest.mark.parametrize("shape", [(512, 256), (200, 300)])
def test_fp8_of_transformers(shape):
    fp8 = pytest.importorskip("transformers.integrations.finegrained_fp8")
    outputs, inputs = shape
    layer = fp8.FP8Linear(inputs, outputs, block_size=(128, 128))
    assert facts(dict(layer.named_parameters())) == ours("fp8-block", *shape)


def tiny(model_type, **more):
    """(the class on the meta device, our blueprint of the same config)."""
    transformers = pytest.importorskip("transformers")
    from tests.torch.oracle import ours as blueprint

    raw = {
        "model_type": model_type,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": 320,
        **more,
    }
    config = transformers.AutoConfig.for_model(**raw)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    return model, blueprint({**raw, "architectures": [type(model).__name__]})


MODELS = {
    "llama": {"tie_word_embeddings": False},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "tie_word_embeddings": False,
    },
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "tie_word_embeddings": False},
}


@pytest.mark.parametrize("model_type", MODELS)
def test_bitsandbytes_replaces_the_modules_that_we_pack(model_type):
    bnb = pytest.importorskip("bitsandbytes")
    transformers = pytest.importorskip("transformers")
    from transformers.integrations import replace_with_bnb_linear
    from transformers.quantizers.base import get_keys_to_not_convert

    model, plan = tiny(model_type, **MODELS[model_type])
    config = transformers.BitsAndBytesConfig(load_in_4bit=True)
    skip = get_keys_to_not_convert(model)
    replace_with_bnb_linear(model, modules_to_not_convert=skip, quantization_config=config)
    replaced = {
        f"{name}.weight" for name, m in model.named_modules() if isinstance(m, bnb.nn.Linear4bit)
    }
    assert packed(plan, "nf4") == replaced


CLASSES = [
    ("bert", "BertForSequenceClassification", {"intermediate_size": 256}),
    ("bert", "BertForMaskedLM", {"intermediate_size": 256}),
    ("gpt2", "GPT2LMHeadModel", {"n_embd": 128, "n_layer": 2, "n_head": 4}),
    ("t5", "T5ForConditionalGeneration", {"d_model": 128, "num_layers": 2, "d_ff": 256}),
    ("llama", "LlamaForSequenceClassification", {"intermediate_size": 256}),
    ("opt", "OPTForCausalLM", {"ffn_dim": 256, "word_embed_proj_dim": 128}),
]


@pytest.mark.parametrize(("model_type", "cls", "more"), CLASSES)
def test_bitsandbytes_on_other_classes(model_type, cls, more):
    bnb = pytest.importorskip("bitsandbytes")
    transformers = pytest.importorskip("transformers")
    from transformers.integrations import replace_with_bnb_linear
    from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

    from tests.torch import oracle

    raw = {
        "model_type": model_type,
        "architectures": [cls],
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 320,
        **more,
    }
    model = oracle.build(raw)
    config = transformers.BitsAndBytesConfig(load_in_4bit=True)
    skip = Bnb4BitHfQuantizer.get_modules_to_not_convert(model, None, model._keep_in_fp32_modules)
    replace_with_bnb_linear(model, modules_to_not_convert=skip, quantization_config=config)
    replaced = {
        f"{name}.weight" for name, m in model.named_modules() if isinstance(m, bnb.nn.Linear4bit)
    }
    assert packed(oracle.ours(raw), "nf4") == replaced


@pytest.mark.parametrize("model_type", MODELS)
def test_quanto_replaces_the_modules_that_we_pack(model_type):
    quanto = pytest.importorskip("optimum.quanto")
    transformers = pytest.importorskip("transformers")
    from transformers.integrations import replace_with_quanto_layers
    from transformers.quantizers.base import get_keys_to_not_convert

    model, plan = tiny(model_type, **MODELS[model_type])
    skip = get_keys_to_not_convert(model)
    replace_with_quanto_layers(
        model,
        modules_to_not_convert=skip,
        quantization_config=transformers.QuantoConfig(weights="int8"),
    )
    replaced = {
        f"{name}.weight" for name, m in model.named_modules() if isinstance(m, quanto.QLinear)
    }
    assert packed(plan, "quanto-int8") == replaced


@pytest.mark.parametrize("model_type", MODELS)
def test_hqq_marks_the_modules_that_we_pack(model_type):
    pytest.importorskip("hqq.core.quantize")
    transformers = pytest.importorskip("transformers")
    from transformers.integrations import prepare_for_hqq_linear

    model, plan = tiny(model_type, **MODELS[model_type])
    prepare_for_hqq_linear(model, quantization_config=transformers.HqqConfig(nbits=4))
    marked = {f"{name}.weight" for name, m in model.named_modules() if "quant_config" in vars(m)}
    assert packed(plan, "hqq-4bit-g64") == marked


def test_a_real_four_bit_state_dict_is_read_back():
    bnb = pytest.importorskip("bitsandbytes")
    layer = bnb.nn.Linear4bit(256, 512, bias=True, quant_type="nf4", compress_statistics=True)
    state = layer.to("cpu").state_dict()
    tensors = [
        CheckpointTensor(name, _dtype(t), tuple(t.shape), t.numel() * t.element_size())
        for name, t in state.items()
    ]
    found = logical(tensors, None)
    assert sum(p.numel for p in found.params) == 512 * 256 + 512
    assert not found.notes


def _dtype(t):
    from weighbridge.models.tensors import torch_dtype

    return torch_dtype(str(t.dtype), "state dict")


@pytest.mark.parametrize("name", ["Q8_0", "Q4_K_S", "Q6_K", "IQ4_XS"])
def test_gguf_py_agrees_on_the_bytes(name):
    gguf = pytest.importorskip("gguf")
    (t,) = (t for t in stored(one(512, 768), scheme(name), dtype=BFLOAT16) if t.source == UP)
    kind = gguf.GGMLQuantizationType[t.dtype.name]
    shape = gguf.quant_shape_to_byte_shape((512, 768), kind)
    assert t.nbytes == shape[0] * shape[1]
