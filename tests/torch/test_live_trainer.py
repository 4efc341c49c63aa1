"""Real trainers: what they hold is read, and the callback speaks before and after their steps."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import weighbridge  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries, while they are imported

SHAPES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
}
ROWS = [{"input_ids": [1] * 16, "labels": [1] * 16}] * 4


@pytest.fixture
def model():
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**SHAPES))


@pytest.fixture
def trainer(tmp_path):
    def made(model, **given):
        from transformers import Trainer, TrainingArguments

        callbacks = given.pop("callbacks", None)
        args = TrainingArguments(
            output_dir=str(tmp_path),
            use_cpu=True,
            report_to=[],
            max_steps=2,
            per_device_train_batch_size=2,
            save_strategy="no",
            **given,
        )
        return Trainer(model=model, args=args, train_dataset=ROWS, callbacks=callbacks)

    return made


def by_hand(model, **asked):
    config = {**model.config.to_dict(), "architectures": ["LlamaForCausalLM"]}
    usual = {"framework": "trainer", "batch_size": 2, "optimizer": "adamw_torch_fused"}
    return weighbridge.train(config, **{**usual, "dtype": "float32", "seq_len": 16, **asked})


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({}, {"precision": "fp32"}),
        ({"bf16": True}, {"precision": "bf16-mixed"}),
        (
            {"gradient_checkpointing": True, "gradient_accumulation_steps": 2},
            {"precision": "fp32", "checkpointing": "full", "gradient_accumulation": 2},
        ),
    ],
)
def test_a_trainer_of_transformers_is_the_question_that_is_typed_by_hand(
    trainer, model, given, asked
):
    found = weighbridge.from_trainer(trainer(model, **given), seq_len=16)
    assert found.peak == by_hand(model, method="full", **asked).peak


def test_adapters_of_peft_are_seen(trainer, model):
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    )
    found = weighbridge.from_trainer(trainer(adapted), seq_len=16)
    asked = {"lora_r": 4, "lora_alpha": 8, "lora_targets": "q_proj,v_proj", "precision": "fp32"}
    assert found.peak == by_hand(model, method="lora", **asked).peak


def test_a_loop_of_accelerate_is_read(model):
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model, optimizer = accelerator.prepare(model, optimizer)
    found = weighbridge.from_accelerator(
        accelerator, model, optimizer=optimizer, batch_size=2, seq_len=16
    )
    assert found.workload["optimizer"] == "sgd"
    assert found.workload["gradient_accumulation"] == 3
    assert found.workload["framework"] == "accelerate"


@pytest.mark.skipif(
    torch.cuda.is_available(), reason="the lines are those of a machine without one"
)
def test_the_callback_speaks_before_the_first_step_and_after_the_second(trainer, model):
    lines = []
    callback = weighbridge.WeighbridgeCallback(log=lines.append, seq_len=16)
    trainer(model, callbacks=[callback]).train()
    assert lines[0].startswith("weighbridge: predicted: tensors ")
    assert lines[-1] == "weighbridge: no CUDA device is here: nothing was measured"
    assert callback.report.peak == by_hand(model, method="full", precision="fp32").peak
