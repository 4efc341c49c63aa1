"""`measure infer` and `measure train`: what is run on the card, with a fake GPU for a card."""

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from weighbridge.base.errors import UsageError, WeighbridgeError
from weighbridge.faces.cli import menu
from weighbridge_lab.measure import meter, run, tasks
from weighbridge_lab.measure.record import DONE, FakeCard, MeasuredMachine
from weighbridge_lab.measure.run import Target, targets
from weighbridge_lab.trace import guard

CARD = "nvidia-h100-sxm5-80gb"
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 8000,
    "max_position_embeddings": 4096,
    "dtype": "bfloat16",
}
MIXTURE = {
    **CONFIG,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 256,
}
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
STEP = ["load", "forward", "loss", "backward", "step"]
SLACK = 0.02


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    return str(path)


def both(monkeypatch, name, *words):
    """The question on a fake GPU that is taken for the real one, and its prediction."""
    monkeypatch.setattr(guard, "why_not", str)  # its trial has a test of its own
    target = Target(name=name, arguments=words, card=CARD)
    measured = meter.fake(target, FakeCard(name=CARD), events=False)
    return tasks.paired(measured, tasks.predicted(name, words, CARD))


def same(measured, predicted, names):
    """Fail where a phase is missing, or its tensors are not what was said of them."""
    assert measured.outcome == predicted.outcome == DONE
    assert [p.name for p in measured.phases] == [p.name for p in predicted.phases] == names
    for there, ours in zip(measured.phases, predicted.phases, strict=True):
        low, high = ours.low.allocated, ours.high.allocated
        assert low * (1 - SLACK) <= there.peak.allocated <= high * (1 + SLACK), there.name


@pytest.mark.parametrize("config", [CONFIG, MIXTURE], ids=["dense", "experts"])
def test_a_generation_beside_its_prediction(config, tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    words = (str(path), "--engine", "transformers", "--prompt-len", "512", "--max-new-tokens", "88")
    measured, predicted = both(monkeypatch, "infer", *words)
    same(measured, predicted, ["load", "prefill", "decode"])


@pytest.mark.parametrize(
    "words",
    [("--framework", "trainer"), ("--method", "lora", "--framework", "trainer")],
    ids=["trainer", "lora"],
)
def test_steps_beside_their_prediction(words, model, monkeypatch):
    pytest.importorskip("trl")
    measured, predicted = both(monkeypatch, "train", model, "--seq-len", "512", *words)
    same(measured, predicted, STEP)


def test_the_script_of_trl_runs(model, monkeypatch):
    """The loss is a kernel of Triton on a card, which a fake GPU has not: phases alone are told."""
    pytest.importorskip("trl")
    measured, predicted = both(monkeypatch, "train", model, "--seq-len", "64", "--method", "lora")
    assert [p.name for p in measured.phases] == [p.name for p in predicted.phases] == STEP


def test_what_cannot_run_is_said(model):
    with pytest.raises(WeighbridgeError, match="--exact"):
        Target(name="infer", arguments=(model, "--engine", "vllm"), card=CARD).run()
    with pytest.raises(UsageError, match="takes one model, and one value of each setting"):
        tasks.question("infer", (model, "qwen3-0.6b"), CARD)
    with pytest.raises(UsageError, match="1,2"):
        tasks.predicted("infer", (model, "--batch-size", "1,2"), CARD)


def test_the_card_is_the_one_that_is_here(model):
    asked = tasks.question("train", (model, "--gpu", "4090", "--gpu", "3060"), CARD)
    assert asked.settings["gpu"] == CARD


def test_words_are_read_before_anything_starts(capsys):
    (target,) = targets("infer", ("qwen3-0.6b", "--prompt-len", "2K"))
    assert (target.asks, str(target)) == (True, "infer qwen3-0.6b --prompt-len 2K")
    assert menu.run(["measure", "infer", "qwen3-0.6b", "--no-such-flag"]) == 2
    assert "--no-such-flag" in capsys.readouterr().err


def test_a_saved_script_runs_without_weights(model, tmp_path, monkeypatch, capsys):
    """And what was there before is left alone. No GPU is needed to write it."""
    pytest.importorskip("trl")
    script, zeros = str(tmp_path / "run.py"), str(tmp_path / "zeros")
    words = ("train", model, "--method", "lora", "--seq-len", "32", "--save", script)
    assert menu.run(["measure", *words]) == 2
    assert "--zeros DIR" in capsys.readouterr().err
    assert menu.run(["measure", *words, "--zeros", zeros]) == 0
    assert zeros in (tmp_path / "run.py").read_text()
    weights = tmp_path / "zeros" / "model.safetensors"
    assert weights.stat().st_blocks * 512 < weights.stat().st_size / 100
    assert menu.run(["measure", *words, "--zeros", zeros]) == 2
    assert "holds something" in capsys.readouterr().err
    monkeypatch.setattr(guard, "why_not", str)
    monkeypatch.chdir(tmp_path)
    ran = meter.fake(Target(name=script), FakeCard(name=CARD), events=False)
    assert ran.outcome == DONE


def test_a_record_of_a_question(model, monkeypatch):
    """The whole of it, with stand-ins for the processes."""
    machine = MeasuredMachine(
        gpu="H100", card=CARD, capability="9.0", total_memory=1 << 36, driver=None
    )
    words = (model, "--prompt-len", "64", "--max-new-tokens", "8")

    def stand_in(function, *given, warm=False):
        match function.partition(":")[2]:
            case "machine":
                return machine
            case "predicted":
                return tasks.predicted(*given)
            case "real":
                return meter.fake(given[0], FakeCard(name=CARD), events=False)

    monkeypatch.setattr(guard, "why_not", str)
    monkeypatch.setattr(run, "apart", stand_in)
    (record,) = run.measure(targets("infer", words), tasks=True)
    same(record.measured, record.predicted, ["load", "prefill", "decode"])
    assert record.target.startswith("infer ")
    assert record.to_dict()["predicted"]["driver_from"] == "report"
    assert {"low", "high"} < set(record.to_dict()["predicted"]["phases"][0])
