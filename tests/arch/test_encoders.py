"""Encoders, encoder-decoders and audio models from their configs alone: published counts, edges
worked by hand, laws that hold for every class of every family."""

from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import all_of
from tests.torch.cases_encoders import (
    BART,
    BERT,
    CASES,
    LAYOUTLMV3,
    SEAMLESS,
    SWITCH,
    T5,
    WAV2VEC2,
)
from weighbridge.base.dtypes import TORCH
from weighbridge.base.errors import BadFileError, UnsupportedError
from weighbridge.models.arch.builder import blueprint, family, stems
from weighbridge.models.arch.config import Config

CASED = {"model_type": "bert", "vocab_size": 28996}
LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
BART_BASE = {
    "model_type": "bart",
    "d_model": 768,
    "encoder_layers": 6,
    "decoder_layers": 6,
    "encoder_ffn_dim": 3072,
    "decoder_ffn_dim": 3072,
}
FLAN_BASE = {
    "model_type": "t5",
    "d_model": 768,
    "d_ff": 2048,
    "num_layers": 12,
    "num_decoder_layers": 12,
    "num_heads": 12,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
FLAN_LARGE = {**FLAN_BASE, "d_model": 1024, "d_ff": 2816, "num_heads": 16} | dict.fromkeys(
    ("num_layers", "num_decoder_layers"), 24
)
T5_XXL = {**FLAN_BASE, "d_model": 4096, "d_ff": 10240, "num_heads": 64} | dict.fromkeys(
    ("num_layers", "num_decoder_layers"), 24
)
NLLB = {
    "model_type": "m2m_100",
    "vocab_size": 256206,
    "encoder_layers": 24,
    "decoder_layers": 24,
    "encoder_ffn_dim": 8192,
    "decoder_ffn_dim": 8192,
}
CAMEMBERT = {
    "model_type": "camembert",
    "vocab_size": 32005,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
}
ROBERTA = {**CAMEMBERT, "model_type": "roberta", "vocab_size": 50265}
ALBERT_BASE = {
    "model_type": "albert",
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
DEBERTA_V3 = {
    "model_type": "deberta-v2",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "relative_attention": True,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
}
XLSR = {
    **LARGE,
    "model_type": "wav2vec2",
    "vocab_size": 33,
    "feat_extract_norm": "layer",
    "conv_bias": True,
    "do_stable_layer_norm": True,
}
WHISPER_BASE = {
    "model_type": "whisper",
    "d_model": 512,
    "encoder_layers": 6,
    "decoder_layers": 6,
    "encoder_ffn_dim": 2048,
    "decoder_ffn_dim": 2048,
}


def plan(raw, cls="", **changes):
    return blueprint(Config({**raw, **changes}, cls=cls))


def base_model(raw, **changes):
    """Parameters of the family's headless class."""
    return blueprint(Config({**raw, **changes}), base_model=True).parameters


def stored(found):
    """Tensors that a file keeps: no views."""
    return [p for p in found.params if not p.tied]


# Published numbers. Most are sums over the safetensors header of the Hub's file: huggingface/
# safetensors 01b9ce07e953, temp.md. What a file keeps beyond its class is named where it does.

PUBLISHED = [
    # accelerate's estimator prints 413.18 MiB for BertModel of bert-base-cased, buffers included
    pytest.param(CASED, "BertModel", 108_310_272, id="bert-base-cased, headless"),
    pytest.param(CASED, "BertForMaskedLM", 108_340_804, id="bert-base-cased"),
    pytest.param(CASED, "BertForPreTraining", 108_932_934, id="bert-base-cased, as its file"),
    pytest.param({"model_type": "bert"}, "BertForPreTraining", 110_106_428, id="bert-base-uncased"),
    pytest.param(
        {**LARGE, "model_type": "bert"}, "BertForPreTraining", 336_226_108, id="bert-large-uncased"
    ),
    pytest.param(
        {"model_type": "distilbert"}, "DistilBertForQuestionAnswering", 66_364_418, id="distilbert"
    ),
    pytest.param(
        {"model_type": "distilbert", "vocab_size": 28996},
        "DistilBertForQuestionAnswering",
        65_192_450,
        id="distilbert, cased",
    ),
    pytest.param(
        {**CAMEMBERT, "num_labels": 5},
        "CamembertForTokenClassification",
        110_035_205,
        id="camembert-ner",
    ),
    pytest.param({**ROBERTA, **LARGE}, "RobertaForMaskedLM", 355_412_057, id="roberta-large"),
    # its file keeps a pooler as well, 768 * 768 + 768 = 590,592
    pytest.param(
        {**ROBERTA, "model_type": "xlm-roberta", "vocab_size": 250002},
        "XLMRobertaForMaskedLM",
        278_885_778 - 590_592,
        id="xlm-roberta-base",
    ),
    pytest.param(BART_BASE, "BartModel", 139_420_416, id="bart-base"),
    pytest.param(FLAN_BASE, "T5ForConditionalGeneration", 247_577_856, id="flan-t5-base"),
    pytest.param(FLAN_LARGE, "T5ForConditionalGeneration", 783_150_080, id="flan-t5-large"),
    # its file keeps a position bias of the cross-attention, 32 * 8, that no class reads any more
    pytest.param(
        {"model_type": "t5"}, "T5ForConditionalGeneration", 60_506_880 - 32 * 8, id="t5-small"
    ),
    # index.metadata.total_size of model.safetensors.index.json, in float32
    pytest.param(
        NLLB, "M2M100ForConditionalGeneration", 5_482_553_344 // 4, id="nllb-200-distilled-1.3B"
    ),
    # ... and in bfloat16
    pytest.param(T5_XXL, "T5EncoderModel", 9_524_621_312 // 2, id="FLUX.1 text_encoder_2"),
    pytest.param(XLSR, "Wav2Vec2ForCTC", 315_472_545, id="wav2vec2-large-xlsr-53-english"),
    # its file lacks masked_spec_embed
    pytest.param(
        {"model_type": "wav2vec2"}, "Wav2Vec2ForCTC", 94_395_552 + 768, id="wav2vec2-base-960h"
    ),
    # keras-hub's count of its re-implementation, which has the same parts
    pytest.param(ALBERT_BASE, "AlbertModel", 11_683_584, id="albert-base"),
    pytest.param({"model_type": "albert"}, "AlbertModel", 222_595_584, id="albert-xxlarge"),
    pytest.param(DEBERTA_V3, "DebertaV2Model", 183_831_552, id="deberta-v3-base"),
]


@all_of(("raw", "cls", "count"), PUBLISHED)
def test_published_counts(raw, cls, count):
    assert plan(raw, cls).parameters == count


# What transformers 5.23's own classes hold, built from their class defaults.
MEASURED = [
    ("modernbert", "ModernBertForMaskedLM", 149_655_232),
    ("nomic_bert", "NomicBertModel", 136_731_648),
    ("xlnet", "XLNetLMHeadModel", 360_300_800),
    ("longformer", "LongformerModel", 130_743_552),
    ("mpnet", "MPNetModel", 109_484_928),
    ("mobilebert", "MobileBertForMaskedLM", 36_596_538),
    ("squeezebert", "SqueezeBertModel", 51_089_664),
    ("funnel", "FunnelModel", 130_973_184),
    ("xlm", "XLMModel", 667_088_896),
    ("layoutlmv3", "LayoutLMv3Model", 125_326_208),
    ("led", "LEDModel", 459_801_600),
    ("prophetnet", "ProphetNetModel", 391_321_600),
    ("switch_transformers", "SwitchTransformersModel", 317_312_256),
    ("wav2vec2-conformer", "Wav2Vec2ConformerModel", 179_730_304),
    ("wavlm", "WavLMModel", 94_381_936),
    ("speecht5", "SpeechT5ForSpeechToSpeech", 153_685_187),
    ("seamless_m4t", "SeamlessM4TModel", 2_359_990_658),
    ("seamless_m4t_v2", "SeamlessM4Tv2Model", 2_309_249_669),
    ("mimi", "MimiModel", 79_308_609),
    ("dac", "DacModel", 76_620_777),
]


@all_of(("model_type", "cls", "count"), MEASURED)
def test_class_defaults(model_type, cls, count):
    assert plan({"model_type": model_type}, cls).parameters == count


@pytest.mark.parametrize(
    ("raw", "cls", "tensors"),
    [(T5_XXL, "T5EncoderModel", 219), (NLLB, "M2M100ForConditionalGeneration", 1013)],
)
def test_published_numbers_of_tensors(raw, cls, tensors):
    """len(weight_map) of the files' indexes; NLLB's keeps lm_head, a view, as one more."""
    found = plan(raw, cls)
    heads = [p for p in found.params if p.name == "lm_head.weight"]
    assert len(stored(found)) + len(heads) in (tensors, tensors + 1)


def test_bert_base_cased_with_its_buffers_is_413_18_mib():
    found = plan(CASED, "BertModel")
    held = [(b.shape, b.dtype, b.persistent) for b in found.buffers]
    assert held == [((1, 512), "int64", False)] * 2
    nbytes = 4 * found.parameters + sum(TORCH[b.dtype].size(512) for b in found.buffers)
    assert f"{nbytes / 2**20:.2f}" == "413.18"


def test_whisper_base_is_as_large_as_its_file():
    """model.safetensors of openai/whisper-base: 290,403,936 bytes with its header."""
    found = plan(WHISPER_BASE, "WhisperForConditionalGeneration")
    header = 290_403_936 - 4 * found.parameters
    assert 60 * len(stored(found)) < header < 200 * len(stored(found))


# Edges, worked by hand


@pytest.mark.parametrize(
    "cls",
    [
        "BertForMaskedLM",
        "BertLMHeadModel",
        "BertForTokenClassification",
        "BertForQuestionAnswering",
    ],
)
def test_classes_that_read_every_token_have_no_pooler(cls):
    names = {p.name for p in plan({**BERT, "model_type": "bert"}, cls).params}
    assert not any("pooler" in name for name in names)


@pytest.mark.parametrize("cls", ["BertForSequenceClassification", "BertForNextSentencePrediction"])
def test_classes_that_read_the_whole_have_one(cls):
    names = {p.name for p in plan({**BERT, "model_type": "bert"}, cls).params}
    assert "bert.pooler.dense.weight" in names


def test_untying_bert_adds_the_decoder_and_its_bias():
    raw = {**BERT, "model_type": "bert"}
    tied = plan(raw, "BertForMaskedLM").parameters
    untied = plan(raw, "BertForMaskedLM", tie_word_embeddings=False).parameters
    assert untied - tied == 97 * 24 + 97


def test_the_bias_of_the_decoder_is_that_of_the_predictions():
    views = {p.name: p.tied for p in plan({**BERT, "model_type": "bert"}, "BertForMaskedLM").params}
    assert views["cls.predictions.decoder.bias"] == "cls.predictions.bias"
    assert views["cls.predictions.decoder.weight"] == "bert.embeddings.word_embeddings.weight"


def test_cross_attention_is_one_more_attention_a_layer():
    raw = {**BERT, "model_type": "bert", "is_decoder": True}
    more = plan(raw, "BertLMHeadModel", add_cross_attention=True).parameters
    attention = 4 * (24 * 24 + 24) + 2 * 24  # q, k, v, output; a norm
    assert more - plan(raw, "BertLMHeadModel").parameters == 3 * attention


def test_albert_stores_its_layers_once():
    raw = {**BERT, "model_type": "albert", "embedding_size": 10}
    counts = {plan(raw, "AlbertModel", num_hidden_layers=n).parameters for n in (1, 12, 100)}
    assert len(counts) == 1


def test_t5_untied_adds_the_lm_head_and_only_that():
    raw = {**T5, "model_type": "t5"}
    untied = plan(raw, "T5ForConditionalGeneration", tie_word_embeddings=False)
    assert untied.parameters - plan(raw, "T5ForConditionalGeneration").parameters == 97 * 24
    assert "encoder.embed_tokens.weight" not in {p.name for p in stored(untied)}


def test_umt5_has_a_position_bias_in_every_layer():
    count = {t: plan({**T5, "model_type": t}, f"{t}Model").parameters for t in ("umt5", "mt5")}
    assert count["umt5"] - count["mt5"] == 2 * (2 - 1) * 32 * 4  # stacks, layers, buckets, heads


def test_switch_puts_experts_in_every_second_layer():
    found = plan({**SWITCH, "model_type": "switch_transformers"}, "SwitchTransformersEncoderModel")
    layers = {p.name.split(".")[2] for p in found.params if p.kind == "expert"}
    assert layers == {"1", "3"}
    assert {p.routed for p in found.params if p.kind == "expert"} == {(1, 3)}


@pytest.mark.parametrize(("labels", "names"), [(9, 2), (10, 4)])
def test_layoutlmv3_classifies_tokens_with_two_linears_from_ten_labels_on(labels, names):
    raw = {**LAYOUTLMV3, "model_type": "layoutlmv3", "num_labels": labels}
    found = plan(raw, "LayoutLMv3ForTokenClassification").params
    assert sum(p.name.startswith("classifier") for p in found) == names


def test_longformer_attends_twice():
    names = {p.name for p in plan({**BERT, "model_type": "longformer"}, "LongformerModel").params}
    path = "encoder.layer.0.attention.self."
    assert {f"{path}key.weight", f"{path}key_global.weight"} <= names


def test_modernbert_ends_its_embeddings_in_the_norm_that_its_first_layer_lacks():
    found = plan({**CASES["modernbert"][0], "model_type": "modernbert"}, "ModernBertModel").params
    norms = [p.name.split(".")[1] for p in found if p.name.endswith("attn_norm.weight")]
    assert norms == ["1", "2"]


def test_bart_has_three_labels_where_it_names_none():
    raw = {**BART, "model_type": "bart"}
    shapes = {p.name: p.shape for p in plan(raw, "BartForSequenceClassification").params}
    assert shapes["classification_head.out_proj.weight"] == (3, 24)


def test_only_the_generating_bart_holds_final_logits_bias():
    raw = {**BART, "model_type": "bart"}
    [held] = plan(raw, "BartForConditionalGeneration").buffers
    assert (held.shape, held.persistent) == ((1, 97), True)
    assert plan(raw, "BartModel").buffers == ()


def test_whispers_sines_are_parameters_and_m2m_100s_are_not():
    names = {p.name for p in plan(WHISPER_BASE, "WhisperModel").params}
    assert "encoder.embed_positions.weight" in names
    found = plan(NLLB, "M2M100Model")
    assert [b.shape for b in found.buffers] == [(1026, 1024)] * 2


def test_a_captioner_is_its_parts_and_the_bridge_between_widths():
    raw, _ = CASES["vision-encoder-decoder"]
    raw = {**raw, "model_type": "vision-encoder-decoder"}
    narrow = {**raw, "encoder": {**raw["encoder"], "hidden_size": 16}}
    found = plan(narrow, "VisionEncoderDecoderModel")
    encoder = blueprint(Config(narrow["encoder"]), base_model=True).parameters
    decoder = plan(narrow["decoder"], "BertLMHeadModel").parameters
    assert found.parameters == encoder + decoder + (16 * 24 + 24)
    assert plan(raw, "VisionEncoderDecoderModel").parameters == (
        blueprint(Config(raw["encoder"]), base_model=True).parameters + decoder
    )


def test_encodec_has_as_many_codebooks_as_its_bandwidth_pays_for():
    """24 kbit/s over 75 frames of 10 bits (1,024 codes) is 32; they are buffers that files keep."""
    found = plan({"model_type": "encodec"})
    assert found.parameters == 14_851_810
    kept = [b for b in found.buffers if b.persistent]
    assert sum(prod(b.shape) for b in kept) == 32 * (1 + 1024 + 2 * 1024 * 128)


def test_mimi_without_its_encoder_keeps_the_codebooks():
    """`encoder_config: null` leaves 1 semantic and 31 acoustic tables of 2,048 x 256."""
    whole = plan({"model_type": "mimi"})
    half = plan({"model_type": "mimi", "encoder_config": None})
    assert {p.name.split(".")[0] for p in whole.params} - {
        p.name.split(".")[0] for p in half.params
    } == {
        "encoder",
        "encoder_transformer",
        "downsample",
    }
    kept = [b for b in half.buffers if b.persistent]
    assert sum(prod(b.shape) for b in kept) == 32 * (1 + 2048 + 2048 * 256)


def test_no_head_of_a_class_that_we_do_not_know():
    with pytest.raises(UnsupportedError, match="BertForImages"):
        plan({**BERT, "model_type": "bert"}, "BertForImages")


@all_of(
    ("raw", "cls", "key"),
    [
        ({**BERT, "model_type": "bert", "add_cross_attention": True}, "BertModel", "is_decoder"),
        ({**WAV2VEC2, "model_type": "hubert", "conv_kernel": [3]}, "HubertModel", "conv_kernel"),
        (
            {**WAV2VEC2, "model_type": "hubert", "feat_extract_norm": "batch"},
            "HubertModel",
            "feat_extract_norm",
        ),
        (
            {**T5, "model_type": "longt5", "encoder_attention_type": "full"},
            "LongT5Model",
            "encoder_attention_type",
        ),
        ({**WAV2VEC2, "model_type": "wavlm", "tdnn_dim": []}, "WavLMForXVector", "tdnn_kernel"),
        ({**CASES["encodec"][0], "model_type": "encodec", "norm_type": "none"}, "", "norm_type"),
        (
            {**SEAMLESS, "model_type": "seamless_m4t", "position_embeddings_type": "sines"},
            "SeamlessM4TModel",
            "position_embeddings_type",
        ),
        (
            {**SEAMLESS, "model_type": "seamless_m4t", "resblock_dilation_sizes": [[1]]},
            "SeamlessM4TModel",
            "resblock_dilation_sizes",
        ),
    ],
)
def test_what_no_class_accepts_is_an_error_that_names_the_key(raw, cls, key):
    with pytest.raises(BadFileError, match=key):
        plan(raw, cls)


def test_an_adaptive_softmax_is_not_guessed():
    raw, _ = CASES["xlm"]
    with pytest.raises(UnsupportedError, match="asm"):
        plan({**raw, "model_type": "xlm", "asm": True}, "XLMWithLMHeadModel")


# Laws


def every_class():
    for model_type in CASES:
        kind = family(model_type)
        for suffix in sorted({*kind.heads, *kind.classes, "Model"}):
            yield model_type, f"{stems(kind)[0]}{suffix}"


ALL = list(every_class())


@pytest.mark.slow
@all_of(("model_type", "cls"), ALL)
def test_names_are_unique_and_views_have_owners(model_type, cls):
    base, variants = CASES[model_type]
    for variant in ({}, *variants):
        found = plan({**base, **variant, "model_type": model_type}, cls)
        names = [p.name for p in found.params]
        assert len(names) == len(set(names))
        assert {p.tied for p in found.params if p.tied} <= {p.name for p in stored(found)}


@pytest.mark.slow
def test_every_size_in_the_config_is_read():
    for model_type, cls in ALL:
        base, _ = CASES[model_type]
        c = Config({**base, "model_type": model_type}, cls=cls)
        blueprint(c)
        assert c.unread() == [], (model_type, cls)


LAYERED = {
    "bert": "num_hidden_layers",
    "roberta": "num_hidden_layers",
    "deberta-v2": "num_hidden_layers",
    "distilbert": "n_layers",
    "modernbert": "num_hidden_layers",
    "xlnet": "n_layer",
    "t5": "num_decoder_layers",
    "bart": "encoder_layers",
    "whisper": "decoder_layers",
    "wav2vec2": "num_hidden_layers",
    "wav2vec2-conformer": "num_hidden_layers",
}


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.sampled_from(sorted(LAYERED.items())), st.integers(1, 12), st.integers(1, 12))
def test_every_layer_beyond_the_first_weighs_the_same(family_and_key, first, more):
    model_type, key = family_and_key
    raw = {**CASES[model_type][0], "model_type": model_type}
    one, two, many = (
        plan(raw, f"{stems(family(model_type))[0]}Model", **{key: n}).parameters
        for n in (first, first + 1, first + more)
    )
    assert many - one == more * (two - one)


VOCABULARY = {
    "bert": ("BertForMaskedLM", 24 + 1),
    "roberta": ("RobertaForMaskedLM", 24 + 1),
    "albert": ("AlbertForMaskedLM", 10 + 1),
    "t5": ("T5ForConditionalGeneration", 24),
    "bart": ("BartForConditionalGeneration", 24),
    "whisper": ("WhisperForConditionalGeneration", 24),
    "wav2vec2": ("Wav2Vec2ForCTC", 24 + 1),
}


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(sorted(VOCABULARY)), st.integers(1, 100_000), st.integers(1, 100_000))
def test_a_word_costs_one_row_and_its_bias(model_type, words, more):
    cls, row = VOCABULARY[model_type]
    raw = {**CASES[model_type][0], "model_type": model_type}
    counts = [plan(raw, cls, vocab_size=n).parameters for n in (words, words + more)]
    assert counts[1] - counts[0] == more * row
