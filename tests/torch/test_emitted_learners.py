"""Scripts of `--emit trl` for what learns from rewards and preferences: TRL makes its config of them,
and its trainer is called as it is declared."""

import inspect

import pytest

import weighbridge
from tests.torch.emitted import on_a_card, same_arguments

pytest.importorskip("trl", minversion="1.16")
pytestmark = pytest.mark.filterwarnings("ignore")  # of names that go with transformers 6
SCRIPTS = [
    {"method": "dpo", "seq_len": 64, "reference": "precomputed"},
    {"method": "ipo", "seq_len": 64, "lora_r": 8},
    {"method": "kto", "seq_len": 64, "batch_size": 2, "loss": "liger"},
    {"method": "reward", "seq_len": 64, "lora_r": 8},
    {"method": "orpo", "seq_len": 64},
    {"method": "cpo", "seq_len": 64, "gradient_accumulation": 2},
    {"method": "simpo", "seq_len": 64, "lora_r": 8},
    {"method": "rloo", "max_new_tokens": 32, "num_generations": 2, "batch_size": 4},
    {"method": "grpo", "max_new_tokens": 32, "kl_beta": 0.1, "rollout_engine": "vllm"}
    | {"sleep_level": 2, "gpu_memory_utilization": 0.25, "batch_size": 8},
]
OF_TRL = {  # a setting -> the argument that holds it
    "seq_len": "max_length",
    "max_new_tokens": "max_completion_length",
    "num_generations": "num_generations",
    "gpu_memory_utilization": "vllm_gpu_memory_utilization",
    "kl_beta": "beta",
}


@pytest.mark.slow
@pytest.mark.parametrize("settings", SCRIPTS, ids=[one["method"] for one in SCRIPTS])
def test_trl_takes_what_was_asked_for(monkeypatch, settings):
    on_a_card(monkeypatch)
    monkeypatch.setattr("sys.argv", ["train.py"])
    made = weighbridge.emit("qwen3-0.6b", "trl", offline=True, **settings)
    head, call, tail = made.text.partition("trainer = ")
    script: dict = {}
    exec(compile(head, "train.py", "exec"), script)
    args, asked = script["args"], made.report.workload
    same_arguments(args, asked)
    told = {name: getattr(args, word) for name, word in OF_TRL.items() if name in settings}
    assert told == {name: settings[name] for name in told}
    assert getattr(args, "vllm_enable_sleep_mode", False) is bool(settings.get("sleep_level"))
    assert getattr(args, "precompute_ref_log_probs", False) is (
        settings.get("reference") == "precomputed"
    )
    if settings["method"] in ("ipo", "simpo"):
        assert settings["method"] in args.loss_type
    bound = []
    name = tail.partition("(")[0]
    trainer = script[name]

    class Called:
        def __init__(self, *values, **words):
            bound.append(inspect.signature(trainer.__init__).bind(self, *values, **words))

        def train(self):
            pass

    script[name] = Called
    exec(compile(call + tail, "train.py", "exec"), script)
    (one,) = bound
    assert len(one.arguments["train_dataset"]) > 0
    assert (one.arguments.get("peft_config") is not None) is bool(settings.get("lora_r"))
