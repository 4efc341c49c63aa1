"""Encoders, encoder-decoders and state spaces: programs over shapes against the real classes."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from tests.cases import each
from tests.torch.training_oracle import differences, ours, real

SIDE = 128  # pixels of an image

SMALL = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
BERT = {**SMALL, "vocab_size": 1000}
ROBERTA = {**BERT, "max_position_embeddings": 300}
DISTILBERT = {"dim": 128, "hidden_dim": 512, "n_layers": 2, "n_heads": 4, "vocab_size": 1000}
VIT = {**SMALL, "image_size": SIDE, "patch_size": 8}
T5 = {
    "d_model": 128,
    "d_ff": 512,
    "d_kv": 32,
    "num_layers": 2,
    "num_heads": 4,
    "vocab_size": 1000,
    "decoder_start_token_id": 0,
}
MAMBA2 = {
    "hidden_size": 128,
    "state_size": 32,
    "num_hidden_layers": 2,
    "num_heads": 8,
    "head_dim": 32,
    "n_groups": 2,
    "chunk_size": 64,
    "vocab_size": 1000,
}
GATED = {**T5, "feed_forward_proj": "gated-gelu"}


def labels(batch, device):
    return torch.randint(0, 2, (batch,), device=device)


def sentences(batch, length, device):
    ids = torch.randint(0, 100, (batch, length), device=device)
    return {"input_ids": ids, "labels": labels(batch, device)}


def images(batch, _length, device):
    pixels = torch.rand(batch, 3, SIDE, SIDE, device=device)
    return {"pixel_values": pixels, "labels": labels(batch, device)}


CLASSES = {
    "masked": ("bert", BERT, {"cls": "BertForMaskedLM"}),
    "labelled": (
        "bert",
        BERT,
        {"cls": "BertForSequenceClassification", "inputs": sentences},
    ),
    "tokens": ("bert", BERT, {"cls": "BertForTokenClassification"}),
    "roberta": ("roberta", ROBERTA, {"cls": "RobertaForMaskedLM"}),
    "distilbert": (
        "distilbert",
        DISTILBERT,
        {"cls": "DistilBertForSequenceClassification", "inputs": sentences},
    ),
    "vit": ("vit", VIT, {"cls": "ViTForImageClassification", "inputs": images, "seq_len": None}),
    "t5": ("t5", T5, {"cls": "T5ForConditionalGeneration", "head_reads": "decoder"}),
    "gated": ("t5", GATED, {"cls": "T5ForConditionalGeneration", "head_reads": "decoder"}),
    "mamba2": ("mamba2", MAMBA2, {}),
}
CASES = [
    ("masked", {"precision": "bf16"}),
    ("masked", {"precision": "fp32", "checkpointing": True}),
    ("masked", {"precision": "bf16-mixed", "attention": "eager"}),
    ("labelled", {"precision": "bf16-mixed", "checkpointing": True, "reentrant": True}),
    ("labelled", {"precision": "fp16"}),
    ("tokens", {"precision": "bf16"}),
    ("roberta", {"precision": "bf16-mixed", "padded": True}),
    ("distilbert", {"precision": "bf16", "checkpointing": True}),
    ("t5", {"precision": "bf16"}),
    ("t5", {"precision": "fp32", "padded": True}),
    ("t5", {"precision": "bf16", "seq_len": 200}),
    ("t5", {"precision": "bf16-mixed", "checkpointing": True}),
    ("gated", {"precision": "bf16-mixed", "framework": "trainer"}),
    ("vit", {"precision": "bf16"}),
    ("vit", {"precision": "fp32", "checkpointing": True}),
    ("vit", {"precision": "bf16-mixed"}),
    ("mamba2", {"precision": "bf16"}),
    ("mamba2", {"precision": "fp32", "seq_len": 200}),
    ("mamba2", {"precision": "bf16-mixed", "checkpointing": True}),
]


def settings_of(name, more):
    kind, config, own = CLASSES[name]
    return kind, config, {k: v for k, v in (own | more).items() if v is not None}


@pytest.mark.parametrize(
    ("name", "settings"),
    each(4, CASES),
    ids=[f"{n}-{'-'.join(map(str, s.values()))}" for n, s in CASES],
)
def test_saved_tensors_and_peaks_are_those_of_the_class(name, settings):
    kind, config, asked = settings_of(name, settings)
    seen = real(kind, config, **asked)
    asked.pop("inputs", None)
    mine = ours(kind, config, **asked)
    assert differences(seen, mine) == []


ADAPTED = {"masked": ("query", "value"), "t5": ("q", "v"), "mamba2": ("in_proj",)}


@pytest.mark.parametrize("name", ADAPTED)
def test_a_checkpointed_step_with_adapters_takes_what_ours_takes(name):
    """Embeddings are frozen, and PEFT has what they give need a gradient."""
    peft = pytest.importorskip("peft")
    kind, config, asked = settings_of(name, {"precision": "bf16-mixed", "checkpointing": True})
    lora = peft.LoraConfig(r=8, target_modules=list(ADAPTED[name]))

    def prepare(model):
        return peft.get_peft_model(model.to(torch.bfloat16), lora)

    seen = real(kind, config, prepare=prepare, **asked)
    mine = ours(kind, config, method="lora", lora_r=8, lora_targets=ADAPTED[name], **asked)
    assert differences(seen, mine) == []
