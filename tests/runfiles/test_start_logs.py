"""Logs of servers that start: what each part took, beside the answer, and what follows from it."""

import shlex

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.base.units import GIB, MIB
from weighbridge.faces.texts.runfile import view
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.document import documents
from weighbridge.files.runfiles.findings import findings, stored
from weighbridge.files.runfiles.record import ServerStart, StartPart
from weighbridge.files.runfiles.serving.start_logs import starts

VLLM = """\
INFO 04-15 07:22:41 [utils.py:233] non-default args: {'model_tag': 'qwen3-8b', 'max_model_len': 8192, 'enforce_eager': True, 'api_key': None, 'gpu_memory_utilization': 0.8}
INFO 04-15 07:22:50 [core.py:69] Initializing a V1 LLM engine (v0.9.2) with config: model='qwen3-8b', max_seq_len=8192
INFO 04-15 07:23:10 [gpu_model_runner.py:1782] Model loading took 15.2683 GiB and 6.1 seconds
INFO 04-15 07:23:20 [gpu_worker.py:232] Available KV cache memory: 1.50 GiB
INFO 04-15 07:23:20 [kv_cache_utils.py:716] GPU KV cache size: 10,922 tokens
"""
SGLANG = """\
[2026-01-01] server_args=ServerArgs(model_path='qwen3-8b', tokenizer_path='x', tp_size=1, mem_fraction_static=0.85, context_length=4096, quantization=None, kv_cache_dtype='auto')
Load weight end. type=Qwen3ForCausalLM, dtype=torch.bfloat16, avail mem=7.77 GB, mem usage=15.36 GB.
KV Cache is allocated. #tokens: 20480, K size: 1.41 GB, V size: 1.41 GB
Capture cuda graph end. Time elapsed: 3.4 s. mem usage=0.60 GB. avail mem=3.1 GB.
max_total_num_tokens=20480, chunked_prefill_size=2048, max_running_requests=2048, context_len=4096
"""
LLAMA_CPP = """\
llama_model_loader: loaded meta data with 28 key-value pairs and 399 tensors from /m/Qwen3-8B-Q4_K_M.gguf (version GGUF V3)
load_tensors:   CPU_Mapped model buffer size =   333.84 MiB
load_tensors:        CUDA0 model buffer size =  4455.34 MiB
llama_context: n_ctx         = 4096
llama_kv_cache:      CUDA0 KV buffer size =   576.00 MiB
llama_context:      CUDA0 compute buffer size =   304.75 MiB
llama_context:  CUDA_Host compute buffer size =    16.01 MiB
"""
OLDER = """\
INFO 01-10 09:11:01 api_server.py:712] vLLM API server version 0.6.6
INFO 01-10 09:11:01 api_server.py:713] args: Namespace(model_tag='qwen3-8b', host=None, model='qwen3-8b', dtype='auto', max_model_len=8192, tensor_parallel_size=1, enforce_eager=False)
INFO 01-10 09:11:40 worker.py:241] model weights take 15.27GiB; non_torch_memory takes 0.10GiB; PyTorch activation peak memory takes 1.20GiB; the rest of the memory reserved for KV Cache is 4.60GiB.
"""
OLLAMA = """\
time=2025-03-01T10:00:00.000Z level=INFO source=routes.go:1205 msg="Listening on [::]:11434 (version 0.12.3)"
msg="offload to cuda" layers.model=37 layers.offload=37 memory.available="[22.0 GiB]" memory.required.full="9.5 GiB" memory.required.kv="4.5 GiB" memory.weights.total="8.8 GiB" memory.graph.full="1.0 GiB"
msg="starting llama server" cmd="/usr/bin/ollama runner --model /blobs/sha256-1 --ctx-size 32768 --batch-size 512"
llama_model_loader: - kv   2: general.name str = Qwen3 8B
print_info: file type   = Q4_K - Medium
llama_kv_cache:      CUDA0 KV buffer size =  4608.00 MiB
"""


def of(text):
    (document,) = documents(text, "text")
    return document


def sizes(start):
    return {part.name: part.value for part in start.parts}


def test_lines_of_vllm_are_parts_and_counts_of_one_start():
    (start,) = starts(of(VLLM))
    assert start.program == "vllm"
    assert sizes(start) == {"weights": round(15.2683 * GIB), "kv_cache": round(1.5 * GIB)}
    assert start.counts == {"context": 8192, "tokens": 10922}
    assert [part.line for part in start.parts] == [3, 4]


def test_keys_and_values_of_sglang_are_one_cache():
    (start,) = starts(of(SGLANG))
    assert sizes(start)["kv_cache"] == 2 * round(1.41 * GIB)
    assert sizes(start)["cuda_graphs"] == round(0.6 * GIB)
    assert start.counts == {"tokens": 20480, "context": 4096}


def test_buffers_of_llama_cpp_stand_device_by_device():
    (start,) = starts(of(LLAMA_CPP))
    assert start.size("weights") == round(333.84 * MIB) + round(4455.34 * MIB)
    assert {part.device for part in start.parts} == {"CPU_Mapped", "CUDA0", "CUDA_Host"}


@pytest.mark.parametrize("text", ["", "no log at all, out of memory", "model buffer size = 1 MiB"])
def test_a_text_without_such_lines_has_no_start(text):
    assert starts(of(text)) == []


def test_a_part_that_comes_again_begins_another_start_and_their_number_is_bounded():
    line = "Available KV cache memory: 1.0 GiB\n"
    assert len(starts(of(line * 3))) == 3
    assert len(starts(of(line * 30))) == 8


@pytest.mark.parametrize(
    ("log", "model", "asked"),
    [
        (VLLM, "qwen3-8b", {"engine": "vllm", "engine_version": "0.9.2", "context": 8192}),
        (VLLM, "qwen3-8b", {"gpu_memory_utilization": 0.8}),
        (SGLANG, "qwen3-8b", {"engine": "sglang", "context": 4096, "mem_fraction_static": 0.85}),
        (
            LLAMA_CPP,
            "Qwen3-8B-Q4_K_M",
            {"engine": "llama.cpp", "context": 4096, "quantization": "Q4_K_M"},
        ),
    ],
)
def test_a_log_alone_tells_the_model_and_the_settings(log, model, asked):
    (run,) = read(log).runs
    assert run.model == model
    (weighed,) = weighbridge.weigh(log, name="the text").runs
    assert {name: weighed.report.workload[name] for name in asked} == asked


def test_the_flags_of_vllm_are_those_that_it_was_given():
    (run,) = read(VLLM).runs
    assert run.command == (
        "vllm serve qwen3-8b --max-model-len 8192 --enforce-eager --gpu-memory-utilization 0.8"
    )


def test_each_measured_part_stands_beside_the_predicted_one():
    text = LLAMA_CPP + "on my RTX 4090"
    (weighed,) = weighbridge.weigh(text, name="the text").runs
    measured = {part.name: (part.measured, part.predicted) for part in weighed.measured}
    assert set(measured) == {"weights", "kv_cache", "activations"}
    assert measured["kv_cache"] == (576 * MIB, 576 * MIB)
    assert abs(measured["weights"][0] - measured["weights"][1]) < MIB  # no buffer of the host
    assert measured["activations"][0] == round(304.75 * MIB)
    grid = next(b for b in view(weighbridge.weigh(text, name="t")).blocks if "log" in str(b))
    assert "576" in str(grid)


def test_tokens_and_bytes_of_vllm_stand_beside_those_that_it_will_print():
    found = weighbridge.weigh(VLLM + "on my RTX 4090", name="the text")
    (weighed,) = found.runs
    parts = {part.name: part for part in weighed.measured}
    derived = weighed.report.derived
    assert parts["tokens"].predicted == derived["kv_cache_tokens"]
    assert parts["kv_cache"].predicted == derived["available_kv_cache_bytes"]
    assert found.to_dict()["runs"][0]["measured"][0]["name"] == "weights"


def test_what_ollama_plans_is_not_added_to_what_it_takes():
    (start,) = starts(of(OLLAMA))
    assert start.program == "ollama"
    assert start.size("kv_cache") == 4608 * MIB
    (weighed,) = weighbridge.weigh(OLLAMA + "on my RTX 4090", name="the text").runs
    assert [part.measured for part in weighed.measured] == [4608 * MIB]


def test_a_command_above_a_log_is_no_file_of_commands():
    text = f"vllm serve qwen3-8b --max-model-len 8192\n{VLLM}"
    assert read(text, "server.log").kind == "text"


def test_of_two_starts_that_of_the_same_context_stands_beside_the_answer():
    longer = "max_seq_len=16384\nModel loading took 15.9 GiB\nGPU KV cache size: 9,000 tokens\n"
    (weighed,) = weighbridge.weigh(VLLM + longer + "on my RTX 4090", name="the text").runs
    assert weighed.report.workload["context"] == 8192
    assert weighed.measured[0].measured == round(15.2683 * GIB)
    text = f"{longer}{VLLM.replace('8192', '4096')}on my RTX 4090"
    (other,) = weighbridge.weigh(text, name="the text").runs
    assert other.measured[0].measured == round(15.2683 * GIB)


def test_a_log_of_another_engine_is_not_set_beside_an_answer():
    text = f"On my RTX 4090:\nvllm serve qwen3-8b --max-model-len 4096\n{LLAMA_CPP}"
    (weighed,) = weighbridge.weigh(text, name="the text").runs
    assert weighed.report.workload["engine"] == "vllm"
    assert weighed.measured == ()


# What follows from the figures


def vllm(context, **parts):
    counts = {"context": context}
    if "tokens" in parts:
        counts["tokens"] = parts.pop("tokens")
    held = tuple(StartPart(name, round(size * GIB), 1) for name, size in parts.items())
    return ServerStart("vllm", held, counts)


def keys(started, text=""):
    return [finding.key for finding in findings(text, started, [])]


def test_a_cache_that_shrinks_at_the_same_bytes_a_token_lost_to_a_step_of_the_profile():
    short, long = vllm(100_000, kv_cache=10, tokens=200_000), vllm(200_000, kv_cache=4, needed=10)
    (found,) = findings("", [short, long], [])
    assert found.key == "less_cache"
    assert found.values["less_bytes"] == 6 * GIB
    assert found.values["rate_bytes"] == round(10 * GIB / 200_000)
    assert keys([short, vllm(200_000, kv_cache=4, needed=10.2)]) == ["less_cache.both"]


@pytest.mark.parametrize(
    "long",
    [
        vllm(200_000, kv_cache=4, needed=20),  # a token takes twice as much
        vllm(200_000, kv_cache=10, needed=10),  # nothing was lost
        vllm(100_000, kv_cache=4, needed=5),  # no longer
        vllm(200_000, kv_cache=4),  # nothing tells the rate
    ],
)
def test_no_step_is_blamed_where_a_figure_says_otherwise(long):
    assert keys([vllm(100_000, kv_cache=10, tokens=200_000), long]) == []


@pytest.mark.parametrize(
    ("large", "cache", "key"),
    [
        (3.0, 8.0, ["square.room"]),  # 3 x at 2 x the length; 9 of 11 GiB
        (3.0, 5.9, ["square"]),  # 9 of 8.9 GiB
        (2.7, 8.0, []),  # below 2 to the power 1.5
    ],
)
def test_activations_that_grow_with_the_square_are_told_with_what_comes_next(large, cache, key):
    short, long = (
        vllm(4096, activations=1, kv_cache=10),
        vllm(8192, activations=large, kv_cache=cache),
    )
    assert keys([short, long]) == key
    if key:
        (found,) = findings("", [short, long], [])
        assert (found.values["next"], found.values["next_size_bytes"]) == (16384, 9 * GIB)


def test_a_cache_below_the_longest_request_may_let_one_wait():
    assert keys([vllm(8192, kv_cache=1, tokens=8191)]) == ["waits"]
    assert keys([vllm(8192, kv_cache=1, tokens=8192)]) == []


OFFLOAD = (
    "level=INFO source=server.go:130 msg=offload library=cuda layers.model=81 layers.offload=44 "
    'memory.available="[{free} GiB {free} GiB]" memory.required.full="127.4 GiB" '
    'memory.required.kv="20.0 GiB" memory.weights.total="80.0 GiB" memory.graph.full="8.0 GiB"'
)


def test_ollama_s_line_is_taken_apart_and_its_weights_are_without_the_cache():
    (start,) = starts(of(OFFLOAD.format(free="40.0")))
    first, second = findings("", [start], [])
    assert first.values["weights_bytes"] == 60 * GIB
    assert (first.values["loaded"], first.values["layers"], first.values["cards"]) == (44, 81, 2)
    # 60 GiB and 20 in 8 bits, which are 34 of 64 bytes: 70.625 of 80
    assert second.key == "offload.smaller"
    assert second.values["sum_bytes"] == round(70.625 * GIB)
    assert second.values["each_bytes"] == round(9.375 * GIB) // 2
    (start,) = starts(of(OFFLOAD.format(free="35.0")))
    assert [finding.key for finding in findings("", [start], [])][1] == "offload.too_large"


def test_a_store_in_host_memory_is_summed_over_its_workers():
    text = '{"global_segment_size": "100GB", "local_buffer_size": "4GB"} memory'
    (found,) = findings(text, [], [])
    assert found.values == {"each_bytes": 104 * 10**9, "pool_bytes": 100 * 10**9}
    assert [f.values["tokens"] for f in stored([found], "m", 10_000)] == [10**7]
    assert [*stored([found], "m", 0)] == []
    (found,) = findings('{"global_segment_size": "100GB"}', [], [])
    assert found.values["each_bytes"] == 100 * 10**9


def test_pinned_memory_is_one_to_two_times_what_was_asked_for():
    (found,) = findings("why does --cpu-offload-gb 10 take so much", [], [])
    assert found.values == {"least_bytes": 10 * GIB, "most_bytes": 20 * GIB}
    assert keys([], "--cpu-offload-gb uses 1.9x") == ["pinned"]


def test_what_ollama_lists_stands_beside_what_it_will_list():
    text = (
        "NAME  ID  SIZE\nqwen3:14b  c3a702fca756  15 GB  100% GPU  8192  Forever\n"
        "qwen3:8b  c3a702fca757  7 GB  100% GPU  8192  Forever\n memory"
    )
    found = weighbridge.weigh(text, name="the text")
    assert [f.values["showed_bytes"] for f in found.findings] == [15 * 10**9, 7 * 10**9]
    told = [run.report.derived["ollama_ps_bytes"] for run in found.runs]
    assert [f.values["told_bytes"] for f in found.findings] == told


def test_findings_stand_first_on_the_screen_and_in_the_json():
    text = "Ollama: " + OFFLOAD.format(free="40.0")
    found = weighbridge.weigh(text, name="the text")
    assert found.answered
    first = view(found).blocks[0]
    assert "44 of 81 layers" in str(first)
    assert not any("names no model" in str(block) for block in view(found).blocks)
    assert "44 of 81" in found.to_dict()["findings"][0]["text"]


TENSORRT = """\
The following component could not be created: KV cache
Total GPU memory (GiB): 140.00
Free GPU memory before component creation attempt (GiB): 108.50

Previously created components and free GPU memory before/after creation (GiB):
Model: 139.50 / 110.50
"""


def test_a_cache_that_asks_for_too_much_of_a_free_card_is_no_lack_of_memory():
    (found,) = findings(TENSORRT, [], [])
    assert found.key == "capacity"
    assert found.values == {
        "model_bytes": 29 * GIB,
        "free_bytes": round(108.5 * GIB),
        "total_bytes": 140 * GIB,
    }
    assert keys([], TENSORRT.replace("created: KV cache", "created: Sampler")) == []


@pytest.mark.parametrize(
    ("need", "limit", "told"), [(73, 72, True), (72, 72, False), (87, 72, True), (88, 72, False)]
)
def test_the_limit_of_a_mac_can_be_raised_where_its_memory_is_larger(need, limit, told):
    text = f"96G Mac: plan\nneed {need} GiB but the engine budget is {limit} GiB"
    assert bool(keys([], text)) == told
    if told:
        (found,) = findings(text, [], [])
        assert found.values["megabytes"] == "90112"  # 88 GiB


FAILED = """\
INFO 06-10 10:01:11 [api_server.py:1287] vLLM API server version 0.9.0.1
INFO 06-10 10:01:12 [cli_args.py:300] non-default args: {'model': 'Qwen/Qwen2.5-32B-Instruct-AWQ', 'max_model_len': 32768, 'gpu_memory_utilization': 0.95}
ValueError: To serve at least one request with the models's max seq len (32768), (8.00 GiB KV cache is needed, which is larger than the available KV cache memory (2.31 GiB). Based on the available memory, the estimated maximum model length is 9456.
"""
GROWN = """\
On my MI50 32GB:
vllm serve qwen3-8b --max-model-len 4096 --max-num-seqs 1
[worker.py:292] model weights take 15.3GiB; PyTorch activation peak memory takes {}GiB; the rest of the memory reserved for KV Cache is 10.0GiB.
"""


@pytest.mark.slow
def test_a_length_that_the_engine_says_would_do_is_not_denied():
    found = weighbridge.weigh(FAILED, name="vllm.log", gpu="4090", offline=True)
    told = str(found)
    assert "--max-model-len 9456" in told
    assert "No context fits" not in told
    assert "No context surely fits" in told


@pytest.mark.parametrize(("activations", "told"), [("0.30", True), ("2.87", False)])
def test_no_longest_context_where_the_activations_of_the_log_are_far_above_ours(activations, told):
    (run,) = weighbridge.weigh(GROWN.format(activations), name="a.log").runs
    assert {part.name for part in run.measured} >= {"activations"}
    assert bool(run.report.derived["largest_context"]) == told


def test_a_model_that_is_told_twice_is_named_once():
    text = VLLM.replace("'max_model", "'model': 'qwen3-8b', 'max_model")
    (run,) = read(text).runs
    assert run.command.count("qwen3-8b") == 1


def test_seconds_of_a_capture_and_its_graphs():
    line = "Graph capturing finished in 9 secs, took 0.72 GiB"
    assert starts(of(line))[0].size("cuda_graphs") == round(0.72 * GIB)


def test_other_ranks_take_the_same_and_are_no_other_start():
    first = "(Worker_TP0 pid=91) INFO Model loading took 15.2 GiB\n"
    assert len(starts(of(first + first.replace("TP0", "TP1")))) == 1
    sglang = "[10:00:20 TP0] " + SGLANG.split("\n")[1] + "\n"
    assert len(starts(of(sglang + sglang.replace("TP0", "TP3")))) == 1
    assert len(starts(of(first + first))) == 2


def test_tokens_of_sglang_s_first_line_where_no_other_says_them():
    early = SGLANG.partition("max_total")[0]
    assert starts(of(early))[0].counts["tokens"] == 20480
    assert starts(of(SGLANG))[0].counts["tokens"] == 20480


@pytest.mark.parametrize(("text", "engine"), [(VLLM, "vllm"), (SGLANG, "sglang")])
def test_without_a_card_the_room_is_what_the_log_says(text, engine):
    (weighed,) = weighbridge.weigh(text, name="the text").runs
    parts = {part.name: part for part in weighed.measured}
    tokens = starts(of(text))[0].counts["tokens"]
    assert (parts["tokens"].measured, parts["tokens"].predicted) == (tokens, None)
    assert weighed.report.derived["kv_cache_tokens"] == tokens
    context = weighed.report.workload["context"]
    assert weighed.report.derived["max_concurrency"] == round(tokens / context, 2)
    cache = weighed.report.derived["available_kv_cache_bytes"]
    assert cache == starts(of(text))[0].size("kv_cache")


def test_a_log_that_says_what_its_cache_holds_is_not_asked_for_a_card():
    line = "(APIServer pid=1) INFO x\n"
    told = weighbridge.weigh(line + VLLM, name="the text").findings
    assert "waits.unknown" not in [finding.key for finding in told]
    early = VLLM.partition("INFO 04-15 07:23:20")[0]
    found = weighbridge.weigh(line + early, name="the text").findings
    assert [finding.key for finding in found] == ["waits.unknown"]


DEVICES = """\
level=INFO source=device.go:240 msg="model weights" device=CUDA0 size="16.2 GiB"
level=INFO source=device.go:245 msg="model weights" device=CPU size="1.5 GiB"
level=INFO source=device.go:251 msg="kv cache" device=CUDA0 size="4.2 GiB"
level=INFO source=device.go:262 msg="compute graph" device=CUDA0 size="1.3 GiB"
level=INFO source=device.go:272 msg="total memory" size="23.2 GiB"
"""


def test_ollama_s_lines_of_each_device_are_added_up():
    (start,) = starts(of(DEVICES))
    (found,) = findings("", [start], [])
    assert found.key == "devices.ram"
    assert found.values["cards_bytes"] == pytest.approx(21.7 * GIB, abs=8)
    assert found.values["ram_bytes"] == found.values["weights_ram_bytes"] == round(1.5 * GIB)
    (start,) = starts(of(DEVICES.replace("device=CPU", "device=CUDA1")))
    (found,) = findings("", [start], [])
    assert (found.key, found.values["ram_bytes"]) == ("devices", 0)
    assert weighbridge.weigh(DEVICES, name="the text").answered


def test_buffers_that_llama_cpp_says_itself_are_not_counted_twice():
    buffers = "load_tensors:        CUDA0 model buffer size =  4455.34 MiB\n"
    (start,) = starts(of(DEVICES + buffers))
    assert start.size("weights") == round(4455.34 * MIB)


USAGE = (  # vLLM 0.10.2, whose line ends in bytes, and of 2026, in which the parts are two
    (
        "INFO 09-23 18:12:39 [gpu_worker.py:391] Free memory on device (78.66/79.19 GiB) on startup. "
        "Actual usage is 14.08 GiB for weight, 1.97 GiB for peak activation, 0.07 GiB for non-torch "
        "memory, and 0.67 GiB for CUDAGraph memory. Replace gpu_memory_utilization config with "
        "`--kv-cache-memory=58333988249` to fit into requested memory, or "
        "`--kv-cache-memory=66273897472` to fully utilize gpu memory. "
        "Current kv cache memory in use is 59212694937 bytes.\n"
    ),
    (
        "(Worker_TP0 pid=770) INFO 08-21 18:22:06 [gpu_worker.py:789] Actual usage is 56.89 GiB for "
        "consumed memory (weights + non-torch), 0.76 GiB for peak activation, and 0.32 GiB for "
        "CUDAGraph memory. Replace gpu_memory_utilization config with `--kv-cache-memory=29407858586` "
        "(27.39 GiB) to fit into requested memory. Current kv cache memory in use is 27.85 GiB.\n"
    ),
)


def gib(size):
    return round(size * GIB)


def test_the_sum_of_a_start_is_read_where_the_lines_before_it_were_left_out():
    older, newer = (starts(of(text)) for text in USAGE)
    assert [sizes(start) for start in (*older, *newer)] == [
        {
            "weights": gib(14.08),
            "activations": gib(1.97),
            "other": gib(0.07),
            "cuda_graphs": gib(0.67),
            "kv_cache": 59_212_694_937,
        },
        {
            "consumed": gib(56.89),
            "activations": gib(0.76),
            "cuda_graphs": gib(0.32),
            "kv_cache": gib(27.85),
        },
    ]


def test_the_sum_of_a_start_says_nothing_twice():
    before = "Model loading took 14.08 GiB\nAvailable KV cache memory: 55.15 GiB\n"
    (start,) = starts(of(f"{before}Graph capturing finished in 5 secs, took 0.67 GiB\n{USAGE[0]}"))
    assert [part.name for part in start.parts] == [
        *("weights", "kv_cache", "cuda_graphs", "activations", "other"),
    ]


def test_what_is_consumed_stands_beside_weights_and_what_is_outside_of_torch():
    text = f"vllm serve qwen3-8b --max-model-len 8192\n\n{USAGE[1].replace('56.89', '15.6')}"
    (run,) = weighbridge.weigh(f"It says:\n\n{text}", gpu="h100").runs
    found = {part.name: part for part in run.measured}["consumed"]
    outside = run.report.derived["non_torch_bytes"]
    assert found.measured == gib(15.6)
    assert found.predicted == pytest.approx(outside + 15.27 * GIB, rel=0.001)
    assert not run.by_the_log
    (far,) = weighbridge.weigh(f"It says:\n\n{text.replace('15.6', '21.6')}", gpu="h100").runs
    assert far.by_the_log


@all_of(
    ("args", "words"),
    [
        (
            ("{'model_tag': 'a/b', 'override_generation_config': {'temperature': 0.6}, "
            "'limit_mm_per_prompt': {'image': 2}, 'enforce_eager': True}"),
            [
                *("--override-generation-config", '{"temperature": 0.6}'),
                *("--limit-mm-per-prompt", '{"image": 2}', "--enforce-eager"),
            ],
        ),
        (
            "{'model': 'a/b', 'speculative_config': {'method': 'mtp', 'n': {'k': [1, 2]}}, 'x': None",
            ["--speculative-config", '{"method": "mtp", "n": {"k": [1, 2]}}'],
        ),
        ("{'model': 'a/b', 'chat_template': '{a, b}', 'seed': -1, 'c': <class 'x'>}",
         ["--chat-template", "{a, b}", "--seed", "-1"]),
        ("{'model': 'a/b', 'served_model_name': ['x', 'y'], 'hf_overrides': {}} and 'z': 1",
         ["--hf-overrides", "{}"]),
        ("{'model': 'a/b', 'dtype': 'bfloat16', 'max_model_len': 81", ["--dtype", "bfloat16"]),
    ],
)  # fmt: skip
def test_inner_mappings_of_vllm_s_arguments_are_values_of_one_flag(args, words):
    (run,) = read(f"INFO [utils.py:233] non-default args: {args}\n", "a.log", "text").runs
    assert shlex.split(run.command) == ["vllm", "serve", "a/b", *words]
