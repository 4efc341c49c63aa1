"""Small configs of decoders, and the comparison of a step of each with the real class."""

from tests.torch.training_oracle import differences, ours, real

CLOSE = 0.006  # ids and labels, some 8 bytes a token, are made a moment earlier there
SHARED = {"num_hidden_layers": 2, "num_attention_heads": 8, "vocab_size": 512}
SMALL = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    **SHARED,
}
OLD = {"n_embd": 128, "n_layer": 2, "n_head": 8, "n_positions": 512, "vocab_size": 512}
WINDOW = {"sliding_window": 50}
GEMMA = {**SMALL, **WINDOW, "head_dim": 32, "query_pre_attn_scalar": 32}
TWO_KINDS = {"layer_types": ["sliding_attention", "full_attention"]}
CONFIGS = {
    "llama": SMALL,
    "qwen2": SMALL,
    "qwen3": {**SMALL, "head_dim": 32},
    "mistral": {**SMALL, **WINDOW, "head_dim": 16},
    "gemma": {**SMALL, "head_dim": 32},
    "gemma2": GEMMA,
    "gemma3_text": {**GEMMA, **TWO_KINDS},
    "gpt2": OLD,
    "gpt_bigcode": OLD,
    "gptj": {**OLD, "rotary_dim": 8},
    "gpt_neox": {**SMALL, "rotary_pct": 0.25},
    "phi3": {**SMALL, "pad_token_id": 0},
    "phi": SMALL,
    "stablelm": SMALL,
    "starcoder2": SMALL,
    "cohere": SMALL,
    "cohere2": {**SMALL, **WINDOW},
    "olmo": SMALL,
    "olmo2": SMALL,
    "opt": {"hidden_size": 128, "ffn_dim": 384, "word_embed_proj_dim": 128, **SHARED},
    "bloom": {"hidden_size": 128, "n_layer": 2, "n_head": 8, "vocab_size": 512},
    "glm4": {**SMALL, "head_dim": 16, "pad_token_id": 0},
    "smollm3": {**SMALL, "pad_token_id": 0},
    "granite": SMALL,
    "cwm": {**SMALL, **WINDOW, "head_dim": 16},
    "internlm3": SMALL,
    "jais2": SMALL,
    "ministral3": {**SMALL, "head_dim": 16},
    "ernie4_5": {**SMALL, "head_dim": 16},
    "exaone4": {**SMALL, **WINDOW, "head_dim": 16},
    "helium": {**SMALL, "head_dim": 16},
    "nemotron": {**SMALL, "head_dim": 16},
}


def same(kind, **settings):
    settings = {"seq_len": 128, **settings}
    if kind == "opt":
        settings["head_reads"] = "model.decoder"
    config = CONFIGS[kind]
    found = differences(real(kind, config, **settings), ours(kind, config, **settings), close=CLOSE)
    assert found == []
