"""Changes of a question about serving."""

from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.remedies import formats, prices
from weighbridge.remedies.case import Case
from weighbridge.remedies.moves import Move

SERVERS = ("vllm", "sglang")
LLAMAS = ("llama.cpp", "ik_llama.cpp")
ALL = frozenset(("*",))  # a change after which nothing need be as large
STEPS = frozenset(("kv_cache", "activations", "logits", "temporaries", "fragmentation"))
CACHE = frozenset(("kv_cache", "temporaries", "fragmentation", "rounding"))
LAYERS = frozenset(("weights", "kv_cache", *STEPS, "buffers", "rounding", "workspaces"))
SHORTEST = 256  # tokens: a shorter context is of no use (assumed)


def moves(case: Case) -> Iterator[Move]:
    """Every single change that its engine has, the cheapest kinds first."""
    yield from formats.moves(case)
    yield from _shared(case)
    yield from _cache(case)
    yield from _graphs(case)
    yield from _less(case)
    yield from _on_host(case)
    yield from _engines(case)


def _shared(case: Case) -> Iterator[Move]:
    """Cards that were named and are not used."""
    if case.engine not in SERVERS or case.count < 2:
        return
    for name, setting in (
        ("tensor parallel", "tensor_parallel_size"),
        ("pipeline parallel", "pipeline_parallel_size"),
    ):
        if case.free("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"):
            cost = prices.CHANGES[name]
            yield Move(kind=name, change={setting: case.count}, cost=cost, touches=ALL)


def _cache(case: Case) -> Iterator[Move]:
    """Keys and values in 8 bits."""
    if not case.free("kv_cache_dtype", "cache_type_k", "cache_type_v", "cache_implementation"):
        return
    if case.engine in SERVERS and formats.suits("fp8-tensor", case):
        cost, change = prices.CHANGES["kv cache"], {"kv_cache_dtype": "fp8"}
        if case.engine == "sglang":
            change = {"kv_cache_dtype": "fp8_e4m3"}
        yield Move(kind="kv cache", change=change, cost=cost, touches=CACHE)
    elif case.engine in LLAMAS:
        cost = prices.CHANGES["kv cache q8_0"]
        change = {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}
        yield Move(kind="kv cache", change=change, cost=cost, touches=CACHE | {"activations"})


def _graphs(case: Case) -> Iterator[Move]:
    names = {"vllm": "enforce_eager", "sglang": "disable_cuda_graph"}
    name = names.get(case.engine)
    if name is None or not case.free(name) or case.effective.get(name):
        return
    touches = frozenset(
        ("cuda_graphs", "activations", "temporaries", "fragmentation", "workspaces")
    )
    yield Move(kind="graphs", change={name: True}, cost=prices.CHANGES["eager"], touches=touches)


def _less(case: Case) -> Iterator[Move]:
    """A shorter context, fewer requests: as much as there is room for."""
    length = case.report.derived.get("largest_context") or 0
    asked = int(case.effective.get("context") or 0)
    if case.free("context", "prompt_len", "max_new_tokens") and SHORTEST <= length < asked:
        cost = prices.shorter(asked, length, "tokens")
        yield Move(kind="context", change={"context": length}, cost=cost, touches=STEPS)
    most = case.report.derived.get("largest_batch_size") or 0
    batch = int(case.effective.get("batch_size") or 1)
    if case.free("batch_size") and 0 < most < batch:
        cost = prices.shorter(batch, most, "requests at once")
        yield Move(kind="batch", change={"batch_size": most}, cost=cost, touches=STEPS)


def _on_host(case: Case) -> Iterator[Move]:
    """Layers, or their experts, in host memory: as few as need be."""
    if case.engine not in LLAMAS or not case.free("n_gpu_layers", "n_cpu_moe"):
        return
    if case.report.model.active_parameters < case.report.model.parameters:
        count = _fewest(case)
        if count:
            cost = prices.on_host("experts", count, _all_layers(case))
            yield Move(kind="experts", change={"n_cpu_moe": count}, cost=cost, touches=LAYERS)
    most = case.report.derived.get("n_gpu_layers_that_fit")
    count = _layers(case, most) if most else 0
    if count:
        whole = _all_layers(case)
        cost = prices.on_host("layers", whole - count, whole)
        yield Move(kind="layers", change={"n_gpu_layers": count}, cost=cost, touches=ALL)


def _fewest(case: Case) -> int:
    """The fewest layers whose experts must go; 0 where that never is enough."""
    return _least(lambda n: _fits(case, {"n_cpu_moe": n}), _all_layers(case) - 1)


def _all_layers(case: Case) -> int:
    """Layers that a device can hold, the output's among them."""
    return int(case.effective.get("n_gpu_layers") or 1)


def _layers(case: Case, most: int) -> int:
    from weighbridge.estimate.limits import largest

    return largest(lambda n: _fits(case, {"n_gpu_layers": n}), most, near=max(1, most - 1))


def _least(holds: Any, most: int) -> int:
    """The smallest number of 1 to `most` that holds; 0 where the most does not."""
    if most < 1 or not holds(most):
        return 0
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _fits(case: Case, change: Mapping[str, Any]) -> bool:
    found = case.ask(case.changed(change)).verdict
    return found is not None and found.fits == "yes"


def _engines(case: Case) -> Iterator[Move]:
    """Another program, for a card without room."""
    if not case.free("engine", "quantization", "dtype") or case.engine != "transformers":
        return
    if formats.packed(case):
        return
    for form in formats.OFFERED["llama.cpp"]:
        base = prices.FORMATS[form]
        other = prices.CHANGES["llama.cpp"]
        yield Move(
            kind="engine",
            change={"engine": "llama.cpp", "quantization": form},
            cost=prices.together((other, base)),
            touches=ALL,
        )
    if case.count > 1:
        cost = prices.CHANGES["tensor parallel"]
        yield Move(
            kind="engine",
            change={"engine": "vllm", "tensor_parallel_size": case.count},
            cost=cost,
            touches=ALL,
        )
