"""Some of the sweep (docs/sweep.md): a training step of each is traced, and names what stops it."""

import json
import warnings

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from tools import sweep, sweep_classes, sweep_worker
from tools.sweep import Row, document
from tools.sweep_inputs import inputs, on

from tests.cases import each
from tests.torch.programs import real, recorded
from weighbridge_lab.trace import guard
from weighbridge_lab.trace.gpu import FakeGPU

pytestmark = pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not())
FEW = """
LlamaForCausalLM MixtralForCausalLM DeepseekV3ForCausalLM GptOssForCausalLM Gemma3ForCausalLM
ApertusForCausalLM Mamba2ForCausalLM BambaForCausalLM GPT2LMHeadModel BertForMaskedLM
IBertForMaskedLM T5ForConditionalGeneration BartForSequenceClassification ViTForImageClassification
SegformerForSemanticSegmentation CLIPModel Wav2Vec2ForCTC WhisperForConditionalGeneration
LlavaForConditionalGeneration Qwen2VLForConditionalGeneration
""".split()  # noqa: SIM905


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("name", each(4, FEW))
def test_a_step_is_traced(name):
    """Weights, gradients and two states are there at once, in float32 or as the class has them."""
    row = sweep_worker.row("transformers", name)
    assert "failed" not in row, row["failed"]
    assert row["peak"] > 3 * 2 * row["parameters"] > 0


def test_a_failure_names_the_operation_and_whose_it_is(monkeypatch):
    def step(name, device):
        if device == "cuda":
            torch.ones(2, 3, device=device) @ torch.ones(2, 3, device=device)

    monkeypatch.setattr(sweep_worker, "_step", lambda suite: step)
    row = sweep_worker.row("timm", "any")
    assert row["failed"].startswith("aten.mm.default (test_sweep.py:") and not row["own"]
    monkeypatch.setattr(sweep_worker, "_step", lambda suite: lambda name, device: 1 / 0)
    row = sweep_worker.row("timm", "any")
    assert "ZeroDivisionError" in row["failed"] and row["own"]


def test_the_page_counts_what_is_not_a_class_s_own():
    done = [Row(suite="timm", name=f"m{i}", seconds=1.0, peak=1 << 20) for i in range(3)]
    ours = Row(suite="timm", name="x", seconds=1.0, failed="aten.mm.default: a | b")
    own = Row(suite="timm", name="y", seconds=1.0, failed="(its.py:1): no", own=True)
    page = document([*done, ours, own])
    assert "| timm | 5 | 3 (75.0%) | 1 | 1 |" in page
    assert "| timm | x | aten.mm.default: a / b |" in page


def test_rows_that_failed_are_tried_again(tmp_path):
    path = tmp_path / "rows"
    failures = {"a": "", "b": "aten.mm.default"}
    rows = [{"suite": "timm", "name": n, "seconds": 1, "failed": f} for n, f in failures.items()]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert list(sweep.kept(path)) == [("timm", "a")]


def test_tiny_configs_keep_one_layer_of_each_kind():
    transformers = pytest.importorskip("transformers")
    config = sweep_classes.tiny(transformers.Gemma3TextConfig)
    assert config.layer_types == ["sliding_attention", "full_attention"]
    assert (config.num_hidden_layers, config.hidden_size) == (2, sweep_classes.WIDTH)


LIKE_THE_CPU = """
LlamaForCausalLM GPT2LMHeadModel BloomForCausalLM OPTForCausalLM Gemma2ForCausalLM
Qwen3ForCausalLM MixtralForCausalLM OlmoeForCausalLM DeepseekV3ForCausalLM BertForMaskedLM
DebertaV2ForMaskedLM LayoutLMForTokenClassification BartForConditionalGeneration
T5ForConditionalGeneration
""".split()  # noqa: SIM905


def prepared(name, device):
    """Where CPU and GPU take the same way: attention as it is written, no dropout, no convolution."""
    cls = getattr(pytest.importorskip("transformers"), name)
    config = sweep_classes.tiny(cls.config_class)
    config._attn_implementation = "eager"
    model = cls(config).to(device).eval()
    return model, on(model, inputs(model, sweep_classes.CLASSES[name]))


def steps(model, given):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, foreach=True)
    for _ in range(2):
        sweep_classes.loss(model(**given)).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("name", each(3, LIKE_THE_CPU))
def test_the_same_events_as_a_real_run(name):
    """Every request and release of 4 KiB and more, in order."""
    there = prepared(name, "cpu")
    expected = real(lambda _: steps(*there))
    with FakeGPU("a100-80gb") as gpu:
        here = prepared(name, "cuda")
        first = len(gpu.tape.events)
        steps(*here)
        found = recorded(gpu.tape, first)
    assert found == expected
