"""Heads of TRL, reward models and trainers as they are installed, beside ours."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("trl")

import weighbridge  # noqa: E402
from tests.torch import trl_trainers  # noqa: E402
from tests.torch.heads_oracle import Jobs, measured  # noqa: E402
from tests.training.heads_here import ALL, CASES, SHAPES, here  # noqa: E402
from tests.training.test_trl_instants import instants  # noqa: E402
from weighbridge.models.arch.builder import blueprint  # noqa: E402
from weighbridge.models.arch.config import Config  # noqa: E402
from weighbridge.training.roles import with_one_output  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries, while they are imported
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
}
KINDS = {
    "llama": SMALL,
    "qwen2": {**SMALL, "tie_word_embeddings": True},
    "qwen3": {**SMALL, "head_dim": 16},
    "mistral": SMALL,
    "gemma2": {**SMALL, "head_dim": 16},
    "phi3": {**SMALL, "pad_token_id": 0},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 1000},
}


@pytest.mark.parametrize("precision", ALL)
def test_tiles_of_the_trl_that_is_installed(precision, monkeypatch):
    [case] = [x for x in CASES if x.name.startswith("trl_tiles")]
    from trl.kernels import chunked_logprob

    for name in ("_use_triton", "_forward_kernel", "_backward_kernel"):
        monkeypatch.setattr(chunked_logprob, name, getattr(chunked_logprob, name, None), False)
    monkeypatch.setattr(chunked_logprob, "triton", None, raising=False)
    job = Jobs("").of(case.name)
    seen = measured(job, case.framework, precision, **SHAPES[case.shape])
    mine = here(case, precision)
    for name, nbytes in seen.items():
        assert mine[name] == pytest.approx(nbytes, rel=0.006, abs=1 << 18), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_tree_with_one_output_is_that_of_the_class(kind):
    config = transformers.AutoConfig.for_model(kind, **KINDS[kind], num_labels=1)
    with torch.device("meta"):
        model = transformers.AutoModelForSequenceClassification.from_config(config)
    names = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    one = with_one_output(blueprint(Config({**config.to_dict(), "architectures": [names[kind]]})))
    assert one.cls == type(model).__name__
    assert {p.name: p.shape for p in one.params} == {
        name: tuple(p.shape) for name, p in model.named_parameters()
    }


def test_logsumexp_takes_a_difference_as_large_as_its_input():
    with weighbridge.FakeGPU("a100-80gb", torch_version="2.13"):
        x = torch.empty(1024, 8192, device="cuda")
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        torch.logsumexp(x, -1)
        most = torch.cuda.max_memory_allocated() - before
    assert most == pytest.approx(x.numel() * 4, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "adapters"), [("dpo", False), ("dpo", True), ("kto", False), ("reward", True)]
)
def test_trainers_take_what_was_written_down(kind, adapters):
    seen = trl_trainers.instants(kind, "bf16-mixed", adapters=adapters)
    written = instants(kind, "bf16-mixed", lora=adapters)
    assert [x[0] for x in seen] == [x[0] for x in written]
    for there, here_ in zip(written, seen, strict=True):
        assert here_[1:] == pytest.approx(there[1:], rel=0.002), there[0]
