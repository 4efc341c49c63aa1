"""Our counts against published ones, over the corpus of real configs, by class of reason.

    python -m tests.published [--all]

Published counts are real and noisy: some count a tied head twice, some the stored scales, buffers
or prediction layers, some are a scraper's estimate or a rounded figure. Each class is decided by
arithmetic, not by name.
"""

import json
import sys
from collections import Counter, defaultdict
from math import prod

from tests.corpus import MODELS, ROOT, configs, manifest
from weighbridge.arch.config import Config
from weighbridge.arch.families import blueprint, known
from weighbridge.errors import WeighbridgeError

BYTES = ("index_total_size_bytes", "lfs_pointer_file_sizes", "peft_trainable_params")
ROUNDED = ("curated", "rounded", "estimate")
PREDICTION = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules", "mtp")


def published():
    found = defaultdict(list)
    for line in (ROOT / "parameters.jsonl").open():
        fact = json.loads(line)
        if fact["kind"] not in BYTES:
            found[fact["model_id"]].append(fact)
    return found


def ids():
    return {entry["file"]: entry["model_id"] for entry in manifest()}


def reason(raw, plan, facts):
    """Why none of `facts` is our count; "unexplained" where arithmetic finds nothing."""
    ours = plan.parameters
    extra = [fact["params"] - ours for fact in facts]
    tied = sum(p.numel for p in plan.params if p.tied)
    buffers = sum(prod(b.shape) for b in plan.buffers)
    quantized = any(key in raw for key in ("quantization_config", "quantization")) or any(
        "quantization_config" in (raw.get(k) or {}) for k in ("text_config",)
    )
    text = raw.get("text_config") or raw
    if any(fact.get("confidence") in ROUNDED or fact["kind"].startswith("rounded") for fact in facts):
        return "rounded or estimated by the publisher"
    if tied and any(d == tied for d in extra):
        return "a tied weight is counted twice"
    if quantized:
        return "packed elements or scales are counted"
    if any(0 < d <= buffers + 8192 for d in extra):
        return "stored buffers are counted"
    if any(key in text or key in raw for key in PREDICTION) or "Qwen3Next" in plan.cls:
        return "a prediction layer that the class does not load is counted"
    return "unexplained"


def compare():
    """(outcome, file, detail) of every config of the corpus."""
    facts, names = published(), ids()
    for file, raw in configs():
        if not isinstance(raw, dict):
            continue
        counts = facts.get(names[file], [])
        if not known(raw):
            yield "model type not in our tables", file, str(raw.get("model_type"))
            continue
        try:
            plan = blueprint(Config(raw))
        except WeighbridgeError as error:
            yield "refused", file, str(error)
            continue
        if not counts:
            yield "no published count", file, f"{plan.parameters:,}"
        elif plan.parameters in {fact["params"] for fact in counts}:
            yield "agrees", file, f"{plan.parameters:,}"
        else:
            numbers = ", ".join(f"{fact['params']:,}" for fact in counts)
            yield reason(raw, plan, counts), file, f"ours {plan.parameters:,}, published {numbers}"


def main(arguments):
    if not MODELS.exists():
        print(f"no corpus at {MODELS}")
        return 2
    rows = list(compare())
    for outcome, count in Counter(outcome for outcome, _, _ in rows).most_common():
        print(f"{count:5}  {outcome}")
    for outcome, file, detail in rows:
        if "--all" in arguments or outcome in ("unexplained", "refused"):
            print(f"{outcome}: {file}: {detail[:150]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
