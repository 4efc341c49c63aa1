"""Configs so small that any question about them takes a hundredth of a second, by name."""

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 2048,
}
NAMED = {"architectures": ["LlamaForCausalLM"], **LLAMA, "torch_dtype": "bfloat16"}
CONFIGS = {
    "llama": NAMED,
    "wide": {  # as wide as kernels want it, of three layers
        **NAMED,
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_hidden_layers": 3,
        "vocab_size": 2048,
        "max_position_embeddings": 4096,
    },
    "first": {  # as the first ones were published: as many heads of keys, and no lengths or dtypes
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 1000,
    },
}


def config(name, **changes):
    """Return a config of that name with other values; None leaves a key out."""
    made = {**CONFIGS[name], **changes}
    return {key: value for key, value in made.items() if value is not None}
