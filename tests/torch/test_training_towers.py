"""Encoders of sentences and images, and pairs of them: programs over shapes against the real
classes."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from torch import nn

from tests.cases import each
from tests.torch.training_oracle import differences, ours, real

SMALL = 1024  # bytes below which tensors are scalars and tables
BERT = {
    "hidden_size": 128,
    "intermediate_size": 448,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 1000,
    "max_position_embeddings": 300,
}
ELECTRA = {**BERT, "embedding_size": 96}
ALBERT = {**ELECTRA, "num_hidden_layers": 3}
DEBERTA = {
    **BERT,
    "relative_attention": True,
    "position_buckets": 80,
    "norm_rel_ebd": "layer_norm",
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "share_att_key": True,
    "type_vocab_size": 0,
}
MODERN = {**BERT, "num_hidden_layers": 3, "pad_token_id": 0, "local_attention": 60}
SIDE = 126  # pixels of an image
DINOV2 = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": 7,
}
HALF = {"num_hidden_layers": 2, "num_attention_heads": 4}
CLIP = {
    "projection_dim": 96,
    "text_config": {**HALF, "hidden_size": 160, "intermediate_size": 448, "vocab_size": 1000},
    "vision_config": {
        **HALF,
        "hidden_size": 160,
        "intermediate_size": 512,
        "image_size": SIDE,
        "patch_size": 7,
    },
}


class Both(nn.Module):
    """Where the embeddings of both sides are there; backward comes to the second first."""

    def forward(self, first, second):
        return second, first


class Embedder(nn.Module):
    """The steps of sentence_transformers 6.2: SentenceTransformer.forward of each side, Pooling,
    MultipleNegativesRankingLoss."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.head_reads = Both()

    def forward(self, input_ids, labels, attention_mask=None):
        held = []
        first, second = (self.sentence(ids, attention_mask, held) for ids in (input_ids, labels))
        second, first = self.head_reads(first, second)
        first, second = (nn.functional.normalize(x, p=2, dim=-1) for x in (first, second))
        scores = 20 * torch.mm(first, second.transpose(0, 1))
        loss = (torch.logsumexp(scores, dim=1) - scores.diagonal()).mean()
        return {"loss": loss, "held": held}

    def sentence(self, ids, attention_mask, held):
        tokens = self.encoder(input_ids=ids, attention_mask=attention_mask).last_hidden_state
        if attention_mask is None:
            attention_mask = torch.ones(tokens.shape[:-1], device=tokens.device, dtype=torch.int64)
        mask = attention_mask.unsqueeze(-1).to(tokens.dtype)
        total = (tokens * mask).sum(dim=1, dtype=torch.float32)
        held.append(tokens)
        count = torch.clamp(mask.sum(dim=1, dtype=torch.float32), min=1e-9)
        return (total / count).to(tokens.dtype)


def sides(batch, length, device):
    ids, labels = (torch.randint(0, 100, (batch, length), device=device) for _ in range(2))
    return {"input_ids": ids, "labels": labels}


def replaced(batch, length, device):
    """Whether each token was."""
    ids, labels = (torch.randint(0, 2, (batch, length), device=device) for _ in range(2))
    return {"input_ids": ids, "labels": labels}


def masked(batch, length, device):
    ids, labels = (torch.randint(0, 100, (batch, length), device=device) for _ in range(2))
    return {"input_ids": ids, "labels": labels}


def images(batch, _length, device):
    pixels = torch.rand(batch, 3, SIDE, SIDE, device=device)
    labels = torch.randint(0, 2, (batch,), device=device)
    return {"pixel_values": pixels, "labels": labels}


def pairs(batch, length, device):
    pixels = torch.rand(batch, 3, SIDE, SIDE, device=device)
    ids = torch.randint(0, 100, (batch, length), device=device)
    return {"pixel_values": pixels, "input_ids": ids, "return_loss": True}


def told(batch, length, device):
    ids = torch.randint(0, 100, (batch, length), device=device)
    return {"input_ids": ids, "labels": torch.randint(0, 2, (batch,), device=device)}


CLASSES = {
    "bert": ("bert", BERT, {"cls": "BertModel", "prepare": Embedder, "inputs": sides}),
    "distilbert": (
        "distilbert",
        {"dim": 160, "hidden_dim": 448, "n_layers": 2, "n_heads": 4, "vocab_size": 1000},
        {"cls": "DistilBertModel", "prepare": Embedder, "inputs": sides},
    ),
    "electra": ("electra", ELECTRA, {"cls": "ElectraForPreTraining", "inputs": replaced}),
    "generator": ("electra", ELECTRA, {"cls": "ElectraForMaskedLM"}),
    "labelled": ("electra", ELECTRA, {"cls": "ElectraForSequenceClassification", "inputs": told}),
    "albert": ("albert", ALBERT, {"cls": "AlbertForMaskedLM"}),
    "mpnet": ("mpnet", BERT, {"cls": "MPNetModel", "prepare": Embedder, "inputs": sides}),
    "masked": ("mpnet", BERT, {"cls": "MPNetForMaskedLM", "inputs": masked}),
    "deberta": (
        "deberta-v2",
        DEBERTA,
        {"cls": "DebertaV2ForSequenceClassification", "inputs": told},
    ),
    "deberta masked": ("deberta-v2", DEBERTA, {"cls": "DebertaV2ForMaskedLM", "inputs": masked}),
    "modern": ("modernbert", MODERN, {"cls": "ModernBertForMaskedLM"}),
    "modern sentences": (
        "modernbert",
        MODERN,
        {"cls": "ModernBertForSequenceClassification", "inputs": told},
    ),
    "dinov2": (
        "dinov2",
        DINOV2,
        {"cls": "Dinov2ForImageClassification", "inputs": images, "seq_len": None},
    ),
    "clip": (
        "clip",
        CLIP,
        {"cls": "CLIPModel", "inputs": pairs, "seq_len": 77, "head_reads": "text_model"},
    ),
    "siglip": (
        "siglip",
        CLIP,
        {"cls": "SiglipModel", "inputs": pairs, "seq_len": 60, "head_reads": "text_model"},
    ),
}
CASES = [
    ("bert", {"precision": "bf16", "seq_len": 200}),
    ("bert", {"precision": "fp32", "checkpointing": True}),
    ("bert", {"precision": "bf16-mixed", "padded": True}),
    ("distilbert", {"precision": "bf16", "seq_len": 200}),
    ("electra", {"precision": "bf16", "seq_len": 200}),
    ("electra", {"precision": "fp32", "checkpointing": True}),
    ("electra", {"precision": "bf16-mixed"}),
    ("generator", {"precision": "bf16-mixed", "checkpointing": True}),
    ("labelled", {"precision": "bf16"}),
    ("albert", {"precision": "bf16", "seq_len": 200}),
    ("albert", {"precision": "fp32"}),
    ("albert", {"precision": "bf16-mixed", "padded": True}),
    ("mpnet", {"precision": "bf16", "seq_len": 200}),
    ("mpnet", {"precision": "fp32", "padded": True}),
    ("masked", {"precision": "bf16-mixed"}),
    ("deberta", {"precision": "bf16", "seq_len": 200}),
    ("deberta", {"precision": "fp32", "checkpointing": True}),
    ("deberta", {"precision": "bf16-mixed", "padded": True}),
    ("deberta masked", {"precision": "bf16-mixed", "batch_size": 1}),
    ("modern", {"precision": "bf16", "seq_len": 200}),
    ("modern", {"precision": "fp32", "checkpointing": True}),
    ("modern", {"precision": "bf16-mixed", "padded": True}),
    ("modern sentences", {"precision": "bf16-mixed", "checkpointing": True}),
    ("dinov2", {"precision": "bf16"}),
    ("dinov2", {"precision": "fp32", "checkpointing": True}),
    ("dinov2", {"precision": "bf16-mixed", "attention": "eager"}),
    ("clip", {"precision": "bf16"}),
    ("clip", {"precision": "fp32", "checkpointing": True}),
    ("clip", {"precision": "bf16-mixed"}),
    ("siglip", {"precision": "bf16"}),
    ("siglip", {"precision": "fp32", "checkpointing": True}),
    ("siglip", {"precision": "bf16-mixed"}),
]


@pytest.mark.parametrize(
    ("name", "settings"),
    each(8, CASES),
    ids=[f"{n}-{'-'.join(map(str, s.values()))}" for n, s in CASES],
)
def test_saved_tensors_and_peaks_are_those_of_the_class(name, settings):
    model_type, config, own = CLASSES[name]
    asked = {k: v for k, v in (own | settings).items() if v is not None}
    seen = real(model_type, config, **asked)
    asked = {k: v for k, v in asked.items() if k not in ("prepare", "inputs")}
    mine = ours(model_type, config, **asked)
    assert differences(seen, mine, small=SMALL) == []
