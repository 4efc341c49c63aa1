"""Peaks of a step beside those of our programs, by transformers as installed: of tiny models, tensor
by tensor on the CPU; and of every family on the fake GPU, which knows what kernels take besides."""

import pytest

pytest.importorskip("torch", reason="the oracle is a forward of transformers' classes")
pytest.importorskip("transformers", reason="the oracle is a forward of transformers' classes")

import torch
import transformers

import weighbridge
from tests.cases import NIGHTLY, each
from tests.engines.forwards import cut, kind, models
from tests.torch.storages import watched
from weighbridge.engines.subject import subject
from weighbridge.engines.table import engine
from weighbridge.engines.transformers.infer import peaks
from weighbridge.engines.transformers.plan import plan
from weighbridge.models.checkpoint.gather import gather_config
from weighbridge.models.checkpoint.model import resolve
from weighbridge.workload import Infer
from weighbridge_lab.trace import guard

PROMPT = 512
PROMPTS = {"mamba": 128}  # its class goes token by token
SHARED = {"vocab_size": 1024, "max_position_embeddings": 2048}
SMALL = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    **SHARED,
}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 128, "num_hidden_layers": 4}
LATENT = {
    "q_lora_rank": 96,
    "kv_lora_rank": 64,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
}
CASES = {
    "llama": SMALL,
    "qwen2": SMALL,
    "qwen3": SMALL,
    "gemma3_text": {**SMALL, "sliding_window": 128, "sliding_window_pattern": 3},
    "gpt2": {"n_embd": 256, "n_layer": 4, "n_head": 8, "n_positions": 2048, "vocab_size": 1024},
    "gpt_neox": {**SMALL, "rotary_pct": 0.25},
    "phi3": {**SMALL, "pad_token_id": 0},
    "mixtral": {**SMALL, "num_local_experts": 8, "num_experts_per_tok": 2},
    "qwen3_moe": {**SMALL, **EXPERTS, "num_experts": 8},
    "deepseek_v3": {
        **SMALL,
        **EXPERTS,
        **LATENT,
        "n_routed_experts": 8,
        "n_shared_experts": 1,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "head_dim": 16,
        "num_key_value_heads": 8,
    },
    "mamba2": {
        "hidden_size": 256,
        "num_hidden_layers": 4,
        "num_heads": 8,
        "head_dim": 64,
        "state_size": 32,
        "n_groups": 2,
        "chunk_size": 64,
        "vocab_size": 1024,
    },
    "mamba": {"hidden_size": 256, "num_hidden_layers": 2, "state_size": 16, "vocab_size": 1024},
    "qwen3_next": {
        **SMALL,
        **EXPERTS,
        "num_experts": 8,
        "shared_expert_intermediate_size": 128,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 32,
        "linear_value_head_dim": 32,
        "layer_types": ["linear_attention", "full_attention"] * 2,
    },
}
EAGER = ("llama", "gpt2")
STATES = ("mamba", "mamba2")  # a step is the states and some copies of one: a few hundred KB


def ours(raw, new=2, dtype="bfloat16", **settings):
    length = PROMPTS.get(raw["model_type"], PROMPT)
    w = Infer(dtype=dtype, prompt_len=length, max_new_tokens=new, **settings)
    kind = engine("transformers")
    s = subject(resolve(gather_config(raw)), w, kind, kind.newest)
    return s, plan(s, w, None)


def built(raw, attention, dtype=torch.bfloat16):
    config = transformers.AutoConfig.for_model(**raw)
    name = raw["architectures"][0]
    model = getattr(transformers, name)(config).to(dtype).eval()
    if attention:
        model.set_attn_implementation(attention)
    return model


def steps(model, batch=1):
    """(peak of the prompt's step, of the two behind it), in bytes beside the weights."""
    length = PROMPTS.get(model.config.model_type, PROMPT)
    ids = torch.zeros(batch, length, dtype=torch.int64)
    with watched(model) as seen:
        out = model(ids, use_cache=True, logits_to_keep=1)
        prefill = seen.phase()
        name = "past_key_values" if getattr(out, "past_key_values", None) else "cache_params"
        past = {name: out[name]}
        del out
        if any(model.get_experts_implementation().values()):
            model.set_experts_implementation("batched_mm")  # as generate does
        for _ in range(2):
            model(ids[:, :1], use_cache=True, logits_to_keep=1, **past)
        return prefill, seen.phase()


def config(model_type):
    mapping = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    raw = {"model_type": model_type, "architectures": [mapping[model_type]], **CASES[model_type]}
    return {**raw, "torch_dtype": "bfloat16"}


def check(found, expected, distance):
    assert abs(found - expected) <= distance * expected, f"{found:,} beside {expected:,}"


@pytest.mark.parametrize("model_type", CASES)
def test_a_prompt_and_a_step(model_type):
    raw = config(model_type)
    s, p = ours(raw)
    attends = any(
        type(m).__name__ in ("Attention", "Latent") for b in s.body.blocks for m in b.mixers
    )
    prefill, decode = steps(built(raw, "sdpa" if attends else None))
    first, last = peaks(s, p, 0, len(s.body.blocks))
    check(sum(first.live.values()), prefill, 0.05)
    check(sum(last.live.values()), decode, 0.1 if model_type in STATES else 0.05)


@pytest.mark.parametrize("model_type", EAGER)
def test_scores_that_are_written_out(model_type):
    """In float32: a CPU's softmax makes a copy of its input in 16 bits that a GPU does not."""
    raw = config(model_type)
    s, p = ours(raw, dtype="float32", attention="eager")
    prefill, decode = steps(built(raw, "eager", torch.float32))
    first, last = peaks(s, p, 0, len(s.body.blocks))
    check(sum(first.live.values()), prefill, 0.05)
    check(sum(last.live.values()), decode, 0.05)


def test_several_requests_and_a_wider_dtype():
    """With as many key-value heads as others: in float32 groups have the math kernel alone."""
    raw = {**config("qwen3"), "num_key_value_heads": 8}
    s, p = ours(raw, dtype="float32", batch_size=3)
    prefill, decode = steps(built(raw, "sdpa", torch.float32), batch=3)
    first, last = peaks(s, p, 0, len(s.body.blocks))
    check(sum(first.live.values()), prefill, 0.05)
    check(sum(last.live.values()), decode, 0.05)


ENCODERS = {
    "bert": {
        "architectures": ["BertModel"],
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "vocab_size": 1024,
    },
    "modernbert": {
        "architectures": ["ModernBertModel"],
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "vocab_size": 1024,
        "pad_token_id": 0,
    },
}


@pytest.mark.parametrize("model_type", ENCODERS)
def test_encoders(model_type):
    raw = {"model_type": model_type, **ENCODERS[model_type]}
    w = Infer(dtype="bfloat16", context=PROMPT)
    kind = engine("transformers")
    s = subject(resolve(gather_config(raw)), w, kind, kind.newest)
    model = built(raw, "sdpa")
    with watched(model) as seen:
        model(torch.zeros(1, PROMPT, dtype=torch.int64))
    (found,) = peaks(s, plan(s, w, None), 0, len(s.body.blocks))  # nothing is written
    check(sum(found.live.values()), seen.peak, 0.05)


T5 = {
    "model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"],
    "d_model": 256,
    "d_kv": 32,
    "d_ff": 1024,
    "num_layers": 4,
    "num_heads": 8,
    "vocab_size": 1024,
    "feed_forward_proj": "gated-gelu",
    "decoder_start_token_id": 0,
}
WHISPER = {
    "model_type": "whisper",
    "architectures": ["WhisperForConditionalGeneration"],
    "d_model": 256,
    "encoder_layers": 4,
    "decoder_layers": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 1024,
    "decoder_ffn_dim": 1024,
    "vocab_size": 1024,
    "max_target_positions": 1024,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "decoder_start_token_id": 0,
}


@pytest.mark.parametrize("raw", [T5, WHISPER], ids=("t5", "whisper"))
def test_encoder_and_decoder(raw):
    s, p = ours(raw, new=8)
    model = built(raw, "sdpa")
    read = torch.zeros(1, PROMPT, dtype=torch.int64)
    if raw is WHISPER:
        read = torch.zeros(1, 80, 3000, dtype=torch.bfloat16)
    with watched(model) as seen:
        model(read, decoder_input_ids=torch.zeros(1, 1, dtype=torch.int64), use_cache=True)
    found, _ = peaks(s, p, 0, len(s.body.blocks))
    check(sum(found.live.values()), seen.peak, 0.1)


# Every family, of its real widths and with few layers

MODELS = models()
# What a class asks for besides its config, and what it does not run with
STARTS = dict.fromkeys(("decoder_start_token_id", "pad_token_id", "eos_token_id"), 0)
BESIDE = dict.fromkeys(("t5", "mt5", "marian", "mbart", "pegasus"), STARTS) | {
    "glm4": {"pad_token_id": 0},  # its own is of a larger vocabulary
    "flex_olmo": {"pad_token_id": 0},
}
WITHOUT = {
    "clip_text_model": "a class of two towers reads images, too",
    "siglip_text_model": "a class of two towers reads images, too",
    "minimax_m2": "generate looks for layers of speculation that the config does not count",
    "kimi_k2": "transformers has no such type: its configs bring code",
    "dbrx": "5.23 counts one expert more than there are, and on the fake GPU all of them are hit",
    "jetmoe": "5.23 splits tokens by counts, which the fake GPU does not know",
    "longcat_flash": "experts in a loop get the tokens that chose them; the fake GPU gives each all of them",
}
# Layers, where the first few do not attend
DEEP = {"jamba": 8, "nemotron_h": 8, "granitemoehybrid": 6}  # to the first that attends
DEEP |= dict.fromkeys(("qwen3_next", "qwen3_5", "qwen3_5_moe"), 4)
LEAST = 2 << 20  # bytes: ids, masks of the prompt, and what a step of one token makes


@pytest.fixture
def trusted(monkeypatch):
    """The trial of torch starts a process, and has a test of its own."""
    monkeypatch.setattr(guard, "why_not", str)


RUN = [
    name
    for name, raw in MODELS.items()
    if kind(raw) not in WITHOUT and hasattr(transformers, raw["architectures"][0])
]
LOOPS = {"mamba", "falcon_mamba"}  # their classes go token by token: a minute each, at night
FAMILIES = each(24, [name for name in RUN if kind(MODELS[name]) not in LOOPS])
FAMILIES += [pytest.param(n, marks=NIGHTLY) for n in RUN if kind(MODELS[n]) in LOOPS]
LIVE = ("activations", "kv_cache", "recurrent_state", "logits", "temporaries")


def live(phase):
    return sum(c.bytes.expected for c in phase.components if c.name in LIVE)


@pytest.mark.parametrize("attention", ["eager", None], ids=("eager", "sdpa"))
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family(name, attention, trusted):
    raw = cut(MODELS[name], DEEP.get(kind(MODELS[name]), 3)) | BESIDE.get(kind(MODELS[name]), {})
    given = {"dtype": "bfloat16", "prompt_len": 256, "max_new_tokens": 3, "attention": attention}
    report = weighbridge.infer(raw, exact=True, **given)
    for closed, traced in report.devices[0].exact.phases[1:]:
        ours, real = live(closed), live(traced)
        assert abs(ours - real) <= 0.05 * real + LEAST, f"{closed.name}: {ours:,} beside {real:,}"
