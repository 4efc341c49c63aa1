"""Adapters over shapes against PEFT: which parameters, and what a step with them takes."""

import pytest

pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

import torch  # noqa: E402

import weighbridge  # noqa: E402
from tests.cases import each  # noqa: E402
from tests.torch.training_oracle import differences, ours, real  # noqa: E402
from weighbridge.base.errors import UsageError  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out"),
    pytest.mark.filterwarnings("ignore:The following rank_pattern"),
    pytest.mark.filterwarnings("ignore:The following alpha_pattern"),
]
SMALL = 1024
LLAMA = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
}
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def adapted(**settings):
    def prepare(model):
        return peft.get_peft_model(model.to(torch.bfloat16), peft.LoraConfig(**settings))

    return prepare


STEPS = [
    ({"precision": "bf16"}, {"r": 8, "target_modules": ["q_proj", "v_proj"]}),
    ({"precision": "bf16-mixed"}, {"r": 16, "target_modules": list(ALL)}),
    (
        {"precision": "bf16-mixed", "checkpointing": True},
        {"r": 16, "target_modules": list(ALL), "lora_dropout": 0.1},
    ),
    ({"precision": "bf16"}, {"r": 8, "target_modules": list(ALL), "use_dora": True}),
    (
        {"precision": "bf16-mixed", "checkpointing": True},
        {"r": 8, "target_modules": ["q_proj", "down_proj"], "use_dora": True},
    ),
]


@pytest.mark.parametrize(("settings", "lora"), STEPS, ids=range(len(STEPS)))
def test_a_step_with_adapters_takes_what_ours_takes(settings, lora):
    seen = real("llama", LLAMA, prepare=adapted(**lora), **settings)
    mine = ours(
        "llama",
        LLAMA,
        method="dora" if lora.get("use_dora") else "lora",
        lora_r=lora["r"],
        lora_targets=tuple(lora["target_modules"]),
        lora_dropout=lora.get("lora_dropout"),
        **settings,
    )
    assert differences(seen, mine, small=SMALL) == []


BIASED = [
    (
        "gpt2",
        {"n_embd": 256, "n_layer": 2, "n_head": 4, "vocab_size": 1000},
        ["c_attn", "c_fc", "c_proj"],
    ),
    (
        "gpt_neox",
        {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"},
        ["query_key_value", "dense_4h_to_h"],
    ),
]


@pytest.mark.parametrize("dropped", [0.0, 0.1])
@pytest.mark.parametrize(("kind", "config", "names"), BIASED, ids=[name for name, *_ in BIASED])
def test_dora_over_linears_with_biases_takes_them_off_again(kind, config, names, dropped):
    """GPT-2's are Conv1D, whose weights lie the other way round."""
    settings = {"r": 8, "target_modules": names, "use_dora": True, "lora_dropout": dropped}
    mine = ours(
        kind, config, method="dora", lora_r=8, lora_targets=tuple(names), lora_dropout=dropped
    )
    assert differences(real(kind, config, prepare=adapted(**settings)), mine, small=SMALL) == []


SIZES = {"num_hidden_layers": 2, "vocab_size": 1000}
MODELS = [
    ("llama", LLAMA),
    ("qwen3", {**LLAMA, "head_dim": 64}),
    ("gemma3_text", {**LLAMA, "head_dim": 64}),
    ("mistral", LLAMA),
    ("gpt2", {"n_embd": 256, "n_layer": 2, "n_head": 4, "vocab_size": 1000}),
    ("gpt_neox", {**LLAMA, "num_key_value_heads": None}),
    ("phi3", {**LLAMA, "pad_token_id": 0}),
    ("opt", {"hidden_size": 256, "ffn_dim": 512, "num_attention_heads": 4, **SIZES}),
    (
        "qwen3_moe",
        {**LLAMA, "head_dim": 64, "num_experts": 8, "moe_intermediate_size": 128},
    ),
    ("bloom", {"hidden_size": 256, "n_head": 4, "n_layer": 2, "vocab_size": 1000}),
]
WAYS = [
    {"method": "lora", "lora_r": 8, "lora_targets": ("all-linear",)},
    {"method": "lora", "lora_r": 4},
    {"method": "dora", "lora_r": 8, "lora_targets": ("all-linear",)},
    {"method": "lora", "lora_r": 16, "use_rslora": True, "lora_targets": ("all-linear",)},
    {"method": "qlora", "lora_r": 8, "lora_targets": ("all-linear",)},
]


@pytest.mark.parametrize("way", WAYS, ids=lambda w: "-".join(map(str, w.values())))
@pytest.mark.parametrize(("kind", "config"), each(2, MODELS), ids=[name for name, _ in MODELS])
def test_trainable_parameters_are_those_of_peft(kind, config, way):
    given = {k: v for k, v in config.items() if v is not None}
    made = transformers.AutoConfig.for_model(kind, **given)
    cls = getattr(
        transformers,
        transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind],
    )
    with torch.device("meta"):
        model = cls(made)
    targets = way.get("lora_targets")
    settings = peft.LoraConfig(
        r=way["lora_r"],
        target_modules=targets[0] if targets else None,
        use_dora=way["method"] == "dora",
        use_rslora=way.get("use_rslora", False),
    )
    if targets is None and kind == "phi3":
        pytest.skip("PEFT has no targets of its own for it")
    if kind == "qwen3_moe" and (targets is None or settings.use_dora):
        pytest.skip("PEFT has no targets of its own for it, and no DoRA of parameters")
    with torch.device("meta"):
        wrapped = peft.get_peft_model(model, settings, autocast_adapter_dtype=False)
    expected = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    raw = {**made.to_dict(), "architectures": [cls.__name__]}
    report = weighbridge.train(raw, seq_len=64, **way)
    assert report.derived["trainable_parameters"] == expected


def test_modules_that_are_saved_are_trained_whole():
    """Two matrices of 8 x 256, and a copy of the head."""
    raw = {**LLAMA, "model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    report = weighbridge.train(
        raw, seq_len=64, method="lora", lora_targets=("q_proj",), modules_to_save=("lm_head",)
    )
    assert report.derived["trainable_parameters"] == 2 * 2 * 8 * 256 + 1000 * 256


TIED = {**LLAMA, "tie_word_embeddings": True}


@pytest.mark.parametrize("method", ["lora", "dora"])
@pytest.mark.parametrize(
    ("targets", "whole"),
    [
        (["q_proj"], ["lm_head"]),
        (["q_proj"], ["embed_tokens"]),
        (["q_proj", "lm_head"], []),
        (["q_proj"], ["lm_head", "embed_tokens"]),
    ],
)
def test_a_head_that_is_the_embedding_is_a_module_of_its_own_to_adapters(targets, whole, method):
    lora = {"target_modules": targets, "modules_to_save": whole, "use_dora": method == "dora"}
    seen = real("llama", TIED, prepare=adapted(**lora))
    mine = ours(
        "llama",
        TIED,
        method=method,
        lora_targets=tuple(targets),
        modules_to_save=tuple(whole) or None,
    )
    trained = (p.numel() for p in seen.model.parameters() if p.requires_grad)
    assert mine.model.trainable == sum(trained)
    assert differences(seen, mine, small=SMALL) == []


FUSED = {"gpt2": "c_attn", "bloom": "query_key_value", "gpt_neox": "query_key_value"}
HELD = ("llama", "gemma3_text", "gpt2", "gpt_neox", "qwen3_moe", "bloom")


@pytest.mark.parametrize("kind", HELD)
def test_what_a_held_graph_of_checkpointed_layers_holds(kind):
    """What frozen embeddings gave, and its gradient, but no layer's input: five layers tell."""
    depth = "n_layer" if kind in ("gpt2", "bloom") else "num_hidden_layers"
    config = {**dict(MODELS)[kind], depth: 5}
    targets = [FUSED[kind]] if kind in FUSED else ["q_proj", "v_proj"]
    asked = {"precision": "bf16-mixed", "checkpointing": True}
    seen = real(kind, config, prepare=adapted(r=8, target_modules=targets), **asked)
    mine = ours(kind, config, method="lora", lora_r=8, lora_targets=tuple(targets), **asked)
    assert differences(seen, mine, small=SMALL, close=0.003) == []
    ends = [[now for name, now, *_ in s.moments if name == "step"] for s in (seen, mine)]
    assert ends[0] == ends[1]


@pytest.mark.parametrize("kind", ["mamba2", "falcon_mamba"])
def test_targets_of_state_spaces_that_peft_refuses(kind):
    """PEFT refuses out_proj of some classes, also where all linears are asked for."""
    made = transformers.AutoConfig.for_model(kind, **SPACES[kind])
    raw = {**made.to_dict(), "architectures": [HEADS[kind]]}
    for targets in ("all-linear", ["out_proj"]):
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(made)
        with pytest.raises(ValueError, match="incompatible with Mamba-based models"):
            peft.get_peft_model(model, peft.LoraConfig(target_modules=targets))
        with pytest.raises(UsageError, match="PEFT refuses"):
            weighbridge.train(raw, method="lora", lora_targets=targets, seq_len=64)
    found = weighbridge.train(raw, method="lora", seq_len=64)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(made)
    wrapped = peft.get_peft_model(
        model, peft.LoraConfig(target_modules=list(found.workload["lora_targets"]))
    )
    theirs = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    assert found.derived["trainable_parameters"] == theirs


SPACES = {
    "mamba2": {
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_heads": 4,
        "head_dim": 64,
        "state_size": 16,
        "n_groups": 1,
        "vocab_size": 500,
    },
    "falcon_mamba": {"hidden_size": 128, "num_hidden_layers": 2, "vocab_size": 500},
}
HEADS = {"mamba2": "Mamba2ForCausalLM", "falcon_mamba": "FalconMambaForCausalLM"}
