"""transformers' own meta-device build of a config: what its class holds, under checkpoint names.

`python -m tests.torch.oracle CONFIG.json...` compares our blueprints with it and prints what differs.
"""

import copy
import json
import sys
from collections import Counter
from pathlib import Path


def build(raw, cls=None):
    """The class that the config names (or `cls`), on the meta device."""
    import torch
    import transformers

    raw = copy.deepcopy(
        {k: v for k, v in raw.items() if k not in ("auto_map", "quantization_config")}
    )
    raw.setdefault("architectures", [])
    model_type = raw.pop("model_type")
    config = transformers.AutoConfig.for_model(model_type, **raw)
    config._attn_implementation = "eager"
    name = cls or (raw["architectures"] or [None])[0]
    with torch.device("meta"):
        return getattr(transformers, name)(config)


def tensors(model):
    """{checkpoint name: shape} of all unique parameters, as save_pretrained would write them: each
    tied one under the name of its owner."""
    from transformers.core_model_loading import revert_weight_conversion

    views = getattr(model, "all_tied_weights_keys", {})
    found, seen = {}, set()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name not in views and id(parameter) not in seen:
            seen.add(id(parameter))
            found[name] = parameter
    if hasattr(model, "base_model_prefix"):
        found = revert_weight_conversion(model, found)
    return {name: tuple(t.shape) for name, t in found.items()}


def numel(model):
    return sum(p.numel() for p in model.parameters())


def buffers(model):
    """{module name: (shape, dtype, persistent)} of all buffers."""
    persistent = set(model.state_dict())
    return {
        name: (tuple(b.shape), str(b.dtype).removeprefix("torch."), name in persistent)
        for name, b in model.named_buffers()
    }


def ours(raw, cls=None, base_model=False):
    from weighbridge.models.arch.builder import blueprint
    from weighbridge.models.arch.config import Config

    return blueprint(Config(raw, cls=cls or ""), base_model=base_model)


LAST = {}  # the class that was compared last: its tensors are asked first, and then its buffers


def compared(raw, cls):
    """The class, to look at alone."""
    asked = repr((raw, cls))
    if asked not in LAST:
        LAST.clear()
        LAST[asked] = build(raw, cls)
    return LAST[asked]


def differences(raw, cls=None):
    """Lines that say where our blueprint and the class differ; none when they agree."""
    plan = ours(raw, cls)
    model = compared(raw, cls or plan.cls)
    want, got = tensors(model), {p.name: tuple(p.shape) for p in plan.params if not p.tied}
    lines = []
    if numel(model) != plan.parameters:
        lines.append(f"parameters: class {numel(model):,}, ours {plan.parameters:,}")
    lines += [f"missing: {n} {want[n]}" for n in want.keys() - got.keys()]
    lines += [f"invented: {n} {got[n]}" for n in got.keys() - want.keys()]
    lines += [
        f"shape: {n} class {want[n]}, ours {got[n]}"
        for n in want.keys() & got.keys()
        if want[n] != got[n]
    ]
    duplicate = [n for n, k in Counter(p.name for p in plan.params).items() if k > 1]
    lines += [f"twice: {n}" for n in duplicate]
    return sorted(lines)


def buffer_differences(raw, cls=None):
    """Buffers compared by shape, dtype and persistence; their names are the modules' own."""
    plan = ours(raw, cls)
    return buffers_unlike(compared(raw, cls or plan.cls), plan)


def buffers_unlike(model, plan):
    default = "float32"
    want = Counter(buffers(model).values())
    got = Counter(
        (b.shape, b.dtype or default, b.persistent) for b in plan.buffers if b.until is None
    )
    return [f"class only: {k} x{v}" for k, v in (want - got).items()] + [
        f"ours only: {k} x{v}" for k, v in (got - want).items()
    ]


def main(paths):
    for path in paths:
        raw = json.loads(Path(path).read_text())
        try:
            lines = differences(raw) + buffer_differences(raw)
        except Exception as error:
            lines = [f"{type(error).__name__}: {str(error)[:300]}"]
        total = "" if lines else f" {ours(raw).parameters:,}"
        print(f"{'DIFFERS' if lines else 'agrees '} {path}{total}")
        for line in lines[:12]:
            print("   ", line)


if __name__ == "__main__":
    main(sys.argv[1:])
