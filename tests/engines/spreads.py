"""How releases of vLLM and SGLang spread a model, by their names; the newest vLLM where none is."""

from functools import partial

from weighbridge.engines.servers import communication as talk
from weighbridge.engines.servers import lora_and_speculation, shards
from weighbridge.engines.sglang import cases
from weighbridge.engines.sglang import weights as sglang
from weighbridge.engines.vllm import outside_torch
from weighbridge.engines.vllm import rules as releases
from weighbridge.engines.vllm import weights as vllm

SPREADS = {"vllm": vllm.split_rules, "sglang": sglang.split_rules}
VLLM, SGLANG = vllm.split_rules((0, 33)), sglang.split_rules((0, 5, 23))
ranks = partial(shards.ranks, rules=VLLM)
draft = partial(lora_and_speculation.draft, rules=VLLM)
lora = partial(lora_and_speculation.lora, rules=VLLM)


def rules(engine, version):
    return SPREADS[engine](version)


def communication(engine, version, **asked):
    by = (
        cases.COLLECTIVES
        if engine == "sglang"
        else outside_torch.collectives(releases.rules(version))
    )
    return talk.communication(by, **asked)
