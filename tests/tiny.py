"""A config so small that any question about it takes a hundredth of a second."""

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
