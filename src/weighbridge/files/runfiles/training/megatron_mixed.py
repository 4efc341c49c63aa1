"""The model of a hybrid run of Megatron-LM, whose layers are a letter each.

    M-M*-|M-M*-       M Mamba 2, * attention, - a feed-forward, E experts; | parts of a pipeline

It is described as Nemotron-H is, which is such a model.
Source: Megatron-LM d98e8a6 megatron/training/arguments.py (hybrid_layer_pattern),
core/transformer/transformer_config.py (mamba_*), core/ssm/mamba_mixer.py.
"""

from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles.reading import KeyReading
from weighbridge.files.runfiles.record import Value
from weighbridge.models.arch.families.mamba_hybrid import NEMOTRON_H, TYPES
from weighbridge.training.megatron.model import ATTENDS, EXPERTS, FEEDS, MAMBA

TYPE = next(name for name, kind in TYPES.items() if kind.family is NEMOTRON_H)
LETTERS = {MAMBA, ATTENDS, FEEDS, EXPERTS}
PATTERNS = ("hybrid_layer_pattern", "hybrid_override_pattern")  # the second is older
ENDS = "|"
EXPAND, KERNEL = 2, 4  # MambaMixer's defaults
USUAL = {"mamba_state_dim": 128, "mamba_head_dim": 64, "mamba_num_groups": 8}
OF_MODEL = (  # arguments that say more of the config
    *("hidden_size", "num_layers", "num_attention_heads", "kv_channels", "ffn_hidden_size"),
    *(
        "group_query_attention",
        "num_query_groups",
        "disable_bias_linear",
        "max_position_embeddings",
    ),
    *("untie_embeddings_and_output_weights", "normalization", "position_embedding_type", "spec"),
    *("is_hybrid_model", "num_experts", "moe_router_topk", "moe_ffn_hidden_size", "squared_relu"),
    *("moe_shared_expert_intermediate_size", "mamba_num_heads", *USUAL, *PATTERNS),
)


def pattern(keys: KeyReading) -> str:
    """Return the letters of all layers, with marks between pipeline stages; "" without a
    pattern."""
    return next((text for name in PATTERNS if (text := keys.text(name))), "")


def refused(keys: KeyReading) -> str | None:
    """Return why a hybrid run has no estimate; None if it has one, or is not hybrid."""
    letters = pattern(keys)
    if not letters:
        if keys.on("is_hybrid_model"):
            return "a hybrid model without --hybrid-layer-pattern is not weighed"
        return None
    other = set(letters) - LETTERS - {ENDS}
    if other:
        return f"hybrid layers of the kind {min(other)} are not weighed yet"
    if keys.on("swiglu"):
        return "hybrid layers with a gate in their feed-forward are not weighed yet"
    if keys.on("multi_latent_attention"):
        return "hybrid layers with latent attention are not weighed yet"
    return None


def layout(keys: KeyReading) -> str:
    """Return the layers of each pipeline stage, as Megatron spells them for other models; "" if the
    pattern has no stages."""
    parts = pattern(keys).split(ENDS)
    return "E" + ENDS.join("t" * len(part) for part in parts) + "L" if len(parts) > 1 else ""


def config(keys: KeyReading, words: int) -> dict[str, Value]:
    """Return the transformers config of the model that the arguments describe."""
    letters = pattern(keys).replace(ENDS, "")
    width, heads = _number(keys, "hidden_size", 0), _number(keys, "num_attention_heads", 1)
    mamba = {name: _number(keys, name, usual) for name, usual in USUAL.items()}
    groups = keys.value("num_query_groups", 1) if keys.on("group_query_attention") else heads
    if not keys.on("disable_bias_linear") or keys.text("normalization") != "RMSNorm":
        keys.notes.append(sentence("megatron.biases"))
    feed = _number(keys, "ffn_hidden_size", 4 * width)
    fields: dict[str, Value] = {
        "model_type": TYPE,
        "architectures": [NEMOTRON_H.cls],
        "_name_or_path": f"hybrid of {len(letters)} layers, {width} wide",
        "hybrid_override_pattern": letters,
        "num_hidden_layers": len(letters),
        "hidden_size": width,
        "intermediate_size": feed,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "head_dim": keys.value("kv_channels", width // max(1, heads)),
        "mamba_head_dim": mamba["mamba_head_dim"],
        "mamba_num_heads": _number(
            keys, "mamba_num_heads", EXPAND * width // mamba["mamba_head_dim"]
        ),
        "ssm_state_size": mamba["mamba_state_dim"],
        "n_groups": mamba["mamba_num_groups"],
        "conv_kernel": KERNEL,
        "use_conv_bias": True,
        "use_bias": False,
        "mlp_bias": False,
        "attention_bias": False,
        "share_embeddings_and_output_weights": not keys.on("untie_embeddings_and_output_weights"),
        "vocab_size": words,
    }
    if EXPERTS in letters:
        fields |= {
            "n_routed_experts": _number(keys, "num_experts", 0),
            "num_experts_per_tok": _number(keys, "moe_router_topk", 2),
            "moe_intermediate_size": _number(keys, "moe_ffn_hidden_size", feed),
            "moe_shared_expert_intermediate_size": _number(
                keys, "moe_shared_expert_intermediate_size", 0
            ),
        }
    for name in OF_MODEL:
        if keys.value(name) is not None:
            keys.knows(name, "model")
    return fields


def _number(keys: KeyReading, name: str, usual: int) -> int:
    value = keys.value(name)
    return value if isinstance(value, int) and value > 0 else usual
