"""Trainers as objects: the run that they start equals the question typed by hand. Stand-ins have
what the real classes have; tests/torch trains real ones."""

from types import SimpleNamespace

import pytest

import weighbridge
from weighbridge.base.errors import UsageError
from weighbridge.files.runfiles.live import trainers
from weighbridge.models.catalogue import find

CONFIG = dict(find("llama-3.2-1b").config)


class TrainingArguments:
    """What the reader asks of transformers' class of this name."""

    def __init__(self, **given):
        self.world_size = given.pop("world_size", 1)
        self.given = given

    def to_dict(self):
        usual = {
            "output_dir": "out",
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 1,
            "bf16": False,
            "fp16": False,
            "gradient_checkpointing": False,
            "optim": "adamw_torch_fused",
        }
        return {**usual, **self.given}


class SFTConfig(TrainingArguments):
    """TRL's."""


class GRPOConfig(TrainingArguments):
    """TRL's for rewards."""


class Parameter:
    def __init__(self, count=10, dtype="torch.float32", requires_grad=True):
        self.count, self.dtype, self.requires_grad = count, dtype, requires_grad

    def numel(self):
        return self.count


class LlamaForCausalLM:
    """A live model, as far as it is looked at."""

    def __init__(self, parameters=(), adapters=None, **more):
        self.config = SimpleNamespace(to_dict=lambda: {**CONFIG, **more})
        self.held = parameters or [Parameter()]
        if adapters:
            self.peft_config = {"default": adapters}

    def parameters(self):
        return self.held


def lora(**given):
    return {"peft_type": "LORA", "r": 8, "lora_alpha": 16, **given}


def trainer(args, model=None, accelerator=None):
    return SimpleNamespace(args=args, model=model or LlamaForCausalLM(), accelerator=accelerator)


def same(found, **asked):
    by_hand = weighbridge.train("llama-3.2-1b", gpu="4090", **asked)
    assert found.peak == by_hand.peak
    assert found.verdict.fits == by_hand.verdict.fits


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "model", "asked"),
    [
        (
            TrainingArguments(bf16=True, per_device_train_batch_size=2),
            LlamaForCausalLM(),
            {"method": "full", "precision": "bf16-mixed", "batch_size": 2, "framework": "trainer"},
        ),
        (
            TrainingArguments(bf16=True, gradient_checkpointing=True),
            LlamaForCausalLM([Parameter(dtype="torch.bfloat16")]),
            {
                "method": "full",
                "precision": "bf16-mixed",
                "batch_size": 8,
                "dtype": "bfloat16",
                "checkpointing": "full",
                "framework": "trainer",
            },
        ),
        (
            SFTConfig(bf16=True, max_length=512, gradient_checkpointing=True),
            LlamaForCausalLM(adapters=lora(target_modules={"v_proj", "q_proj"})),
            {
                "method": "lora",
                "lora_r": 8,
                "lora_alpha": 16,
                "lora_targets": "q_proj,v_proj",
                "framework": "trl",
                "seq_len": 512,
                "batch_size": 8,
                "checkpointing": "full",
                "precision": "bf16-mixed",
                "dtype": "float32",
            },
        ),
        (
            SFTConfig(bf16=True, max_length=512, gradient_checkpointing=True),
            LlamaForCausalLM(
                adapters=lora(target_modules="all-linear"),
                quantization_config={
                    "load_in_4bit": True,
                    "bnb_4bit_quant_type": "nf4",
                    "bnb_4bit_use_double_quant": True,
                    "quant_method": "bitsandbytes",
                },
            ),
            {
                "method": "qlora",
                "quantization": "nf4-dq",
                "lora_r": 8,
                "lora_alpha": 16,
                "lora_targets": "all-linear",
                "framework": "trl",
                "seq_len": 512,
                "batch_size": 8,
                "checkpointing": "full",
                "precision": "bf16-mixed",
            },
        ),
    ],
)
def test_a_trainer_is_the_question_that_is_typed_by_hand(args, model, asked):
    same(weighbridge.from_trainer(trainer(args, model), gpu="4090"), **asked)


@pytest.mark.slow
def test_what_is_given_wins_over_what_the_trainer_says():
    found = weighbridge.from_trainer(trainer(TrainingArguments()), batch_size=1, gpu="4090")
    assert found.workload["batch_size"] == 1
    assert found.verdict.accelerator == "GeForce RTX 4090"


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({}, {}),
        (
            {"fsdp_plugin": SimpleNamespace(fsdp_version=2, cpu_offload=True)},
            {"shard": "fsdp2", "offload": "params"},
        ),
        (
            {"fsdp_plugin": SimpleNamespace(fsdp_version=1, cpu_offload=None)},
            {"shard": "fsdp1"},
        ),
        (
            {
                "fsdp_plugin": SimpleNamespace(
                    fsdp_version=1,
                    sharding_strategy=SimpleNamespace(name="SHARD_GRAD_OP"),
                    backward_prefetch=SimpleNamespace(name="BACKWARD_POST"),
                )
            },
            {
                "shard": "fsdp1",
                "reshard_after_forward": False,
                "backward_prefetch": "post",
            },
        ),
        (
            {"fsdp_plugin": SimpleNamespace(fsdp_version=2, reshard_after_forward=False)},
            {"shard": "fsdp2", "reshard_after_forward": False},
        ),
        (
            {"deepspeed_plugin": SimpleNamespace(zero_stage=3, offload_param_device="cpu")},
            {"shard": "zero3", "offload": "params"},
        ),
        (
            {"deepspeed_plugin": SimpleNamespace(zero_stage=2, offload_optimizer_device="cpu")},
            {"shard": "zero2", "offload": "optimizer"},
        ),
    ],
)
def test_how_the_model_is_divided_is_what_the_accelerator_holds(state, told):
    accelerator = SimpleNamespace(state=SimpleNamespace(**state))
    assert trainers.divided(accelerator) == told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"world_size": 1}, {}),
        ({"world_size": 4}, {"data_parallel_size": 4, "shard": "ddp"}),
        (
            {"world_size": 4, "deepspeed": {"zero_optimization": {"stage": 3}}},
            {"data_parallel_size": 4, "shard": "zero3"},
        ),
        (
            {"world_size": 4, "parallelism_config": {"tp_size": 2}},
            {"data_parallel_size": 2, "tensor_parallel_size": 2, "shard": "ddp"},
        ),
    ],
)
def test_processes_are_ranks_whatever_they_share(given, told):
    settings = trainers.of_arguments(TrainingArguments(**given), LlamaForCausalLM()).settings
    kinds = ("data_parallel_size", "tensor_parallel_size", "shard")
    assert {name: settings[name] for name in kinds if name in settings} == told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (lora(use_dora=True), {"method": "dora", "lora_r": 8, "lora_alpha": 16}),
        (
            lora(use_rslora=True),
            {"method": "lora", "lora_r": 8, "lora_alpha": 16, "use_rslora": True},
        ),
        (
            {"peft_type": "IA3", "target_modules": ["k_proj"]},
            {"method": "ia3", "lora_targets": "k_proj"},
        ),
        ({"peft_type": "OFT", "r": 0}, {"method": "oft"}),
        (
            {"peft_type": "BOFT", "boft_block_size": 8, "boft_block_num": 0},
            {"method": "boft", "boft_block_size": 8},
        ),
        (
            {"peft_type": "FOURIERFT", "n_frequency": 500},
            {"method": "fourierft", "n_frequency": 500},
        ),
        ({"peft_type": "SHIRA", "r": 32}, {"method": "shira", "lora_r": 32}),
        (
            {"peft_type": "P_TUNING", "num_virtual_tokens": 8, "encoder_hidden_size": None},
            {"method": "p-tuning", "virtual_tokens": 8},
        ),
        (
            {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 30, "prefix_projection": False},
            {"method": "prefix-tuning", "virtual_tokens": 30},
        ),
        (
            lora(modules_to_save=["lm_head"]),
            {**trainers.adapted(lora()), "modules_to_save": "lm_head"},
        ),
    ],
)
def test_a_config_of_peft_is_settings(given, told):
    assert trainers.adapted(given) == told


def test_a_method_that_is_not_answered_is_refused_by_its_name():
    with pytest.raises(UsageError, match="XLORA of PEFT is not answered"):
        trainers.adapted({"peft_type": "XLORA"})
    with pytest.raises(UsageError, match="boft_block_num is 8, and 0 is answered"):
        trainers.adapted({"peft_type": "BOFT", "boft_block_num": 8})
    with pytest.raises(UsageError, match="prefix_projection is True, and False is answered"):
        trainers.adapted({"peft_type": "PREFIX_TUNING", "prefix_projection": True})
    with pytest.raises(UsageError, match="type is LSTM, and MLP is answered"):
        trainers.adapted({"peft_type": "P_TUNING", "encoder_reparameterization_type": "LSTM"})
    with pytest.raises(UsageError, match="encoder_hidden_size is 64, and the model's width"):
        trainers.adapted({"peft_type": "P_TUNING", "encoder_hidden_size": 64, "token_dim": 128})
    with pytest.raises(UsageError, match="GRPOConfig is not answered"):
        weighbridge.from_trainer(trainer(GRPOConfig()))


def test_an_object_that_is_no_trainer_is_one_line():
    with pytest.raises(UsageError, match=r"a Trainer has [.]args and [.]model; dict has not"):
        weighbridge.from_trainer({})
    bare = SimpleNamespace(config=None, parameters=lambda: iter(()))
    with pytest.raises(UsageError, match="has no config of transformers"):
        weighbridge.from_trainer(trainer(TrainingArguments(), bare))


def test_frozen_parameters_are_told():
    model = LlamaForCausalLM([Parameter(), Parameter(requires_grad=False)])
    found = weighbridge.from_trainer(trainer(TrainingArguments(), model))
    assert any("some parameters are frozen" in warning for warning in found.warnings)
    whole = weighbridge.from_trainer(trainer(TrainingArguments()))
    assert not any("frozen" in warning for warning in whole.warnings)


def test_what_decides_memory_and_is_not_understood_names_its_argument():
    args = TrainingArguments(torch_compile=True)
    found = weighbridge.from_trainer(trainer(args))
    assert any(warning.startswith("args.torch_compile: ") for warning in found.warnings)


def test_the_weights_have_the_dtype_of_most_of_their_numbers():
    few = [Parameter(1, "torch.float32"), Parameter(9, "torch.bfloat16")]
    assert trainers._dtype(LlamaForCausalLM(few), packed=False) == "bfloat16"
    assert trainers._dtype(LlamaForCausalLM(few), packed=True) == ""
    assert trainers._dtype(LlamaForCausalLM([Parameter(1, "torch.uint8")]), packed=False) == ""


class AdamW8bit:
    """bitsandbytes'."""


@pytest.mark.slow
def test_a_loop_of_accelerate_is_the_question_that_is_typed_by_hand():
    accelerator = SimpleNamespace(mixed_precision="bf16", gradient_accumulation_steps=4)
    found = weighbridge.from_accelerator(
        accelerator,
        LlamaForCausalLM(),
        optimizer=AdamW8bit(),
        batch_size=2,
        seq_len=512,
        gpu="4090",
    )
    same(
        found,
        framework="accelerate",
        precision="bf16-mixed",
        gradient_accumulation=4,
        batch_size=2,
        seq_len=512,
        optimizer="adamw_bnb_8bit",
        dtype="float32",
        method="full",
    )
    odd = weighbridge.from_accelerator(accelerator, LlamaForCausalLM(), optimizer=object())
    assert odd.warnings[0] == "the optimizer object is not known: AdamW is counted"
