"""What a type checker sees of the package from outside: `mypy` reads this file, nobody runs it."""

from typing import Literal, assert_type

import weighbridge
from weighbridge import Fit, Infer, Load, Oom, Prepared, Report, Train, fit, infer, load, prepare

assert_type(load("llama-3.1-8b", quantization="nf4"), Report)
assert_type(infer("llama-3.1-8b", Infer(engine="vllm")), Report)
assert_type(weighbridge.train("llama-3.1-8b", Train(method="lora")), Report)
assert_type(fit("llama-3.1-8b", gpu="4090"), Fit)
assert_type(weighbridge.together(["qwen3-4b", "bge-m3"], gpu="3060"), weighbridge.Services)
assert_type(weighbridge.explain_oom("CUDA out of memory"), Oom)

model = prepare("llama-3.1-8b")
assert_type(model, Prepared)
assert_type(model.load(Load(dtype="float16")), Report)
assert_type(model.train(Train(lora_r=16)), Report)

report = model.infer(engine="vllm", gpu="h100")
assert_type(report.peak.expected, int)
if report.verdict is not None:
    assert_type(report.verdict.fits, Literal["yes", "no", "unknown"])

# What is not there is an error for the checker, too; strict mypy says when these no longer are.
weighbridge.trian("llama-3.1-8b")  # type: ignore[attr-defined]
Train(lora_rank=16)  # type: ignore[call-arg]
load("llama-3.1-8b", quantisation="nf4")  # type: ignore[call-arg]
