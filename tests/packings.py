"""A small Llama as each quantization tool leaves it on disk, tensor by tensor.

    layout(name) -> (quantization_config or None, {tensor: (dtype of safetensors, shape)})

Layouts are those of the writers: AutoGPTQ/GPTQModel, AutoAWQ, bitsandbytes, compressed-tensors,
ModelOpt, DeepSeek's FP8, HQQ, mlx-lm (`PACKINGS` is the table).
"""

HIDDEN, INNER, HEADS, KV_HEADS, LAYERS, VOCAB = 256, 512, 4, 2, 2, 1000
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
KV = HIDDEN // HEADS * KV_HEADS
MATRICES = {  # of one block: (outputs, inputs)
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KV, HIDDEN),
    "self_attn.v_proj": (KV, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}
PACKED = LAYERS * sum(o * i for o, i in MATRICES.values())  # weights that a format packs
LEFT = 2 * VOCAB * HIDDEN + (2 * LAYERS + 1) * HIDDEN  # embedding, head and norms
PARAMETERS = PACKED + LEFT


def whole(dtype="BF16"):
    """What formats leave alone."""
    found = {"model.embed_tokens.weight": (dtype, (VOCAB, HIDDEN))}
    for layer in range(LAYERS):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            found[f"model.layers.{layer}.{norm}.weight"] = (dtype, (HIDDEN,))
    return found | {
        "model.norm.weight": (dtype, (HIDDEN,)),
        "lm_head.weight": (dtype, (VOCAB, HIDDEN)),
    }


def plain(dtype="BF16"):
    return pack(lambda o, i: {"weight": (dtype, (o, i))}, dtype)


def pack(piece, dtype="BF16"):
    """`piece(outputs, inputs)` says what one matrix becomes."""
    found = whole(dtype)
    for layer in range(LAYERS):
        for name, (o, i) in MATRICES.items():
            for end, tensor in piece(o, i).items():
                found[f"model.layers.{layer}.{name}.{end}"] = tensor
    return found


def gptq(o, i):
    return {
        "qweight": ("I32", (i // 8, o)),
        "qzeros": ("I32", (i // 128, o // 8)),
        "scales": ("F16", (i // 128, o)),
        "g_idx": ("I32", (i,)),
    }


def gptq_8bit(o, i):
    return gptq(o, i) | {
        "qweight": ("I32", (i // 4, o)),
        "qzeros": ("I32", (i // 128, o // 4)),
    }


def gptq_3bit(o, i):
    return gptq(o, i) | {
        "qweight": ("I32", (i * 3 // 32, o)),
        "qzeros": ("I32", (i // 128, o * 3 // 32)),
    }


def awq(o, i):
    return {
        "qweight": ("I32", (i, o // 8)),
        "qzeros": ("I32", (i // 128, o // 8)),
        "scales": ("F16", (i // 128, o)),
    }


def bnb_int8(o, i):
    return {"weight": ("I8", (o, i)), "SCB": ("F32", (o,)), "weight_format": ("U8", ())}


def nf4(o, i):
    return {
        "weight": ("U8", (o * i // 2, 1)),
        "weight.absmax": ("F32", (o * i // 64,)),
        "weight.quant_map": ("F32", (16,)),
        "weight.quant_state.bitsandbytes__nf4": ("U8", (85,)),
    }


def nf4_double(o, i):
    return {
        "weight": ("U8", (o * i // 2, 1)),
        "weight.absmax": ("U8", (o * i // 64,)),
        "weight.nested_absmax": ("F32", (o * i // 64 // 256,)),
        "weight.nested_quant_map": ("F32", (256,)),
        "weight.quant_map": ("F32", (16,)),
        "weight.quant_state.bitsandbytes__nf4": ("U8", (171,)),
    }


def fp8_tensor(o, i):
    return {
        "weight": ("F8_E4M3", (o, i)),
        "weight_scale": ("F32", ()),
        "input_scale": ("F32", ()),
    }


def fp8_channel(o, i):
    return {"weight": ("F8_E4M3", (o, i)), "weight_scale": ("BF16", (o, 1))}


def fp8_block(o, i):
    return {
        "weight": ("F8_E4M3", (o, i)),
        "weight_scale_inv": ("F32", (-(-o // 128), -(-i // 128))),
    }


def ct_int4(o, i):
    return {
        "weight_packed": ("I32", (o, i // 8)),
        "weight_scale": ("BF16", (o, i // 128)),
        "weight_shape": ("I64", (2,)),
    }


def ct_int4_asymmetric(o, i):
    zeros = {"weight_zero_point": ("I32", (o // 8, i // 128))}
    return ct_int4(o, i) | zeros | {"weight_g_idx": ("I32", (i,))}


def ct_nvfp4(o, i):
    return {
        "weight_packed": ("U8", (o, i // 2)),
        "weight_scale": ("F8_E4M3", (o, i // 16)),
        "weight_global_scale": ("F32", (1,)),
        "input_global_scale": ("F32", (1,)),
    }


def modelopt_nvfp4(o, i):
    return {
        "weight": ("U8", (o, i // 2)),
        "weight_scale": ("F8_E4M3", (o, i // 16)),
        "weight_scale_2": ("F32", ()),
        "input_scale": ("F32", ()),
    }


def mlx(o, i):
    groups = dict.fromkeys(("scales", "biases"), ("BF16", (o, i // 64)))
    return {"weight": ("U32", (o, i // 8))} | groups


def hqq(o, i):
    return {
        "W_q": ("U8", (o * i // 2 // 64, 64)),
        "scale": ("BF16", (o * i // 64, 1)),
        "zero": ("BF16", (o * i // 64, 1)),
    }


def mlx_tensors():
    """mlx quantizes the embedding and the head as well."""
    ends = mlx(VOCAB, HIDDEN).items()
    tables = {f"{table}.{end}": t for table in ("model.embed_tokens", "lm_head") for end, t in ends}
    return pack(mlx) | tables


def compressed(form, weights):
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "ignore": ["lm_head"],
        "config_groups": {"group_0": group},
        "quantization_status": "compressed",
    }


def integers(bits, **more):
    return {"num_bits": bits, "type": "int", "strategy": "group", "group_size": 128, **more}


def gptq_config(bits):
    return {"quant_method": "gptq", "bits": bits, "group_size": 128, "desc_act": False, "sym": True}


def bnb_config(**more):
    return {"quant_method": "bitsandbytes", **more}


NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
E4M3 = {"num_bits": 8, "type": "float", "strategy": "channel"}
E2M1 = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
PACKINGS = {
    "gptq 4-bit": (gptq_config(4), pack(gptq, "F16")),
    "gptq 8-bit": (gptq_config(8), pack(gptq_8bit, "F16")),
    "gptq 3-bit": (gptq_config(3), pack(gptq_3bit, "F16")),
    "awq": (
        {
            "quant_method": "awq",
            "bits": 4,
            "group_size": 128,
            "version": "gemm",
            "zero_point": True,
        },
        pack(awq, "F16"),
    ),
    "bnb int8": (bnb_config(load_in_8bit=True), pack(bnb_int8, "F16")),
    "bnb nf4": (bnb_config(**NF4), pack(nf4)),
    "bnb nf4, double": (bnb_config(**NF4, bnb_4bit_use_double_quant=True), pack(nf4_double)),
    "fp8 per tensor": ({"quant_method": "fp8", "activation_scheme": "static"}, pack(fp8_tensor)),
    "fp8 per block": (
        {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
        pack(fp8_block),
    ),
    "compressed-tensors fp8": (compressed("float-quantized", E4M3), pack(fp8_channel)),
    "compressed-tensors int4": (compressed("pack-quantized", integers(4)), pack(ct_int4)),
    "compressed-tensors int4, zero points": (
        compressed("pack-quantized", integers(4, symmetric=False, actorder="group")),
        pack(ct_int4_asymmetric),
    ),
    "compressed-tensors nvfp4": (compressed("nvfp4-pack-quantized", E2M1), pack(ct_nvfp4)),
    "modelopt nvfp4": (
        {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]},
        pack(modelopt_nvfp4),
    ),
    "hqq": (
        {
            "quant_method": "hqq",
            "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}},
        },
        pack(hqq),
    ),
    "mlx": ({"group_size": 64, "bits": 4}, mlx_tensors()),
}


def config(name):
    """The config.json of a packing; mlx-lm writes its key twice."""
    quantization = PACKINGS[name][0]
    both = {"quantization": quantization} if name == "mlx" else {}
    return CONFIG | both | {"quantization_config": quantization}


# A mixture of experts as gpt-oss keeps it

EXPERTS, TOP = 4, 2
GPT_OSS = {
    "model_type": "gpt_oss",
    "architectures": ["GptOssForCausalLM"],
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": 1,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": 64,
    "num_local_experts": EXPERTS,
    "num_experts_per_tok": TOP,
    "attention_bias": True,
    "tie_word_embeddings": False,
    "layer_types": ["full_attention"],
    "quantization_config": {
        "quant_method": "mxfp4",
        "modules_to_not_convert": [
            "model.layers.*.self_attn",
            "model.layers.*.mlp.router",
            "lm_head",
        ],
    },
}
GPT_OSS_EXPERT = 2 * INNER * HIDDEN + 2 * INNER + HIDDEN * INNER + HIDDEN  # weights and biases


def gpt_oss():
    """Blocks of 32 values in 16 bytes, one byte of scale each; attention sinks, biases."""
    at, wide = "model.layers.0.", 2 * INNER
    found = {
        "model.embed_tokens.weight": ("BF16", (VOCAB, HIDDEN)),
        "model.norm.weight": ("BF16", (HIDDEN,)),
        "lm_head.weight": ("BF16", (VOCAB, HIDDEN)),
        at + "input_layernorm.weight": ("BF16", (HIDDEN,)),
        at + "post_attention_layernorm.weight": ("BF16", (HIDDEN,)),
        at + "self_attn.sinks": ("BF16", (HEADS,)),
        at + "mlp.router.weight": ("BF16", (EXPERTS, HIDDEN)),
        at + "mlp.router.bias": ("BF16", (EXPERTS,)),
        at + "mlp.experts.gate_up_proj_blocks": ("U8", (EXPERTS, wide, HIDDEN // 32, 16)),
        at + "mlp.experts.gate_up_proj_scales": ("U8", (EXPERTS, wide, HIDDEN // 32)),
        at + "mlp.experts.gate_up_proj_bias": ("BF16", (EXPERTS, wide)),
        at + "mlp.experts.down_proj_blocks": ("U8", (EXPERTS, HIDDEN, INNER // 32, 16)),
        at + "mlp.experts.down_proj_scales": ("U8", (EXPERTS, HIDDEN, INNER // 32)),
        at + "mlp.experts.down_proj_bias": ("BF16", (EXPERTS, HIDDEN)),
    }
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        o, i = MATRICES[f"self_attn.{name}"]
        found[f"{at}self_attn.{name}.weight"] = ("BF16", (o, i))
        found[f"{at}self_attn.{name}.bias"] = ("BF16", (o,))
    return found


GPT_OSS_PARAMETERS = (
    2 * VOCAB * HIDDEN
    + 3 * HIDDEN
    + HEADS
    + (EXPERTS * HIDDEN + EXPERTS)
    + sum(o * i + o for name, (o, i) in MATRICES.items() if name.startswith("self_attn"))
    + EXPERTS * GPT_OSS_EXPERT
)
