"""One forward without gradients, told twice: by the programs that training steps are made of, and by
those of inference. What a model keeps between tokens is left out of both.

`python -m tests.engines.forwards [NAME ...] [--eager] [4.57]` prints both, model by model.
"""

import sys
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from unittest.mock import patch

from tests.torch.training_oracle import settled
from weighbridge.engines.subject import subject
from weighbridge.engines.table import engine, version
from weighbridge.engines.transformers import forward, infer
from weighbridge.engines.transformers.plan import plan
from weighbridge.engines.transformers.stage import ForwardStage
from weighbridge.engines.transformers.step import norm
from weighbridge.memory.components.activations import Heap
from weighbridge.models import catalogue
from weighbridge.models.arch.mixers import Attention
from weighbridge.models.arch.model_types import facts
from weighbridge.models.checkpoint.gather import gather_config
from weighbridge.models.checkpoint.model import resolve
from weighbridge.pictures.seeing import sees
from weighbridge.training import run as training
from weighbridge.workload import Infer

TOKENS = 1024
DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers")
DEPTHS += ("encoder_layers", "decoder_layers")
EACH = (
    *("layer_types", "mlp_layer_types", "no_rope_layers", "moe_layers", "layers_block_type"),
    "moe_topk",
)
SMALL = {
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 8192,
    "max_position_embeddings": 4096,
}
HALVES = {
    "d_model": 1024,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096,
    "vocab_size": 8192,
    "max_position_embeddings": 1024,
}
MAMBA = {"mamba_n_heads": 64, "mamba_d_head": 64, "mamba_d_state": 128, "mamba_n_groups": 1}
MIXED = ["mamba", "attention"] * 2
# Of types that the catalogue has no model of
OTHERS = {
    "mbart": ("MBartForConditionalGeneration", HALVES),
    "marian": ("MarianMTModel", HALVES),
    "pegasus": ("PegasusForConditionalGeneration", HALVES),
    "arcee": ("ArceeForCausalLM", SMALL),
    "cohere2": ("Cohere2ForCausalLM", {**SMALL, "sliding_window": 512}),
    "cwm": ("CwmForCausalLM", {**SMALL, "sliding_window": 512}),
    "glm4": ("Glm4ForCausalLM", SMALL),
    "helium": ("HeliumForCausalLM", SMALL),
    "hunyuan_v1_dense": ("HunYuanDenseV1ForCausalLM", SMALL),
    "internlm3": ("InternLM3ForCausalLM", SMALL),
    "jais2": ("Jais2ForCausalLM", SMALL),
    "ministral": ("MinistralForCausalLM", SMALL),
    "nemotron": ("NemotronForCausalLM", SMALL),
    "seed_oss": ("SeedOssForCausalLM", SMALL),
    "dots1": (
        "Dots1ForCausalLM",
        {
            **SMALL,
            "n_routed_experts": 16,
            "num_experts_per_tok": 4,
            "moe_intermediate_size": 768,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
        },
    ),
    "flex_olmo": (
        "FlexOlmoForCausalLM",
        {**SMALL, "num_experts": 16, "num_experts_per_tok": 4, "intermediate_size": 768},
    ),
    "hunyuan_v1_moe": (
        "HunYuanMoEV1ForCausalLM",
        {**SMALL, "num_experts": 16, "moe_topk": 4, "intermediate_size": 768},
    ),
    "granitemoeshared": (
        "GraniteMoeSharedForCausalLM",
        {
            **SMALL,
            "num_local_experts": 16,
            "num_experts_per_tok": 4,
            "intermediate_size": 768,
            "shared_intermediate_size": 1024,
        },
    ),
    "jetmoe": (
        "JetMoeForCausalLM",
        {
            "hidden_size": 2048,
            "intermediate_size": 768,
            "num_hidden_layers": 4,
            "num_key_value_heads": 16,
            "kv_channels": 128,
            "num_local_experts": 16,
            "num_experts_per_tok": 2,
            "vocab_size": 8192,
            "max_position_embeddings": 4096,
        },
    ),
    "longcat_flash": (
        "LongcatFlashForCausalLM",
        {
            "hidden_size": 2048,
            "ffn_hidden_size": 6144,
            "expert_ffn_hidden_size": 768,
            "num_layers": 4,
            "num_attention_heads": 16,
            "n_routed_experts": 12,
            "zero_expert_num": 4,
            "moe_topk": 4,
            "q_lora_rank": 512,
            "kv_lora_rank": 256,
            "qk_rope_head_dim": 64,
            "qk_nope_head_dim": 128,
            "v_head_dim": 128,
            "head_dim": 64,
            "vocab_size": 8192,
            "max_position_embeddings": 4096,
        },
    ),
    "granitemoehybrid": (
        "GraniteMoeHybridForCausalLM",
        {
            **SMALL,
            **MAMBA,
            "layer_types": MIXED,
            "num_local_experts": 16,
            "num_experts_per_tok": 4,
            "shared_intermediate_size": 1024,
        },
    ),
}
OFTEN = (  # a type whose config decides how it runs is here for each way
    *("falcon-40b", "falcon-7b", "pythia-1.4b", "pythia-1b", "deepseek-v2", "qwen3.5-9b"),
    *("llama-4-scout", "llama-4-maverick", "gemma-3-27b", "t5-3b", "flan-t5-base", "opt-350m"),
    *("nemotron-h-56b", "nemotron-3-nano-30b-a3b", "olmo-2-32b", "smollm2-135m"),
)


def cut(raw, most=4):
    """A config with its first layers alone."""
    raw = {k: v for k, v in raw.items() if k != "quantization_config"}
    made = deepcopy(raw)
    made.update({k: min(v, most) for k, v in raw.items() if k in DEPTHS and isinstance(v, int)})
    made.update({k: v[:most] for k, v in raw.items() if k in EACH and isinstance(v, list)})
    if "hybrid_override_pattern" in made:
        made["hybrid_override_pattern"] = made["hybrid_override_pattern"][:most]
    if "attention_types" in raw:
        made["attention_types"] = [[["global"], most]]
        made.pop("attention_layers", None)
    made.update({k: cut(v, most) for k, v in raw.items() if isinstance(v, dict)})
    return made


def kind(raw):
    """The model type whose program of training it has, "" for none."""
    inner = (v.get("model_type") for v in raw.values() if isinstance(v, dict))
    kinds = (str(k).removesuffix("_text") for k in (raw.get("model_type"), *inner))
    return next((k for k in kinds if facts(k).training.net), "")


def models():
    """A config of every model type that has a program of training, by a name."""
    found = {}
    for name in catalogue.names():
        raw = dict(catalogue.find(name).config)
        if sees(raw):  # a network of its own program, in training and in inference
            continue
        if kind(raw) and (kind(raw) not in map(kind, found.values()) or name in OFTEN):
            found[name] = raw
    for name, (cls, raw) in OTHERS.items():
        found[name] = {"model_type": name, "architectures": [cls], **raw}
    return {name: _with_head(raw) for name, raw in found.items()}


def _with_head(raw):
    """Encoders without a head are trained on pairs of texts: two forwards."""
    heads = dict.fromkeys(("bert", "mpnet", "xlm-roberta"), "ForMaskedLM")
    head = (heads | {"bart": "ForConditionalGeneration"}).get(kind(raw), "Model")
    return {**raw, "architectures": [x.replace("Model", head) for x in raw["architectures"]]}


def length(raw):
    """Tokens that are compared: as many as a learned table of positions has, at most."""
    most = raw.get("max_target_positions") or raw.get("max_position_embeddings") or TOKENS
    return min(TOKENS, most // 64 * 64)


def trained(raw, attention, release=None):
    """Bytes that a forward of the training programs takes at most, beside the weights."""
    tokens = length(raw)
    said = {"precision": "bf16", "framework": "plain", "seq_len": tokens, "attention": attention}
    said |= {"engine_version": release}
    p = settled(raw, **said)
    m = training.Machine(Heap())
    around = training.surrounding(p)
    built = training._built(m, p, around, 0)
    m.heap.phase()
    m.training = False
    s = replace(training._step(m, p, built, around, None), dropout=False)
    with training._uncollected(), m.no_grad():
        training._program(p, built).forward(s)
    found = m.heap.phase()
    m.heap.close()
    return sum(n for name, n in found.live.items() if name not in ("weights", "buffers"))


def served(raw, attention, release=None):
    """The same of the programs of inference."""
    tokens = length(raw)
    w = Infer(dtype="bfloat16", context=tokens, attention=attention, engine_version=release)
    found = engine("transformers")
    s = subject(resolve(gather_config(raw)), w, found, version(found, release)[0])
    p = plan(s, w, None)
    if s.body.causal:
        p = replace(p, prompt=replace(p.prompt, tokens=tokens))
    heap = Heap()
    heap.all([8 * tokens] * 2, "activations")
    with _forgetful():
        infer._pixels(heap, p)
        infer._encoders(heap, s, p)
        states = forward.run(heap, p.prompt, ForwardStage.of(s.body, 0, len(s.body.blocks)))
        norm(heap, p.prompt)
        heap.drop(*states)
    return sum(heap.phase().live.values())


@contextmanager
def _forgetful():
    """Nothing is kept behind a layer's mixers."""
    real = forward.mixed

    def mixed(heap, s, m, kept, *rest):
        if isinstance(m, Attention):
            m = replace(m, causal=False)
        out = real(heap, s, m, kept, *rest)
        heap.drop(*kept.tensors, *kept.behind)
        kept.tensors, kept.behind = [], []
        return out

    with patch.object(forward, "mixed", mixed), patch.object(forward, "grow", lambda *_: None):
        yield


def main(names, attention, release):
    for name, raw in models().items():
        if not names or name in names or kind(raw) in names:
            try:
                a, b = trained(raw, attention, release), served(raw, attention, release)
            except Exception as error:
                print(f"{name}: {error!r:.150}")
                continue
            print(f"{b / a - 1:+8.1%} {kind(raw):16} {name:28} {a / 2**20:9.1f} {b / 2**20:9.1f}")


if __name__ == "__main__":
    eager = "eager" if "--eager" in sys.argv else None
    releases = [n for n in sys.argv[1:] if n[0].isdigit()]
    names = [n for n in sys.argv[1:] if not n.startswith("--") and n not in releases]
    main(names, eager, *(releases or [None]))
