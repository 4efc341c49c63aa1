"""What a step computes: feed-forwards, heads and widths off a class's tensors, for every family."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.arch.test_moe_laws import small_moes
from tests.arch.test_recent import K3, K3_TEXT
from tests.cases import all_of
from tests.corpus import configs
from tests.torch import cases_encoders, cases_moe, cases_multimodal
from weighbridge.base.errors import WeighbridgeError
from weighbridge.models.arch import encoders
from weighbridge.models.arch.bodies import body
from weighbridge.models.arch.body import Dense, Experts, LayerBlock
from weighbridge.models.arch.builder import blueprint, known
from weighbridge.models.arch.cache_layers import layers
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.mixers import Attention, CrossAttention, Latent, Mamba2, Shared
from weighbridge.models.arch.model_types import all_types
from weighbridge.models.arch.roles import role
from weighbridge.models.arch.stacks import feeds, singly, sort
from weighbridge.models.catalogue import find, names
from weighbridge.models.checkpoint.model import active
from weighbridge.pictures.seeing import sees

pytestmark = pytest.mark.slow

LLAMA = {
    "model_type": "llama",
    "hidden_size": 48,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "vocab_size": 97,
}


def plan_of(raw, cls=""):
    config = Config(raw, cls=cls)
    plan = blueprint(config)
    return plan, Config(raw, cls=plan.cls)


def of(raw, cls="", **kind):
    plan, config = plan_of(raw, cls)
    return body(plan, config, layers(config), **kind)


def named(name, cls=""):
    return of(find(name).config, cls)


def fed(found):
    """The feed-forwards of each layer, and how many such layers follow one another."""
    return Counter(block.feeds for block in found.blocks)


# By hand


def test_llama_3_8b():
    found = named("llama-3-8b")
    assert (found.hidden, found.vocab, found.causal) == (4096, 128_256, True)
    assert fed(found) == {(Dense(width=14_336),): 32}
    whole = Attention(heads=32, kv_heads=8, key_dim=128, value_dim=128)
    assert {block.mixers for block in found.blocks} == {(whole,)}
    assert (found.labels, found.embeds, found.encoder, found.towers) == (0, False, None, ())


@pytest.mark.parametrize(
    ("name", "feed"),
    [
        ("qwen3-30b-a3b", Experts(count=128, top_k=8, width=768)),
        ("mixtral-8x7b", Experts(count=8, top_k=2, width=14_336)),
        ("gpt-oss-20b", Experts(count=32, top_k=4, width=2880)),
        ("dbrx", Experts(count=16, top_k=4, width=10_752)),
        ("qwen3-next-80b-a3b", Experts(count=512, top_k=10, width=512, shared=512)),
        ("llama-4-scout", Experts(count=16, top_k=1, width=8192, shared=8192)),
        ("granite-3.1-1b-a400m", Experts(count=32, top_k=8, width=512)),
    ],
)
def test_experts_in_every_layer(name, feed):
    found = named(name)
    assert fed(found) == {(feed,): len(found.blocks)}


def test_deepseek_v3():
    """Three dense layers first; one shared expert; queries from a vector of 1,536."""
    found = named("deepseek-v3")
    experts = Experts(count=256, top_k=8, width=2048, shared=2048)
    assert [block.feeds for block in found.blocks[2:4]] == [(Dense(width=18_432),), (experts,)]
    assert fed(found) == {(Dense(width=18_432),): 3, (experts,): 58}
    assert {block.query_rank for block in found.blocks} == {1536}
    assert {type(block.mixers[0]) for block in found.blocks} == {Latent}


@pytest.mark.parametrize("raw", [K3, {**K3_TEXT, "model_type": "kimi_k3_text"}])
def test_kimi_k3(raw):
    """A dense layer first; two shared experts read the whole vector, the others 3,584 of it."""
    found = of(raw)
    experts = Experts(count=896, top_k=16, width=3072, shared=6144, inputs=3584)
    assert found.blocks[0].feeds == (Dense(width=33_792),)
    assert fed(found) == {(Dense(width=33_792),): 1, (experts,): 92}
    assert (found.hidden, found.vocab) == (7168, 163_840)


@pytest.mark.parametrize(
    ("name", "feed"),
    [
        ("gpt2", Dense(width=3072, gated=False)),
        ("phi-3-mini", Dense(width=8192, fused=True)),
        ("glm-4-9b", Dense(width=13_696, fused=True)),
        ("falcon-7b", Dense(width=18_176, gated=False)),
        ("opt-350m", Dense(width=4096, gated=False)),
        ("starcoder2-3b", Dense(width=12_288, gated=False)),
        ("bert-base-uncased", Dense(width=3072, gated=False)),
        ("modernbert-base", Dense(width=1152, fused=True)),
        ("electra-small", Dense(width=1024, gated=False)),
        ("albert-xxlarge-v2", Dense(width=16_384, gated=False)),
        ("vit-base-patch16-224", Dense(width=3072, gated=False)),
    ],
)
def test_dense_layers(name, feed):
    assert set(fed(named(name))) == {(feed,)}


def test_widths_beside_a_narrow_embedding():
    """OPT-350m, ELECTRA and ALBERT project their embeddings of 512, 128 and 128."""
    widths = [named(name).hidden for name in ("opt-350m", "electra-small", "albert-base-v2")]
    assert widths == [1024, 256, 768]


def test_layers_of_albert_are_one():
    assert len(named("albert-base-v2").blocks) == 12


def test_mobilebert_works_between_bottlenecks():
    """Four feed-forwards on 128 numbers of a state of 512; a head's size is of the 128."""
    found = of({"model_type": "mobilebert"})
    assert found.hidden == 512
    assert fed(found) == {(Dense(width=512, gated=False, inputs=128),) * 4: 24}
    assert found.blocks[0].mixers[0].key_dim == 128 // 4


def test_dense_and_experts_side_by_side():
    found = named("gemma-4-26b-a4b")
    (kind,) = set(fed(found))
    assert kind == (Dense(width=2112), Experts(count=128, top_k=8, width=704))


def test_nemotron_has_layers_of_one_thing_each():
    found = of({**cases_moe.NEMOTRON, "model_type": "nemotron_h"})
    mamba, dense, attends, sparse = found.blocks
    assert isinstance(mamba.mixers[0], Mamba2)
    assert mamba.feeds == ()
    assert dense == LayerBlock(mixers=(), feeds=(Dense(width=56, gated=False),))
    assert attends.feeds == ()
    assert sparse.feeds == (Experts(count=4, top_k=2, width=20, gated=False, shared=28),)


def test_experts_of_a_latent():
    """Nemotron 3 Super: experts read a projection, the shared one the state itself."""
    change = {"moe_latent_size": 16, "hybrid_override_pattern": "E*"}
    found = of({**cases_moe.NEMOTRON, **change, "model_type": "nemotron_h"})
    assert found.hidden == 48
    assert found.blocks[0].feeds[0].inputs == 16


def test_gemma_3n_shares_caches():
    found = of({"model_type": "gemma3n_text"})
    assert [type(block.mixers[0]) for block in found.blocks].count(Shared) == 15
    assert fed(found) == {(Dense(width=16_384),): 35}


def test_layers_that_mix_without_a_feed_forward():
    assert set(fed(named("mamba-130m"))) == {()}
    assert fed(of({"model_type": "zamba2"})) == {(): 45, (Dense(width=10_240, fused=True),): 9}


def test_widths_that_differ_by_layer():
    raw = find("qwen3-30b-a3b").config
    found = of({**raw, "mlp_only_layers": [1], "intermediate_size": 6144})
    assert found.blocks[1].feeds == (Dense(width=6144),)


# Heads


@pytest.mark.parametrize(
    ("name", "cls", "vocab", "labels", "embeds"),
    [
        ("gpt2", "", 50_257, 0, False),
        ("gpt-neox-20b", "", 50_432, 0, False),
        ("whisper-large-v3", "", 51_866, 0, False),
        ("rwkv-4-169m", "", 50_277, 0, False),
        ("bert-base-uncased", "BertModel", 0, 0, True),
        ("bert-base-uncased", "BertForMaskedLM", 30_522, 0, False),
        ("xlm-roberta-base", "XLMRobertaForSequenceClassification", 0, 2, False),
        ("modernbert-base", "ModernBertForMaskedLM", 50_368, 0, False),
        ("albert-base-v2", "AlbertForMaskedLM", 30_000, 0, False),
        ("distilbert-base-uncased", "DistilBertForMaskedLM", 30_522, 0, False),
        ("qwen3-0.6b", "Qwen3ForSequenceClassification", 0, 2, False),
        ("qwen3-0.6b", "Qwen3Model", 0, 0, True),
        ("bart-large-cnn", "BartForSequenceClassification", 0, 3, False),
        ("vit-base-patch16-224", "ViTForImageClassification", 0, 1000, False),
    ],
)
def test_heads(name, cls, vocab, labels, embeds):
    raw = {k: v for k, v in find(name).config.items() if k != "id2label"}
    counts = {"BartForSequenceClassification": 3, "ViTForImageClassification": 1000}
    found = of({**raw, "num_labels": counts.get(cls, 2)}, cls)
    assert (found.vocab, found.labels, found.embeds) == (vocab, labels, embeds)


def test_a_base_decoder_is_causal_and_embeds():
    assert named("qwen3-0.6b", "Qwen3Model").causal
    assert not named("bert-base-uncased", "BertModel").causal


def test_an_embedding_model_that_looks_both_ways():
    raw = {**LLAMA, "model_type": "gemma3_text", "use_bidirectional_attention": True}
    found = of(raw, "Gemma3TextModel")
    assert not found.causal
    assert not any(block.mixers[0].causal for block in found.blocks)


LM = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForMaskedLM")


@all_of("model_type", sorted(t for t, known in all_types().items() if known.family))
def test_a_head_that_writes_has_a_vocabulary(model_type):
    """And no other class has one."""
    from weighbridge.models.arch.builder import family, stems

    kind, seen = family(model_type), 0
    for suffix in (*kind.heads, *kind.classes):
        if suffix not in LM:
            continue
        try:
            found = of({"model_type": model_type}, stems(kind)[0] + suffix)
        except WeighbridgeError:
            continue
        seen += 1
        assert found.vocab > 1, suffix
    assert seen or not set(kind.heads) & set(LM) or model_type in NEEDS_MORE


# Model types whose class has no default for some size: the corpus and small configs try them.
NEEDS_MORE = {
    *("PanguEmbedded", "RefinedWeb", "RefinedWebModel", "baichuan", "chatglm", "exaone"),
    *("internlm", "internlm2", "mimo", "minicpm", "mixformer-sequential", "moss", "nemotron-nas"),
    *("orion", "phi-msft", "phi4", "qwen", "stablelm_epoch", "llava_llama", "llava_mistral"),
    *("llava_qwen", "internvl_chat", "kimi_vl", "ultravox", "minicpmv", "molmo", "phi3_v"),
    *("deepseek_vl_v2", "qwen3_omni_moe", "qwen3_omni_moe_talker", "phi4mm", "minimax_m1"),
    *("minimax_text_01", "deepseek", "deepseek_v2", "kimi_k2", "dots1", "step3p7_text", "rwkv5"),
    *("bailing_moe", "bailing_moe_v2", "minimax_m3", "gpt_neox_reward_model"),
    *("kimi_k3", "kimi_k3_text"),
    *("musicgen", "musicgen_decoder"),  # whose layers are not followed
}


# Encoders and what they stand before


def test_modernbert_has_windows():
    found = named("modernbert-base", "ModernBertModel")
    assert [block.mixers[0].window for block in found.blocks[:4]] == [None, 128, 128, None]
    assert not any(block.mixers[0].causal for block in found.blocks)


@pytest.mark.parametrize(
    ("name", "count", "hidden", "heads", "size"),
    [
        ("flan-t5-xl", 24, 2048, 32, 64),
        ("t5-11b", 24, 1024, 128, 128),
        ("whisper-large-v3", 32, 1280, 20, 64),
        ("bart-large", 12, 1024, 16, 64),
        ("llama-3.2-11b-vision", 40, 1280, 16, 80),
    ],
)
def test_encoders_of_decoders(name, count, hidden, heads, size):
    found = named(name)
    assert (len(found.encoder.blocks), found.encoder.hidden) == (count, hidden)
    assert {block.mixers for block in found.encoder.blocks} == {(encoders.one(heads, size),)}
    assert (found.encoder.vocab, found.encoder.causal) == (0, False)
    assert any(isinstance(m, CrossAttention) for block in found.blocks for m in block.mixers)


def test_an_encoder_alone_is_no_decoder():
    found = named("flan-t5-small", "T5EncoderModel")
    assert (found.encoder, found.causal, found.embeds) == (None, False, True)
    assert not any(isinstance(m, CrossAttention) for block in found.blocks for m in block.mixers)
    assert found.blocks[0].mixers == (encoders.one(6, 64),)


def test_pairs_of_towers():
    """CLIP reads text; its images are a tower. A class of its images alone reads those."""
    raw = find("clip-vit-large-patch14").config
    pair = of(raw)
    assert (len(pair.blocks), pair.blocks[0].mixers[0].heads, pair.hidden) == (12, 12, 768)
    assert pair.blocks[0].mixers[0].causal
    alone = of(raw, "CLIPForImageClassification")
    assert (len(alone.blocks), alone.blocks[0].mixers[0].heads, alone.hidden) == (24, 16, 1024)


@pytest.mark.parametrize("name", ["resnet-50", "convnext-tiny-224", "swin-tiny-patch4-window7-224"])
def test_convolutions_and_pyramids_have_no_blocks(name):
    assert named(name).blocks == ()


QUERIES = ("q_proj", "query", "q_lin", "query_proj", "self.query", "SelfAttention.q", "q")


def queries(layer):
    return [i.param.shape[0] for i in layer if i.name.endswith(QUERIES) and "cross" not in i.name]


@all_of("model_type", sorted(cases_encoders.CASES))
def test_heads_of_encoders_are_those_of_their_matrices(model_type):
    """Rows of a query matrix are heads times their size."""
    raw = {**cases_encoders.CASES[model_type][0], "model_type": model_type}
    plan, config = plan_of(raw)
    found = body(plan, config, layers(config))
    reading = found.encoder.blocks if found.encoder else found.blocks
    if not reading or (found.encoder is None and found.causal):
        return
    heads = {m.heads * m.key_dim for block in reading for m in block.mixers}
    rows = {r for s in sort(plan).stacks for layer in s.layers for r in queries(layer)}
    assert not rows or heads <= rows


# Laws

MATRICES = ("linear", "conv1d", "expert", "experts")
# What a layer multiplies by beside attention and feed-forward, and where.
MORE = {
    "gemma3n_text": "low-rank residuals, inputs a layer, alternating updates",
    "gemma3n": "the same",
    "gemma4_text": "inputs a layer",
    "gemma4": "the same",
    "qwen3_5": "gates as wide as queries",
    "qwen3_5_moe": "the same",
    "qwen3_5_text": "the same",
    "qwen3_5_moe_text": "the same",
    "qwen3_next": "the same, and a gate of the shared expert",
    "qwen2_moe": "a gate of the shared expert",
    "afmoe": "a gate of attention",
    "laguna": "a gate of attention a head",
    "jetmoe": "experts of queries",
    "minimax_m3": "an indexer",
    "minimax_m3_vl_text": "an indexer",
    "phi4mm": "adapters",
}


def of_feed(feed, hidden):
    """Weights of its matrices."""
    matrices, width = 3 if feed.gated else 2, feed.inputs or hidden
    if isinstance(feed, Dense):
        return matrices * feed.width * width
    return matrices * (feed.count * feed.width * width + feed.shared * hidden)


def of_attention(m, hidden):
    each = m.heads * (m.key_dim + m.value_dim) + m.kv_heads * (m.key_dim + m.value_dim)
    return each * hidden


def unexplained(raw):
    """Return, for each layer with attention alone, the weights that neither it nor the feeds
    account for."""
    plan, config = plan_of(raw)
    found = body(plan, config, layers(config))
    counted = Counter()
    for p in plan.params:
        if p.kind in MATRICES and not p.name.endswith("bias"):
            counted[p.name.rpartition("layers.")[2].partition(".")[0]] += p.numel
    left = set()
    for i, block in enumerate(found.blocks):
        if len(block.mixers) == 1 and isinstance(block.mixers[0], Attention):
            known = sum(of_feed(f, found.hidden) for f in block.feeds)
            left.add(counted[str(i)] - known - of_attention(block.mixers[0], found.hidden))
    return left


def lays_out(raw):
    """Whether the class is one stack "layers", so that names alone tell the layer."""
    found = {s.path for s in sort(plan_of(raw)[0]).stacks if any(map(feeds, s.layers))}
    return len(found) == 1 and next(iter(found)).endswith("layers")


@all_of(
    "model_type", sorted({t for t, f in all_types().items() if f.layers or f.language} - NEEDS_MORE)
)
def test_widths_account_for_all_weights(model_type):
    raw = {"model_type": model_type}
    if lays_out(raw):
        left = unexplained(raw)
        assert model_type in MORE or left <= {0}


@all_of("model_type", sorted(cases_moe.TYPES))
def test_widths_account_for_all_weights_of_small_models(model_type):
    raw = {**cases_moe.TYPES[model_type][1], "model_type": model_type}
    if lays_out(raw):
        left = unexplained(raw)
        assert model_type in MORE or left <= {0}


@all_of("model_type", sorted(set(cases_moe.TYPES) - {"jetmoe"}))
def test_experts_account_for_what_does_not_work(model_type):
    """Parameters less active ones are the experts that a token does not use."""
    raw = {**cases_moe.TYPES[model_type][1], "model_type": model_type}
    plan, config = plan_of(raw)
    found = body(plan, config, layers(config))
    sparse = [f for block in found.blocks for f in block.feeds if isinstance(f, Experts)]
    biases = sum(
        p.numel - p.numel * p.routed[0] // p.routed[1]
        for p in plan.params
        if p.routed[1] > 1 and p.name.endswith("bias")
    )
    idle = sum(
        (f.count - f.top_k) * (3 if f.gated else 2) * f.width * (f.inputs or found.hidden)
        for f in sparse
    )
    assert plan.parameters - active(plan.params) == idle + biases


@settings(deadline=None, max_examples=60)
@given(small_moes())
def test_experts_are_those_of_the_config(raw):
    found = of(raw)
    (kind,) = {f for block in found.blocks for f in block.feeds}
    named = "intermediate_size" if raw["model_type"] in ("mixtral", "gpt_oss") else ""
    width = raw[named or "moe_intermediate_size"]
    assert (kind.count, kind.top_k, kind.width) == (
        raw["num_experts"],
        raw["num_experts_per_tok"],
        width,
    )
    assert found.hidden == raw["hidden_size"]
    assert found.vocab == raw["vocab_size"]


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["llama", "glm4", "phi3", "arcee", "starcoder2", "olmo2"]),
    st.integers(1, 40),
    st.integers(1, 6),
)
def test_widths_are_those_of_the_config(model_type, inner, count):
    raw = {**LLAMA, "model_type": model_type, "intermediate_size": inner}
    raw |= {"num_hidden_layers": count, "pad_token_id": 0}
    found = of(raw)
    gated = model_type not in ("arcee", "starcoder2")
    fused = model_type in ("glm4", "phi3")
    assert fed(found) == {(Dense(width=inner, gated=gated, fused=fused),): count}


@pytest.mark.parametrize("order", ["shuffled", "by number"])
def test_the_order_of_experts_does_not_matter(order):
    """Files sort names as they like; classes number experts one after the other."""
    raw = {**cases_moe.QWEN, "model_type": "qwen3_moe"}
    plan, config = plan_of(raw)
    params = list(plan.params)
    if order == "shuffled":
        random.Random(7).shuffle(params)
    else:
        params.sort(key=lambda p: p.name)
    assert body(replace(plan, params=tuple(params)), config, layers(config)) == of(raw)


def test_like_experts_are_read_once():
    plan, _ = plan_of(find("deepseek-v3").config)
    assert len(plan.params) > 40_000
    assert len(list(singly(plan.params))) < 1500


def test_two_sets_of_experts_in_a_layer():
    """ERNIE 4.5 VL: one for words, one for images; shared experts count with the first."""
    words, images = of({"model_type": "ernie4_5_vl_moe"}).blocks[1].feeds
    assert (words.width, words.shared, images.width, images.shared) == (1536, 3072, 512, 0)


# Everything we know


@all_of("name", sorted(names()))
def test_every_model_of_the_catalogue(name):
    raw = find(name).config
    if raw.get("model_type") in (None, "timm_wrapper") or not known(raw) or sees(raw):
        pytest.skip("a pipeline, a network that sees, or a model type outside our tables")
    plan, config = plan_of(raw)
    remembered = layers(config)
    found = body(plan, config, remembered)
    assert len(found.blocks) == len(remembered) or not remembered
    assert found.vocab or found.labels or found.embeds or not found.blocks
    given = raw.get("hidden_size") or raw.get("n_embd") or raw.get("d_model")
    if found.blocks and type(given) is int and "text_config" not in raw:
        assert found.hidden == given
    if any(label == "vision tower" for _, label in plan.parts):
        assert found.towers


@all_of("case", cases_multimodal.CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def test_small_models_that_see_and_hear(case):
    model_type, cls, raw = case
    found = of({**raw, "model_type": model_type}, cls)
    for tower in found.towers:
        assert tower.positions >= 0
        assert tower.heads * tower.head_dim > 0 or tower.layers == 0


def test_every_real_config_has_a_body():
    raws = [(file, raw) for file, raw in configs() if known(raw)]
    if not raws:
        pytest.skip("the corpus of configs is not beside this checkout")
    seen = 0
    for file, raw in raws:
        try:
            plan, config = plan_of(raw)
            remembered = layers(config)
        except WeighbridgeError:  # what the tables themselves refuse
            continue
        found = body(plan, config, remembered)
        seen += 1
        if remembered and file not in FLAT_LLAVA:
            assert len(found.blocks) == len(remembered), file
    assert seen > 400


def test_a_tree_says_what_its_tensors_say():
    """Two readings of one class: its modules, and the names and shapes of what they flatten to.
    Where a parameter knows its role, its name says no other."""
    raws = [find(name).config for name in names()] + [raw for _, raw in configs() if known(raw)]
    seen = 0
    for raw in raws:
        try:
            plan, config = plan_of(raw)
            remembered = layers(config)
        except WeighbridgeError:
            continue
        if plan.tree is not None:
            seen += 1
            told = [p for p in plan.counted if p.role]
            assert [p.name for p in told if role(p.name) not in ("", p.role)] == []
            read_off = body(replace(plan, tree=None), config, remembered)
            assert body(plan, config, remembered) == read_off, raw.get("model_type")
    assert seen > 150


# LLaVA's first code keeps the language model's keys beside its own; its caches are read as those
# of a LLaVA of transformers.
FLAT_LLAVA = {"intel-ipex-hf_configs__llava/config.json"}
