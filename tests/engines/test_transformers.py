"""The transformers engine: published peaks, edges worked by hand, laws."""

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weighbridge
from weighbridge.base.errors import UsageError
from weighbridge.base.units import GIB, MIB
from weighbridge.engines.launch import parse
from weighbridge.engines.subject import subject
from weighbridge.engines.table import engine, version
from weighbridge.engines.transformers.placement import deal
from weighbridge.engines.transformers.rules import kernel, rules
from weighbridge.engines.transformers.step import around
from weighbridge.engines.transformers.workspaces import cublas, gptq
from weighbridge.machines.accelerators.budget import budget
from weighbridge.machines.accelerators.chips import ASSUMED
from weighbridge.machines.kernels.attention import KernelShape, flash_forward
from weighbridge.memory.components.activations import Heap
from weighbridge.memory.components.weights import PlacedTensor
from weighbridge.models import catalogue
from weighbridge.models.checkpoint.gather import GatherOptions, gather, gather_config
from weighbridge.models.checkpoint.model import resolve
from weighbridge.workload import Infer

KIND = engine("transformers")
TINY = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 1 << 20,
    "torch_dtype": "bfloat16",
}


def asked(model, **given):
    w = Infer(**given)
    number, _ = version(KIND, w.engine_version)
    inventory = gather_config(model) if isinstance(model, dict) else gather(model, GatherOptions())
    return KIND.infer(subject(resolve(inventory), w, KIND, number), w, w.budget())


def of(answer, phase, name, device=0):
    found = [p for p in answer.devices[device].phases if p.name == phase]
    return sum(c.bytes.expected for p in found for c in p.components if c.name == name)


def peak(answer, level="allocated"):
    return sum(d.peak(level).expected for d in answer.devices if d.kind == "gpu")


# Published: QwenLM/Qwen3, docs of the Qwen2 and Qwen2.5 speed benchmark (transformers 4.38.2 and
# 4.46.0, flash_attention_2, device_map="auto", torch.cuda.max_memory_allocated over all GPUs);
# Hugging Face's "Optimizing your LLM in production" (octocoder).
# model, version, format, prompt, GPUs, GiB as printed
PUBLISHED = (
    ("qwen2.5-0.5b", "4.46.0", None, 30720, 1, 2.34),
    ("qwen2.5-0.5b", "4.46.0", "gptq-8bit-g128", 14336, 1, 1.26),
    ("qwen2.5-1.5b", "4.46.0", None, 1, 1, 2.95),
    ("qwen2.5-1.5b", "4.46.0", "gptq-4bit-g128", 6144, 1, 1.66),
    ("qwen2.5-3b", "4.46.0", "awq-4bit-g128", 30720, 1, 5.37),
    ("qwen2.5-32b", "4.46.0", None, 30720, 1, 74.47),
    ("qwen2.5-72b", "4.46.0", None, 6144, 2, 140.00),
    ("qwen2.5-72b", "4.46.0", None, 30720, 3, 164.79),
    ("qwen2-0.5b", "4.38.2", None, 1, 1, 1.17),
    ("qwen2-0.5b", "4.38.2", None, 30720, 1, 27.61),
    ("qwen2-1.5b", "4.38.2", "gptq-4bit-g128", 14336, 1, 14.14),
    ("qwen2-7b", "4.38.2", None, 6144, 1, 20.26),
    ("qwen2-7b", "4.38.2", "awq-4bit-g128", 30720, 1, 33.63),
)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "number", "form", "prompt", "count", "printed"), PUBLISHED)
def test_published_peaks(model, number, form, prompt, count, printed):
    answer = asked(
        model,
        engine_version=number,
        quantization=form,
        dtype="float16" if form else "bfloat16",
        prompt_len=prompt,
        max_new_tokens=2048,
        attention="flash",
        device_map="auto",
        gpu=f"a100-80gb:{count}",
    )
    digits = 0.005 * GIB  # half a unit of the last one printed
    assert abs(peak(answer) - printed * GIB) <= 0.004 * printed * GIB + digits


# A cache and what it is beside


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "context", "gib"),
    [("llama-3-8b", 32768, 4.0), ("llama-2-7b", 4096, 2.0), ("deepseek-v3", 32768, 2.1445)],
)
def test_a_cache_is_exact_when_all_is_written(model, context, gib):
    assert of(asked(model, context=context), "decode", "kv_cache") == pytest.approx(
        gib * GIB, rel=1e-4
    )


@pytest.mark.slow
def test_a_window_holds_the_whole_prompt_until_the_first_step():
    answer = asked("gemma-3-27b", context=32768)
    assert of(answer, "prefill", "kv_cache") / GIB == pytest.approx(15.5, abs=0.01)
    assert of(answer, "decode", "kv_cache") / GIB == pytest.approx(2.91, abs=0.01)


def test_joining_needs_one_tensor_of_one_layer_more():
    """Keys of one layer: 4,096 tokens of 8 heads of 128 in 16 bits are 8 MiB."""
    answer = asked("llama-3-8b", context=4096)
    assert of(answer, "decode", "temporaries") == pytest.approx(8 * MIB, rel=1e-3)


def test_tuples_hold_the_old_cache_beside_the_new_one():
    """transformers 4.38: twice the cache at the end of a step."""
    given = {"context": 4096, "dtype": "bfloat16", "attention": "flash"}
    new, old = asked("llama-2-7b", **given), asked("llama-2-7b", engine_version="4.38", **given)
    assert of(old, "decode", "temporaries") == pytest.approx(2 * GIB, rel=0.01)
    assert of(new, "decode", "temporaries") < 0.1 * GIB


def test_a_static_cache_is_whole_from_the_first_step_and_is_not_joined():
    answer = asked(TINY, prompt_len=100, max_new_tokens=924, cache_implementation="static")
    whole = 6 * 2 * 2 * 32 * 2 * 1024
    assert of(answer, "prefill", "kv_cache") == of(answer, "decode", "kv_cache") == whole
    assert of(answer, "decode", "temporaries") == 0


def test_a_quantized_cache_is_unpacked_layer_by_layer():
    plain = asked(TINY, context=4096)
    packed = asked(TINY, context=4096, cache_implementation="quanto")
    layer = 2 * 2 * 32 * 2 * 4096
    assert of(packed, "decode", "kv_cache") < of(plain, "decode", "kv_cache") / 2
    assert of(packed, "decode", "temporaries") == pytest.approx(2 * layer, rel=0.2)


# Activations by hand


def test_a_feed_forward_holds_three_of_its_width():
    """Beside the input: the embedding, the layer's input, the sum, its norm; cosines and sines.
    2 x (3 x 512 + 4 x 256) + 2 x 2 x 32 bytes a token, and three numbers of 8 bytes."""
    answer = asked(TINY, context=100_001)
    tokens = 100_000
    assert of(answer, "prefill", "activations") == tokens * (2 * (3 * 512 + 4 * 256) + 128 + 24)


def test_scores_that_are_written_out_take_eight_bytes():
    """In 16 bits: scores, float32 softmax, its copy; 8 heads x 2,047 squared."""
    answer = asked(TINY, context=2048, attention="eager")
    scores = 8 * 2047**2
    assert 8 * scores < of(answer, "prefill", "activations") < 11 * scores


def test_logits_of_the_whole_prompt_before_4_45():
    """Two bytes and four at once: Qwen2-0.5B, 1,000 tokens x 151,936."""
    given = {"dtype": "bfloat16", "prompt_len": 1000, "max_new_tokens": 2}
    old = asked("qwen2-0.5b", engine_version="4.44", **given)
    new = asked("qwen2-0.5b", engine_version="4.46", **given)
    assert of(old, "prefill", "logits") == 6 * 1000 * 151936
    assert of(new, "prefill", "logits") <= 6 * 151936


def test_logits_as_asked():
    answer = asked("qwen2-0.5b", prompt_len=20_000, max_new_tokens=2, logits_to_keep=0)
    assert of(answer, "prefill", "logits") == 2 * 20_000 * 151936


@pytest.mark.slow
def test_a_latent_is_expanded_for_the_whole_context():
    """DeepSeek-V3: 128 heads x (128 + 128 + 128 + 64) x 2 bytes a token at each step; before 5.15
    it was cached."""
    new = asked("deepseek-v3", context=8192)
    assert of(new, "decode", "activations") > 8192 * 128 * (256 + 192) * 2
    old = asked("deepseek-v3", context=8192, engine_version="4.57", dtype="bfloat16")
    assert of(old, "decode", "kv_cache") == 8192 * 4_997_120


def test_heads_are_repeated_until_4_54():
    """A step of Llama-3-8B at 32,768 tokens: four times a layer's 128 MiB of keys and values."""
    given = {"context": 32768, "dtype": "bfloat16"}
    old = asked("llama-3-8b", engine_version="4.50", **given)
    new = asked("llama-3-8b", engine_version="4.56", **given)
    assert of(old, "decode", "activations") == pytest.approx(512 * MIB, rel=0.01)
    assert of(new, "decode", "activations") < MIB


def test_rotary_tables_of_every_layer_until_4_44():
    """Qwen2-0.5B: 24 layers x 2 x 32,768 positions x 64 x 2 bytes."""
    given = {"dtype": "bfloat16", "context": 64}
    old = asked("qwen2-0.5b", engine_version="4.44", **given)
    new = asked("qwen2-0.5b", engine_version="4.45", **given)
    tables = of(old, "load", "buffers") - of(new, "load", "buffers")
    assert tables == 24 * 2 * 32768 * 64 * 2


# Formats


def test_a_matrix_of_nf4_is_unpacked_but_for_one_row():
    rule = around("nf4")
    assert rule(7, 100, 300, 2) == ((60_000,), ())
    assert rule(1, 100, 300, 2) == ((), ())
    assert around("awq-4bit-g128") is None


def test_exllama_keeps_the_largest_matrix_in_float16():
    """Qwen2-7B: 3,584 x 18,944 x 2 bytes; gone with GPTQModel in 4.48."""
    given = {"quantization": "gptq-4bit-g128", "dtype": "float16", "context": 64}
    old = asked("qwen2-7b", engine_version="4.46", **given)
    new = asked("qwen2-7b", engine_version="4.51", **given)
    buffer = of(old, "decode", "workspaces") - of(new, "decode", "workspaces")
    assert buffer == 3584 * 18944 * 2


def test_the_second_version_of_exllama_keeps_rows_too():
    """8 x 2,048 rows of float32: where no config says which version runs, up to them. Qwen1.5-7B's
    table has 696 to 702 MiB more than the first version's 86: 11,008 x 65,536 bytes are 688."""
    said = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    rows = 4 * 8 * 2048 * 18944
    for which, (low, high) in ((None, (0, rows)), (1, (0, 0)), (2, (rows, rows))):
        given = said if which is None else said | {"exllama_config": {"version": which}}
        raw = {**catalogue.find("qwen2-7b").config, "quantization_config": given}
        (part,) = resolve(gather_config(raw)).parts
        found = gptq(part, "gptq-4bit-g128", (4, 46), None)
        matrix = 3584 * 18944 * 2
        assert found.bytes == (matrix + low, matrix + low, matrix + high)
        assert found.basis == ("assumed" if which is None else "computed")


def test_gptqmodel_keeps_buffers_on_older_cards():
    """Marlin has none; Turing has no Marlin."""
    (part,) = resolve(gather_config(catalogue.find("qwen2-7b").config)).parts
    whole = 3584 * 18944 * 2 + 4 * 8 * 2048 * 18944
    assert gptq(part, "gptq-4bit-g128", (5, 0), (8, 0)) is None
    assert gptq(part, "gptq-4bit-g128", (5, 0), (7, 5)).bytes == (whole, whole, whole)
    assert gptq(part, "gptq-4bit-g128", (5, 0), None).bytes == (0, 0, whole)
    assert gptq(part, "gptq-8bit-g128", (5, 0), (7, 5)) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "version", "form", "head"),
    [
        ("qwen3-4b", "4.51", "fp8-block", 151_936 * 2560 * 2),
        ("qwen3-8b", "4.51", "fp8-block", 0),  # is not tied
        ("qwen3-4b", "4.51", "awq-4bit-g128", 0),
        ("qwen3-4b", "5.0", "fp8-block", 0),
    ],
)
def test_a_second_head_beside_blocks_of_float8(name, version, form, head):
    w = {"dtype": "bfloat16", "context": 64}
    load = asked(name, engine_version=version, quantization=form, **w).devices[0].phases[0]
    found = [c.bytes for c in load.components if c.name == "weights" and c.detail]
    assert found == ([(0, head, head)] if head else [])


def test_a_tied_head_that_a_checkpoint_in_awq_may_store():
    """It lives until weights are tied: 260 MiB of Qwen2.5-0.5B, which its table shows."""
    w = {"dtype": "float16", "context": 64, "quantization": "awq-4bit-g128"}
    old, new = (asked("qwen2.5-0.5b", engine_version=v, **w).devices[0] for v in ("4.46", "5.0"))
    more = [d.phases[0].at("allocated").high for d in (old, new)]
    assert more[0] - more[1] == 151_936 * 896 * 2
    assert old.phases[0].at("allocated").expected == new.phases[0].at("allocated").expected


# Workspaces


@pytest.mark.parametrize(
    ("capability", "torch", "size"),
    [
        ((8, 0), (2, 6), 8_519_680),
        ((9, 0), (2, 6), 32 * MIB),
        ((12, 0), (2, 10), 8_519_680),
        ((12, 0), (2, 11), 32 * MIB),
    ],
)
def test_cublas(capability, torch, size):
    assert cublas(capability, torch).bytes == (size, size, size)


def test_cublas_gives_back_since_2_14():
    assert cublas((8, 0), (2, 14)).bytes.low == 0


# Several devices


def _tensors(count):
    yield PlacedTensor("model.embed_tokens", 10, "weights")
    for i in range(count):
        yield PlacedTensor(f"model.layers.{i}.mlp", 6, "weights")
        yield PlacedTensor(f"model.layers.{i}.attn", 4, "weights")
    yield PlacedTensor("lm_head", 10, "weights")


def test_layers_are_dealt_out_whole():
    """120 bytes on two: 60 and 5/4 of 10, the first spares 10: 62 hold the embedding and 5 layers."""
    shares = deal(tuple(_tensors(10)), ("model.layers.*",), layers=10, devices=2)
    assert [(s.start, s.end) for s in shares] == [(0, 5), (5, 10)]
    assert [sum(t.nbytes for t in s.tensors) for s in shares] == [60, 60]


def test_the_share_of_a_device_is_by_the_largest_block():
    """An embedding and a head of 100 beside ten blocks of 10, on two: 150 and 5/4 of 13, the mean
    module. The first spares the head, which is still to come: the embedding and no block. On three
    with ten times as many blocks, 400 and 5/4 of a block; the second has no head to spare."""
    few = [PlacedTensor("model.embed_tokens", 100, "weights")]
    few += [t for t in _tensors(10) if "layers" in t.module]
    few.append(PlacedTensor("lm_head", 100, "weights"))
    first, second = deal(few, ("model.layers.*",), layers=10, devices=2)
    mean = (100 + 10 * 6 + 10 * 4 + 100) // 22
    assert mean == 13
    room = 150 + 5 * mean // 4 - 100
    assert (first.start, first.end) == (0, max(0, room - 100) // 10)
    assert (second.start, second.end) == (0, 10)
    many = [few[0], *(t for t in _tensors(100) if "layers" in t.module), few[-1]]
    ends = [s.end for s in deal(many, ("model.layers.*",), layers=100, devices=3)]
    most = 1200 // 3 + 5 * 10 // 4
    assert ends == [(most - 100 - 100) // 10, (most - 200) // 10 + most // 10, 100]


def test_every_device_of_several():
    answer = asked("llama-3.1-70b", gpu="a100-80gb:4", context=4096)
    gpus = [d for d in answer.devices if d.kind == "gpu"]
    assert len(gpus) == 4
    assert answer.settings["device_map"] == "auto"
    assert max(d.peak("driver").expected for d in gpus) < 60 * GIB
    assert answer.devices[-1].kind == "host"


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(devices=st.integers(2, 6), context=st.integers(64, 5000))
def test_devices_together_hold_at_least_the_whole(devices, context):
    one, many = asked(TINY, context=context), asked(TINY, context=context, gpu=f"l4:{devices}")
    for name in ("weights", "kv_cache"):
        for phase in ("load", "decode"):
            parts = sum(of(many, phase, name, i) for i in range(devices))
            assert parts >= of(one, phase, name)


# Laws


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    context=st.integers(2, 20_000),
    more=st.integers(1, 20_000),
    number=st.sampled_from(("4.36", "4.42", "4.46", "4.51", "4.56", "5.0", "5.23")),
    attention=st.sampled_from((None, "flash", "math", "eager")),
)
def test_more_context_takes_no_less(context, more, number, attention):
    given = {"engine_version": number, "attention": attention, "dtype": "bfloat16"}
    less = asked(TINY, context=context, **given)
    greater = asked(TINY, context=context + more, **given)
    # What a prefill shows is that of its fullest moment, where few layers may have a cache yet
    assert of(greater, "decode", "kv_cache") >= of(less, "decode", "kv_cache")
    # A token more may leave less unused between blocks: 12,358 take 0.05 % less than 12,357; and
    # flash splits the keys of fewer tokens
    heads = {"batch": 1, "heads": 8, "kv_heads": 2, "key_dim": 32, "value_dim": 32, "itemsize": 2}
    split = flash_forward(KernelShape(queries=context, keys=context, **heads), 0.0, ASSUMED)
    assert peak(greater) >= 0.99 * peak(less) - sum(split)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(batch=st.integers(1, 40), beams=st.integers(1, 4))
def test_a_cache_is_linear_in_sequences(batch, beams):
    one = asked(TINY, context=300)
    many = asked(TINY, context=300, batch_size=batch, num_beams=beams)
    ratio = batch * beams
    assert of(many, "decode", "kv_cache") == ratio * of(one, "decode", "kv_cache")


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(context=st.integers(2, 3000))
def test_a_window_that_covers_the_context_is_no_window(context):
    wide = {**TINY, "model_type": "mistral", "architectures": ["MistralForCausalLM"]}
    full = asked({**wide, "sliding_window": None}, context=context)
    windowed = asked({**wide, "sliding_window": context + 1}, context=context)
    assert peak(full) == peak(windowed)


def test_the_parts_of_a_phase_are_its_peak():
    answer = asked("qwen3-30b-a3b", context=4096, gpu="h100-80gb")
    for device in answer.devices:
        for phase in device.phases:
            parts = sum(c.bytes.expected for c in phase.components)
            assert parts == phase.at("driver").expected
            assert all(c.formula and c.source for c in phase.components)


# A heap


def test_the_peak_is_the_fullest_moment_by_component():
    heap = Heap()
    first = heap.take(4 * MIB)
    heap.passing(8 * MIB, 2 * MIB, name="temporaries")
    heap.drop(first)
    heap.take(3 * MIB, "kv_cache")
    found = heap.phase()
    assert found.live == {"activations": 4 * MIB, "temporaries": 10 * MIB}
    assert found.rounding == 0
    assert heap.phase().live == {"kv_cache": 3 * MIB}


# What follows, and what is refused


def test_what_follows():
    answer = asked("llama-3.1-8b", gpu="a100-80gb", prompt_len=1000, max_new_tokens=24, num_beams=2)
    assert answer.derived["kv_cache_bytes_per_token"] == 131072
    assert "num_beams=2" in answer.derived["launch"]
    assert "max_new_tokens=24" in answer.derived["launch"]
    tokens, most = answer.derived["kv_cache_tokens"], answer.derived["max_concurrency"]
    assert most == tokens // 1024
    assert tokens * 131072 < budget("a100-80gb", None, None).usable.expected


def test_an_encoder_has_no_decode():
    answer = asked("bert-base-uncased", context=512, batch_size=8)
    assert [p.name for p in answer.devices[0].phases] == ["load", "prefill"]


def test_an_encoder_decoder_crosses_to_what_was_read():
    """Whisper: 1,500 states, 2 x 32 layers x 1,280 x 2 bytes, once a beam."""
    answer = asked(
        "whisper-large-v3", dtype="float16", num_beams=5, prompt_len=4, max_new_tokens=60
    )
    crossed = 5 * 1500 * 2 * 32 * 1280 * 2
    assert 0 < of(answer, "decode", "kv_cache") - crossed < crossed / 10


def test_a_class_without_a_cache_reads_all_again_for_each_token():
    """MPT's config has use_cache off (models/mpt/configuration_mpt.py): the last of three new
    tokens is a prompt of two more."""
    plain = asked("mpt-7b", prompt_len=1000, max_new_tokens=3)
    longer = asked("mpt-7b", prompt_len=1002, max_new_tokens=1)
    for phase in ("prefill", "decode"):
        assert of(plain, phase, "kv_cache") == of(plain, phase, "temporaries") == 0
    made = of(longer, "prefill", "activations")
    assert of(plain, "decode", "activations") == pytest.approx(made, rel=0.001)
    assert plain.derived["kv_cache_bytes_per_token"] == 0
    assert "keeps no cache" in plain.warnings[0]
    assert "use_cache" not in plain.derived["launch"]


def test_a_cache_that_is_asked_for_is_kept():
    kept = asked("mpt-7b", prompt_len=1000, max_new_tokens=3, cache_implementation="dynamic")
    assert of(kept, "decode", "kv_cache") == 2 * 32 * 4096 * 2 * 1003
    assert "use_cache=True" in kept.derived["launch"]
    assert not kept.warnings
    line = kept.derived["launch"]
    assert parse(line).settings["cache_implementation"] == "dynamic"
    static = line.replace("generate(", 'generate(cache_implementation="static", ')
    assert parse(static).settings["cache_implementation"] == "static"
    told = parse(line.replace("use_cache=True", "use_cache=False")).warnings
    assert told == ("use_cache: its value is not read; the default is counted",)
    config = {**catalogue.find("mpt-7b").config, "use_cache": True}
    assert of(asked(config, prompt_len=8, max_new_tokens=2), "decode", "kv_cache")
    with pytest.raises(UsageError, match="--cache-implementation 'none'"):
        asked(TINY, cache_implementation="none")


def names(line):
    """The names that a line reads, and those that it has."""
    found = [node for node in ast.walk(ast.parse(line)) if isinstance(node, ast.Name)]
    made = {node.id for node in found if isinstance(node.ctx, ast.Store)}
    imports = [
        node for node in ast.parse(line).body if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    return {node.id for node in found}, made | {a.name for node in imports for a in node.names}


@pytest.mark.parametrize(
    ("model", "given", "texts"),
    [
        ("qwen3-0.6b", {}, '"Hello"'),
        ("qwen3-0.6b", {"batch_size": 8, "quantization": "nf4"}, '["Hello"] * 8'),
        ("t5-small", {}, '"Hello"'),
        ("bge-m3", {}, None),
        ("whisper-large-v3", {}, None),
        ("qwen2.5-vl-7b", {"images": 1}, None),
    ],
)
def test_a_line_says_what_it_reads(model, given, texts):
    """Images and sounds are the reader's own."""
    line = weighbridge.infer(model, engine="transformers", **given).derived["launch"]
    read, had = names(line)
    assert read - had == ({"inputs"} if "**inputs" in line and texts is None else set())
    assert (f'({texts}, return_tensors="pt").to(model.device)' in line) is (texts is not None)
    assert had - read <= {"torch"}, "nothing is imported in vain"


def test_what_is_loaded_beside_a_model_is_no_second_model():
    """Cards of the Hub load a tokenizer first, and more."""
    line = (
        'config = AutoConfig.from_pretrained("org/name"); '
        'processor = AutoProcessor.from_pretrained("org/name"); '
        'tokenizer = AutoTokenizer.from_pretrained("org/name"); '
        'model = AutoModelForCausalLM.from_pretrained("org/other", dtype=torch.float16)'
    )
    launch = parse(line)
    assert (launch.model, launch.settings["dtype"]) == ("org/other", "float16")
    with pytest.raises(UsageError, match="loads 2 models by from_pretrained; give one"):
        parse(f'{line}; AutoModel.from_pretrained("org/name")')
    with pytest.raises(UsageError, match="loads 0 models by"):
        parse('tokenizer = AutoTokenizer.from_pretrained("org/name")')


def test_a_name_that_is_given_a_literal_stands_for_it():
    card = """
model_name = "org/name"
tokenizer = AutoTokenizer.from_pretrained(model_name)
model = AutoModelForCausalLM.from_pretrained(model_name, torch_dtype="auto", device_map="auto")
words = {"max_length": 100}
model.generate(**inputs, max_new_tokens=many, num_beams=beams)
"""
    launch = parse(f"beams = 4{card}")
    assert (launch.model, launch.settings["num_beams"]) == ("org/name", 4)
    assert "max_new_tokens" not in launch.settings, "nobody says how many"
    for twice in ('model_name = "org/other"', "for model_name in names: pass"):
        with pytest.raises(UsageError, match="the model is not written in the line"):
            parse(f"{twice}{card}")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"attention": "paged"}, "--attention 'paged'"),
        ({"cache_implementation": "sliding"}, "--cache-implementation 'sliding'"),
        ({"torch_version": "new"}, "--torch-version 'new'"),
        ({"kv_cache_dtype": "int3"}, "--kv-cache-dtype 'int3'"),
    ],
)
def test_what_is_refused(given, said):
    with pytest.raises(UsageError, match=said):
        asked(TINY, **given)


def test_rules_by_version():
    assert rules((4, 41), "llama").legacy_cache
    assert not rules((4, 42), "llama").legacy_cache
    assert rules((4, 54), "gpt_bigcode").legacy_cache
    assert rules((4, 35), "llama").attention == "eager"
    assert rules((4, 36), "llama").attention == "sdpa"
    assert rules((5, 23), "gpt_oss").attention == "eager"
    assert rules((4, 46), "qwen2").flash_repeats
    assert not rules((4, 48), "qwen2").flash_repeats
    assert kernel(None, "sdpa") == "sdpa"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gpu", "device"),
    [
        ("m3-max-64gb", "mps"),
        ("arc b580", "xpu"),
        ("mi300x", "cuda"),
        ("4090", "cuda"),
        (None, "cuda"),
    ],
)
def test_a_line_puts_the_model_where_torch_names_the_device(gpu, device):
    asked = {"engine": "transformers", "gpu": gpu}
    report = weighbridge.infer("qwen3-0.6b", **asked)
    assert f'.to("{device}")' in report.derived["launch"]
