"""Questions that do not fit, made by hand: what a search sees, without any estimate."""

from types import SimpleNamespace

from weighbridge.answers.remedies import RemedyCase
from weighbridge.base.memory import Bytes
from weighbridge.base.units import GIB
from weighbridge.workload import read

TRAINED = {
    "framework": "trainer",
    "method": "full",
    "loss": "liger",
    "attention": "efficient",
    "checkpointing": "full",
    "optimizer": "sgd",
    "optim_args": None,
    "batch_size": 1,
    "gradient_accumulation": 1,
    "seq_len": 1,
    "precision": "bf16",
    "shard": "none",
    "offload": "none",
    "dtype": "bfloat16",
}
SERVED = {"engine": "transformers", "dtype": "bfloat16", "context": 1, "batch_size": 1}


def case(task="train", gpu="a100-80gb", *, pinned=(), needs=90 * GIB, used=1, derived=(), **more):
    """A question of that task. `more` are settings as they are used, and what the report says of
    the model: `architecture`, `devices`."""
    model = SimpleNamespace(
        architecture=more.pop("architecture", "LlamaForCausalLM"),
        name=more.pop("model", "nobody/knows-it"),
        parameters=1_000_000,
        active_parameters=1_000_000,
    )
    devices = more.pop("devices", ())
    workload = read(task, {"gpu": gpu})
    verdict = SimpleNamespace(
        per_device=Bytes(needs, needs, needs),
        margin_bytes=80 * GIB - needs,
        devices_used=used,
        fits="no",
        host=more.pop("host", None),
    )
    base = TRAINED if task == "train" else SERVED
    report = SimpleNamespace(
        verdict=verdict,
        workload={**base, **more},
        model=model,
        derived=dict(derived),
        devices=devices,
        remedies=(),
    )
    return RemedyCase(
        task=task, workload=workload, report=report, ask=None, pinned=frozenset(pinned)
    )


def of_kind(moves, kind):
    return [m for m in moves if m.kind == kind]
