"""Dense text decoders without torch: laws, nonsense, and the weight maps of published files."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import corpus
from tests.arch.test_dense import TIED, UNTIED
from weighbridge.base.errors import WeighbridgeError
from weighbridge.models.arch.builder import blueprint, family
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.model_types import index

# Laws

FILES = {"llama", "llama_relatives", "gemma", "phi", "cohere", "olmo", "glm", "gemma4"}
OTHER_KEYS = {"phi-msft", "mixformer-sequential", "chatglm", "exaone", "nemotron-nas", "mimo"}
SMALL = {  # model types that read Llama's keys
    name
    for name, place in index()["modules"].items()
    if place in FILES and name not in {*OTHER_KEYS, "gemma3n_text"}
}
sizes = st.integers(1, 8)


@st.composite
def small_configs(draw):
    heads = draw(sizes)
    return {
        "model_type": draw(st.sampled_from(sorted(SMALL))),
        "hidden_size": heads * 2 * draw(sizes),
        "num_hidden_layers": draw(st.integers(1, 6)),
        "num_attention_heads": heads,
        "num_key_value_heads": draw(sizes),
        "intermediate_size": draw(st.integers(1, 40)),
        "vocab_size": draw(st.integers(1, 60)),
        "head_dim": 2 * draw(sizes),
        "attention_bias": draw(st.booleans()),
        "tie_word_embeddings": draw(st.booleans()),
        "hidden_size_per_layer_input": 0,
    }


def layers_of(plan):
    """{number of the layer: its parameters}."""
    found = {}
    for p in plan.params:
        parts = p.name.split(".")
        if "layers" in parts:
            number = int(parts[parts.index("layers") + 1])
            found[number] = found.get(number, 0) + p.numel
    return found


@pytest.mark.slow
@settings(deadline=None)
@given(small_configs())
def test_one_layer_more_costs_one_layer(raw):
    if raw["model_type"].startswith("gemma4"):  # its last layer is of another kind
        raw["layer_types"] = ["full_attention"] * (raw["num_hidden_layers"] + 1)
    plan = blueprint(Config(raw))
    more = blueprint(Config({**raw, "num_hidden_layers": raw["num_hidden_layers"] + 1}))
    each = layers_of(more)
    assert len(each) == raw["num_hidden_layers"] + 1
    assert len(set(each.values())) == 1
    assert more.parameters - plan.parameters == each[0]


@pytest.mark.slow
@settings(deadline=None)
@given(small_configs())
def test_base_and_head_are_the_class(raw):
    whole = blueprint(Config(raw))
    base = blueprint(Config(raw), base_model=True)
    path = f"{family(raw['model_type']).base}."
    inside = [p for p in whole.params if p.name.startswith(path)]
    assert [p.name for p in inside] == [path + p.name for p in base.params]
    head = [p for p in whole.params if not p.name.startswith(path)]
    assert {p.name for p in head} <= {"lm_head.weight", "lm_head.bias"}
    assert whole.parameters == base.parameters + sum(p.numel for p in head if not p.tied)


@pytest.mark.slow
@settings(deadline=None)
@given(small_configs())
def test_tying_saves_exactly_the_embedding(raw):
    tied = blueprint(Config({**raw, **TIED}))
    untied = blueprint(Config({**raw, **UNTIED}))
    assert untied.parameters - tied.parameters == raw["vocab_size"] * raw["hidden_size"]


@pytest.mark.slow
@settings(deadline=None)
@given(small_configs())
def test_names_are_unique_and_sizes_are_whole(raw):
    plan = blueprint(Config(raw))
    assert len({p.name for p in plan.params}) == len(plan.params)
    assert all(isinstance(n, int) and n > 0 for p in plan.params for n in p.shape)


DENSE = {
    "baichuan", "bloom", "cohere", "early", "falcon", "gemma", "gemma4", "glm", "gpt2",
    "gpt_neo", "llama", "llama_relatives", "minicpm", "olmo", "opt", "phi", "qwen",
}  # fmt: skip
KEYS = (
    "hidden_size", "n_embd", "d_model", "num_hidden_layers", "num_layers", "n_layer", "n_layers",
    "num_attention_heads", "n_head", "n_heads", "num_key_value_heads", "multi_query_group_num",
    "intermediate_size", "ffn_hidden_size", "inner_hidden_size", "ffn_dim", "vocab_size",
    "head_dim", "kv_channels", "n_positions", "max_position_embeddings", "rotary_dim",
    "num_kv_shared_layers", "altup_num_inputs", "num_experts", "q_lora_rank", "layer_types",
    "block_configs", "per_layer_config", "attn_config", "tie_word_embeddings",
)  # fmt: skip
dense_types = st.sampled_from(sorted(k for k, v in index()["modules"].items() if v in DENSE))
junk = st.sampled_from([0, None, -1, "x", 1.5, [], {}, [None], {"x": 1}, True, 10**12])


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(dense_types, st.dictionaries(st.sampled_from(KEYS), junk, max_size=3))
def test_a_nonsensical_config_is_weighed_or_refused(model_type, wrong):
    raw = {"model_type": model_type, **dict.fromkeys(KEYS[:-5], 4), **wrong}
    try:
        plan = blueprint(Config(raw))
    except WeighbridgeError:
        return
    assert plan.parameters >= 0


# Published weight maps

# Stored beside the parameters by old versions, or left over from training.
STORED = ("inv_freq", "attn.bias", "attn.masked_bias", "attention.bias", "attention.masked_bias")
ODD = {
    "CaasiHUANG__flames-scorer": "five classifiers of its own",
    "bigscience__bloom": "saved from the base model: no 'transformer.' in its names",
    "emotibot-inc__Zhuzhi-6B": "a left-over lm_head beside output_layer",
}


def weight_maps():
    for file, raw in corpus.configs():
        place = index()["modules"].get(str(raw.get("model_type")), "")
        folder = (corpus.MODELS / file).parent
        maps = sorted(folder.glob("*.index.json"))
        plain = "quantization_config" not in raw and "visual" not in raw and maps
        if place in DENSE and plain and folder.name not in ODD:
            yield pytest.param(raw, maps[-1], id=folder.name)


@pytest.mark.skipif(not corpus.manifest(), reason="the corpus of published configs is absent")
@pytest.mark.parametrize(("raw", "path"), list(weight_maps()))
def test_names_are_those_of_the_published_files(raw, path):
    stored = set(json.loads(path.read_text())["weight_map"])
    plan = blueprint(Config(raw))
    names = {p.name for p in plan.params}
    extra = {n for n in stored - names if not n.endswith(STORED)}
    assert extra == set()
    assert names - stored <= {p.name for p in plan.params if p.tied}
