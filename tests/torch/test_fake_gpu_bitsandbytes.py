"""bitsandbytes on a fake GPU: what its kernels allocate, worked by hand and as published."""

import gc
import warnings
from functools import partial

import pytest
import torch
from torch import nn

from tests.cases import each
from weighbridge_lab.trace import guard
from weighbridge_lab.trace.gpu import FakeGPU

bitsandbytes = pytest.importorskip(
    "bitsandbytes", reason="needs bitsandbytes", exc_type=ImportError
)
pytestmark = pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not())

MIB = 1 << 20
IN, OUT = 1024, 4096
PACKED = IN * OUT // 2
BLOCKS = IN * OUT // 64
BLAS = 8519680  # a cuBLAS workspace


@pytest.fixture(autouse=True)
def gpu():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with FakeGPU("a100-80gb", torch_version="2.8") as fake:
            yield fake


def grown(step):
    """Bytes that are allocated after `step`, and at most during it, over those before. A layer and
    its weight know each other, so they are garbage until it is collected."""
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    kept = step()
    after, peak = torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
    del kept
    return after - before, peak - before


def four_bits(**settings):
    layer = bitsandbytes.nn.Linear4bit(
        IN, OUT, bias=False, compute_dtype=torch.bfloat16, **settings
    )
    return layer.to("cuda")


def rows(count, dtype=torch.bfloat16, **more):
    return torch.empty(count, IN, dtype=dtype, device="cuda", **more)


# Weights


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_four_bits_and_a_float_for_each_block_of_64(kind):
    after, _ = grown(lambda: four_bits(quant_type=kind, compress_statistics=False))
    assert after == PACKED + 4 * BLOCKS + 512  # and a code of 16 floats


def test_double_quantization():
    """Eight bits for each block, a float for 256 of them, their code, an offset; the code of the
    first layer is kept as well."""
    kept = BLOCKS + 4 * BLOCKS // 256 + 1024 + 512
    assert [grown(four_bits)[0] for _ in range(2)] == [PACKED + 512 + kept + n for n in (1024, 0)]


def test_bits_that_statistics_take():
    """QLoRA (arXiv 2305.14314): 0.5 bits a parameter, and 0.127 with double quantization."""
    plain, double = (
        8 * (grown(partial(four_bits, compress_statistics=both))[0] - PACKED) / (IN * OUT)
        for both in (False, True)
    )
    assert plain == pytest.approx(0.5, abs=0.002)
    assert double == pytest.approx(0.127, abs=0.007)


def test_weights_come_as_they_are_and_are_packed_one_by_one():
    """Loading onto the card needs the weight in its own dtype beside the packed one; the code is
    scaled by its largest value."""
    _, peak = grown(lambda: four_bits(compress_statistics=False))
    assert peak == 4 * IN * OUT + PACKED + 4 * BLOCKS + 3 * 512


def test_the_class_stays_itself():
    weight = four_bits().weight
    assert isinstance(weight, bitsandbytes.nn.Params4bit)
    assert isinstance(weight, nn.Parameter)
    assert type(weight).__name__ == "Params4bit"
    assert (weight.device.type, tuple(weight.shape)) == ("cuda", (PACKED, 1))


def test_eight_bits_and_a_float_for_each_row():
    after, _ = grown(
        lambda: bitsandbytes.nn.Linear8bitLt(IN, OUT, bias=False, has_fp16_weights=False).to("cuda")
    )
    assert after == IN * OUT + 4 * OUT


# Forward and backward


def test_many_rows_dequantise_the_weight():
    layer, x = four_bits(compress_statistics=False), rows(2048)
    out = 2 * 2048 * OUT
    assert grown(lambda: layer(x)) == (out + BLAS, out + 2 * IN * OUT + BLAS)


def test_one_row_does_not():
    layer, x = four_bits(compress_statistics=False), rows(1)
    assert grown(lambda: layer(x)) == (2 * OUT, 2 * OUT)


@pytest.mark.skipif(
    not hasattr(torch.ops.bitsandbytes, "gemm_4bit"), reason="before bitsandbytes 0.50: one row"
)
@pytest.mark.parametrize(("card", "largest"), [("a100-80gb", 128), ("h100-sxm", 7)])
def test_how_many_rows_are_few_the_card_decides(gpu, card, largest):
    """backends/cuda/ops.py: 64 tiles are less than half of the H100's 132 processors."""
    gpu.__exit__(None, None, None)
    with FakeGPU(card, torch_version="2.8"):
        layer = four_bits(compress_statistics=False)
        layer(rows(2048))
        peaks = [grown(partial(layer, rows(n)))[1] for n in (largest, largest + 1)]
    out = [2 * OUT * n for n in (largest, largest + 1)]
    assert peaks == [out[0], out[1] + 2 * IN * OUT]


def test_backward_dequantises_again():
    """To the dtype that the weight came in, and then to that of the gradient."""
    layer, x = four_bits(compress_statistics=False), rows(2048, requires_grad=True)
    gradient = torch.empty(2048, OUT, dtype=torch.bfloat16, device="cuda")
    for _ in range(2):  # the first takes workspaces
        x.grad, y = None, layer(x)
        _, peak = grown(partial(y.backward, gradient))
    assert peak == 4 * IN * OUT + 2 * IN * OUT
    assert layer.weight.grad is None


def test_eight_bit_product():
    """The input in eight bits and a scale for each row, sums in int32, the result in float16."""
    layer = bitsandbytes.nn.Linear8bitLt(IN, OUT, bias=False, has_fp16_weights=False).to("cuda")
    x = rows(2048, torch.float16)
    layer(x)
    quantised, sums, out = 2048 * IN + 4 * 2048, 4 * 2048 * OUT, 2 * 2048 * OUT
    assert grown(lambda: layer(x)) == (out, quantised + sums + out)


@pytest.mark.parametrize("threshold", [0.0, 6.0])
def test_eight_bit_training_of_the_weights_themselves(threshold):
    layer = bitsandbytes.nn.Linear8bitLt(IN, OUT, bias=False, threshold=threshold).to("cuda")
    layer(rows(64, torch.float16)).sum().backward()
    assert layer.weight.grad.shape == (OUT, IN)


# Optimizers

NUMEL, SMALL = 1024 * 1024, 1024
SCALES = 4 * NUMEL // 256
CODE = 1024


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("AdamW8bit", 2 * (NUMEL + SCALES + 4 * SMALL + CODE)),
        ("Adam8bit", 2 * (NUMEL + SCALES + 4 * SMALL + CODE)),
        ("PagedAdamW8bit", 2 * (SCALES + 4 * SMALL + CODE)),  # states are with the driver
        ("Lion8bit", NUMEL + SCALES + 4 * SMALL + CODE),
        ("AdamW32bit", 2 * 4 * (NUMEL + SMALL)),
        ("PagedAdamW32bit", 2 * 4 * SMALL),
    ],
)
def test_states_of_optimizers(name, state):
    """Blocks of 256 with a float each; under 4,096 elements they have 32 bits."""
    net = nn.Linear(1024, 1024, device="cuda")
    optimizer = getattr(bitsandbytes.optim, name)(net.parameters())
    net(rows(4, torch.float32)).sum().backward()
    assert grown(optimizer.step) == (state, state)
    assert grown(optimizer.step)[0] == 0


def test_momentum_of_sgd():
    net = nn.Linear(1024, 1024, device="cuda")
    optimizer = bitsandbytes.optim.SGD8bit(net.parameters(), lr=0.1, momentum=0.9)
    net(rows(4, torch.float32)).sum().backward()
    assert grown(optimizer.step)[0] == NUMEL + SCALES + 4 * SMALL + CODE


# With transformers and PEFT

TINY = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 1024,
    "tie_word_embeddings": False,
}
LINEAR = 2 * (4 * 256 * 256 + 3 * 256 * 512)
REST = 2 * (2 * 1024 * 256 + 5 * 256)  # embeddings, head and norms in bfloat16


@pytest.fixture
def folder(tmp_path):
    transformers = pytest.importorskip("transformers")
    transformers.LlamaConfig(**TINY, architectures=["LlamaForCausalLM"]).save_pretrained(tmp_path)
    return str(tmp_path)


def quantized(folder, **settings):
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    return AutoModelForCausalLM.from_pretrained(
        folder,
        quantization_config=BitsAndBytesConfig(**settings),
        device_map={"": 0},
        dtype=torch.bfloat16,
    )


@pytest.mark.parametrize(
    ("bits", "settings", "nbytes"),
    [(4, {"bnb_4bit_compute_dtype": torch.bfloat16}, LINEAR // 2), (8, {}, LINEAR)],
)
def test_from_pretrained(folder, bits, settings, nbytes):
    model = quantized(folder, **{f"load_in_{bits}bit": True}, **settings)
    assert model.get_memory_footprint() == nbytes + REST + sum(
        b.numel() * b.element_size() for b in model.buffers()
    )


@pytest.mark.parametrize(("dora", "bits"), each(2, [(True, 4), (False, 4), (False, 8), (True, 8)]))
def test_adapters_train_on_it(folder, bits, dora):
    peft = pytest.importorskip("peft")
    model = quantized(folder, **{f"load_in_{bits}bit": True})
    model = peft.prepare_model_for_kbit_training(model)
    assert model.model.embed_tokens.weight.dtype == torch.float32
    config = peft.LoraConfig(r=8, target_modules="all-linear", use_dora=dora)
    model = peft.get_peft_model(model, config)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = bitsandbytes.optim.PagedAdamW8bit(trained)
    ids = torch.zeros(2, 64, dtype=torch.long, device="cuda")
    for _ in range(2):
        model(input_ids=ids, labels=ids).loss.backward()
        assert all(p.grad is not None for p in trained)
        optimizer.step()
        optimizer.zero_grad()


# What is left behind


def test_afterwards_it_is_as_before(gpu):
    inside = bitsandbytes.functional.lib
    gpu.__exit__(None, None, None)
    lib, new = bitsandbytes.functional.lib, bitsandbytes.nn.Params4bit.__new__
    assert lib is not inside
    assert type(bitsandbytes.nn.Params4bit(torch.zeros(2))) is bitsandbytes.nn.Params4bit
    with FakeGPU("t4"):
        assert bitsandbytes.functional.lib is not lib
    assert (bitsandbytes.functional.lib, bitsandbytes.nn.Params4bit.__new__) == (lib, new)
