"""Our counts against published ones, over the corpus of real configs, by class of reason.

    python -m tests.published [--all]

Published counts are real and noisy: some count a tied head twice, some the stored scales, buffers
or prediction layers, some are a scraper's estimate or a rounded figure. Each class is decided by
arithmetic, not by name.
"""

import json
import sys
from collections import Counter, defaultdict
from itertools import islice
from math import prod

from tests.corpus import MODELS, ROOT, configs, manifest
from weighbridge.base.errors import WeighbridgeError
from weighbridge.models.arch.builder import blueprint, known
from weighbridge.models.arch.config import Config
from weighbridge.models.checkpoint.inventory import declared_quantization

BYTES = ("index_total_size_bytes", "lfs_pointer_file_sizes", "peft_trainable_params")
ROUNDED = ("curated", "rounded", "estimate")
PREDICTION = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules", "mtp")


# Differences that arithmetic does not show; each was settled by transformers' own meta-device build,
# which agrees with us, or by the config itself.
SETTLED = {
    "EleutherAI__pythia-410m/config.json": "names a classifier; the count is of the language model",
    "PaddlePaddle__PaddleOCR-VL/config.json": "meta build agrees with us",
    "Qwen__Qwen1.5-MoE-A2.7B-Chat/config.json": "meta build agrees with us",
    "Qwen__Qwen3-VL-235B-A22B-Thinking/config.json": "meta build agrees with us",
    "bigcode__starcoder2-3b/config.json": "the file holds the 7B's config",
    "google__gemma-3-4b-it/config.json": "transcribed without its vocabulary (262,208)",
    "meta-llama__Llama-4-Maverick-17B-128E-Instruct/config.json": "meta build agrees with us",
    "moonshotai__Kimi-K2-Thinking/config.json": "int4 scales are counted: 1/32 of the experts",
    "openbmb__MiniCPM-2B-sft-bf16/config.json": "transcribed with the embeddings untied",
    "xlnet__xlnet-base-cased/config.json": "meta build agrees with us",
    "zai-org__GLM-4.7-FP8/config.json": "transcribed without its quantization",
    "zai-org__GLM-4.7-Flash/config.json": "meta build agrees with us; its prediction layer",
}


def published():
    found = defaultdict(list)
    for line in (ROOT / "parameters.jsonl").read_text().splitlines():
        fact = json.loads(line)
        if fact["kind"] not in BYTES:
            found[fact["model_id"]].append(fact)
    return found


def ids():
    return {entry["file"]: entry["model_id"] for entry in manifest()}


def reason(file, raw, plan, facts):
    """Why none of `facts` is our count; "unexplained" where arithmetic finds nothing."""
    ours = plan.parameters
    extra = [fact["params"] - ours for fact in facts]
    tied = sum(p.numel for p in plan.params if p.tied)
    buffers = sum(prod(b.shape) for b in plan.buffers)
    beside = (MODELS / file).with_name("hf_quant_config.json").exists()
    quantized = declared_quantization(raw) is not None or beside
    text = raw.get("text_config") or raw
    if any(
        fact.get("confidence") in ROUNDED or fact["kind"].startswith("rounded") for fact in facts
    ):
        return "rounded or estimated by the publisher"
    if tied and any(d == tied for d in extra):
        return "a tied weight is counted twice"
    if quantized:
        return "packed elements or scales are counted"
    if any(0 < d <= buffers + 8192 for d in extra):
        return "stored buffers are counted"
    if any(key in text or key in raw for key in PREDICTION) or "Qwen3Next" in plan.cls:
        return "a prediction layer that the class does not load is counted"
    return "settled by hand" if file in SETTLED else "unexplained"


def compare(part=0, parts=1):
    """(outcome, file, detail) of every config of the corpus, or of every `parts`-th of them."""
    facts, names = published(), ids()
    for file, raw in islice(configs(), part, None, parts):
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
            yield (
                reason(file, raw, plan, counts),
                file,
                f"ours {plan.parameters:,}, published {numbers}",
            )


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
