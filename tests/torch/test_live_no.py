"""What a trainer says no to is taken as a no, and what is not counted is named."""

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import weighbridge  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def model():
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(
            LlamaConfig(
                hidden_size=512, num_hidden_layers=8, num_attention_heads=8, vocab_size=4096
            )
        )


def sft(model, tmp_path, **given):
    trl = pytest.importorskip("trl")
    args = trl.SFTConfig(output_dir=str(tmp_path), use_cpu=True, **given)
    return SimpleNamespace(model=model, args=args)


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({"bf16": True, "gradient_checkpointing": False}, {"checkpointing": "none"}),
        ({"bf16": False}, {"precision": "fp32"}),
    ],
)
def test_a_switch_that_is_off_is_not_the_default_of_trl(model, tmp_path, given, asked):
    usual = {"precision": "bf16-mixed", "checkpointing": "full", "optimizer": "adamw_torch_fused"}
    sizes = {"batch_size": 8, "seq_len": 1024, "dtype": "float32", "framework": "trl"}
    config = {**model.config.to_dict(), "architectures": ["LlamaForCausalLM"]}
    by_hand = weighbridge.train(config, method="full", **{**usual, **sizes, **asked})
    assert weighbridge.from_trainer(sft(model, tmp_path, **given)).peak == by_hand.peak


def test_adapters_on_some_layers_are_warned_of(model, tmp_path):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=["q_proj"], layers_to_transform=[0])
    adapted = SimpleNamespace(peft_config={"default": config}, get_base_model=lambda: model)
    report = weighbridge.from_trainer(sft(adapted, tmp_path, bf16=True))
    assert any("peft_config.layers_to_transform" in line for line in report.warnings)


def test_momentum_is_a_state_of_sgd(model):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    plain = SimpleNamespace(mixed_precision="no")
    report = weighbridge.from_accelerator(plain, model, optimizer=optimizer, seq_len=64)
    assert report.workload["optimizer"] == "sgd-momentum"


@pytest.mark.parametrize(
    ("strategy", "shard", "warned"),
    [("FULL_SHARD", "fsdp1", 0), ("SHARD_GRAD_OP", "ddp", 1), ("NO_SHARD", "ddp", 0)],
)
def test_the_strategy_of_fsdp_is_read(model, strategy, shard, warned):
    plugin = SimpleNamespace(sharding_strategy=strategy, activation_checkpointing=True)
    state = SimpleNamespace(fsdp_plugin=plugin)
    accelerator = SimpleNamespace(mixed_precision="bf16", num_processes=4, state=state)
    report = weighbridge.from_accelerator(accelerator, model, seq_len=64)
    said = [line for line in report.warnings if "fsdp_plugin" in line]
    asked = report.workload["shard"], report.workload["checkpointing"], len(said)
    assert asked == (shard, "full", warned)


def test_a_length_that_nobody_says_is_told(model, tmp_path):
    from transformers import TrainingArguments

    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    report = weighbridge.from_trainer(SimpleNamespace(model=model, args=args))
    assert any("give seq_len" in line for line in report.warnings)


def test_what_breaks_while_it_is_weighed_stops_no_training():
    from weighbridge.files.runfiles.live.telling import Teller

    def broken():
        raise RuntimeError("odd config")

    lines = []
    Teller(2, lines.append).predict(broken)
    assert lines == ["weighbridge: not weighed: RuntimeError: odd config"]
