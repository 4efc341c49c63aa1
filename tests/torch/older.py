"""Steps of real classes of older releases of transformers, recorded for tests that have no torch.

    PYTHONPATH=src VENV/bin/python -m tests.torch.older

puts the runs of CASES that the release in VENV has into tests/training/older.jsonl, in place of
those of that release that stood there. It wants torch, and peft for adapters. As many tokens go to
each expert: that is what our programs take for granted, and a fake GPU cannot know.
"""

import json
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from math import ceil
from pathlib import Path
from unittest.mock import patch

from tests.training.test_older import CASES, RECORDED, off


@contextmanager
def dealt(experts, k):
    """Have every expert find as many tokens."""
    import torch

    where, total = torch.where, torch.Tensor.sum

    def found(mask, *rest, **more):
        if rest or more or mask.dim() != 2 or mask.device.type != "cuda":
            return where(mask, *rest, **more)
        shape = mask.numel() // experts, 2
        return torch.empty(shape, dtype=torch.int64, device=mask.device).unbind(1)

    def counted(self, *rest, **more):
        by_expert = rest == (0,) or more.get("dim") == 0
        counts = self.dtype == torch.int64 and self.dim() == 2 and self.shape[-1] == experts
        if not (by_expert and counts and self.device.type == "cuda"):
            return total(self, *rest, **more)
        each = self.shape[0] * k // experts
        return torch.full((experts,), each, dtype=torch.int64, device=self.device)

    with ExitStack() as stack:
        if experts:
            stack.enter_context(patch.object(torch, "where", found))
            stack.enter_context(patch.object(torch.Tensor, "sum", counted))
        yield


def whole(batch, length, device):
    """What a collator gives: a mask, in which every token counts. Without one 4.53 and later look
    for packed sequences, and make a mask of all pairs of tokens."""
    import torch

    from tests.torch.training_oracle import causal

    mask = torch.ones(batch, length, dtype=torch.int64, device=device)
    return causal(batch, length, device) | {"attention_mask": mask}


def adapted(targets):
    import torch
    from peft import LoraConfig, get_peft_model

    def prepare(model):
        lora = LoraConfig(r=8, target_modules=targets.split(","))
        return get_peft_model(model.to(torch.bfloat16), lora)

    return prepare


def run(kind, config, experts, settings):
    """The moments of two steps: (phase, allocated at its end, its peak)."""
    from tests.torch.training_oracle import real

    given = {k: v for k, v in settings.items() if k != "lora_targets"}
    if "lora_targets" in settings:
        given["prepare"] = adapted(settings["lora_targets"])
    with dealt(*experts):
        seen = real(kind, config, inputs=whole, **given)
    return [moment[:3] for moment in seen.moments]


def main():
    import transformers

    here = {"transformers": version("transformers"), "torch": version("torch").partition("+")[0]}
    old = [json.loads(line) for line in RECORDED.read_text().splitlines()] if _there() else []
    lines = [x for x in old if x["transformers"] != here["transformers"]]
    names = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    for kind, (config, experts, runs) in CASES.items():
        for settings in runs if kind in names else ():
            made = run(kind, config, experts, settings)
            said = {"model_type": kind, "architectures": [names[kind]], **config}
            line = here | {"config": said, "settings": settings, "moments": made}
            lines.append(line | {"off": ceil(1e4 * off(line) + 1) / 1e4})
            print(kind, settings)
    lines.sort(key=lambda x: (x["transformers"], x["config"]["model_type"]))
    RECORDED.write_text("".join(json.dumps(x) + "\n" for x in lines))


def _there():
    return Path(RECORDED).exists()


if __name__ == "__main__":
    main()
