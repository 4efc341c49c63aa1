"""ggml replayed: graphs in order, splits between devices, blocks of memory; by hand."""

from types import SimpleNamespace

import pytest

from weighbridge.base.dtypes import GGML_BY_NAME
from weighbridge.engines.llama_cpp.compute import gpu_size
from weighbridge.engines.llama_cpp.ggml import graph as g
from weighbridge.engines.llama_cpp.ggml.graph import F16, F32, I32, same_layout, strides
from weighbridge.engines.llama_cpp.ggml.scheduler import BufferPool, GraphAllocator, Scheduler
from weighbridge.engines.llama_cpp.graphs.build import thinned

Q8 = GGML_BY_NAME["Q8_0"]
GPU, HOST = 0, 1


def nbytes(t):
    return t.nbytes


def allocated(graph, **more):
    """Bytes of (GPU, host)."""
    scheduler = Scheduler(host=HOST, supports=lambda t, d: True, batch=lambda t: t.ne[1], **more)
    nodes, leaves = scheduler.steps(graph)
    pools = [BufferPool(128), BufferPool(32)]
    GraphAllocator(pools, [nbytes, nbytes]).run(nodes, leaves)
    return tuple(pool.high for pool in pools)


# Shapes


@pytest.mark.parametrize(("columns", "padded"), [(512, 512), (544, 1024), (32, 512)])
def test_quantized_rows_are_padded_on_a_gpu(columns, padded):
    """ggml-cuda.cu (ggml_backend_cuda_buffer_type_get_alloc_size): the last row, to 512 numbers."""
    size = gpu_size(SimpleNamespace(rules=SimpleNamespace(fattn_copies=True)))
    row = columns // 32 * 34
    assert size(g.weight(Q8, (columns, 3), GPU)) == 3 * row + (padded - columns) // 32 * 34
    assert size(g.weight(F16, (columns, 3), GPU)) == 3 * columns * 2


def test_rows_of_blocks():
    assert strides(Q8, (64, 3, 2, 1)) == (34, 68, 204, 408)
    assert g.weight(Q8, (64, 3), GPU).nbytes == 204


def test_a_view_is_as_long_as_what_it_looks_at():
    """Every other row of four: from the first element to the last."""
    t = g.entry(F32, 8, 4)
    assert g.view(t, (8, 2), (64,)).nbytes == 64 + 32
    assert g.permute(t, 1, 0, 2, 3).ne == (4, 8, 1, 1)
    assert g.permute(t, 1, 0, 2, 3).nbytes == t.nbytes


def test_layouts_are_the_same_with_the_same_strides_alone():
    t = g.entry(F32, 8, 8)
    assert same_layout(g.like("add", t), t)
    assert not same_layout(g.like("add", t), g.transpose(t))
    assert not same_layout(g.cast(t, F16), t)


def test_sources_come_first_left_to_right():
    graph = g.Graph()
    x = g.entry(F32, 8)
    a, b = g.like("norm", x), g.like("scale", x)
    graph.expand(g.like("add", b, a))
    assert [t.op for t in graph.nodes] == ["scale", "norm", "add"]
    assert graph.leaves == [x]


# Memory


def test_an_operation_in_place_takes_nothing():
    """The copy of the input, the product, and the sum in the product's place."""
    graph = g.Graph()
    x = g.entry(F32, 32, 32)
    graph.expand(g.like("add", g.mul_mat(g.weight(F32, (32, 32), GPU), x), x))
    assert allocated(graph) == (2 * 4096, 4096)


def test_what_is_needed_later_is_not_overwritten():
    graph = g.Graph()
    y = g.mul_mat(*(g.weight(F32, (32, 32), GPU) for _ in range(2)))
    graph.expand(g.like("mul", g.like("unary", y), y))
    assert allocated(graph)[0] == 2 * 4096
    graph = g.Graph()
    graph.expand(g.like("unary", g.mul_mat(*(g.weight(F32, (32, 32), GPU) for _ in range(2)))))
    assert allocated(graph)[0] == 4096


@pytest.mark.parametrize(
    ("sizes", "freed", "asked", "offset"),
    [
        ((128, 256, 128, 384), (1, 3), 200, 128),  # the smaller of two that fit
        ((128, 256, 128, 384), (1, 3), 300, 512),
        ((128, 256, 128, 384), (1,), 300, 896),  # none fits: behind the last
        ((128, 256, 128, 384), (1, 2), 300, 128),  # two that touch are one
    ],
)
def test_the_best_fit(sizes, freed, asked, offset):
    pool = BufferPool(128)
    places = [pool.take(size) for size in sizes]
    pool.take(128)
    for i in freed:
        pool.give(places[i], sizes[i])
    assert pool.take(asked) == (offset if offset < 896 else 896 + 128)


def test_the_furthest_byte_counts():
    pool = BufferPool(128)
    pool.give(pool.take(1000), 1000)
    assert pool.take(100) == 0
    assert pool.high == 1024


# Devices


def chain(rows, device):
    """x -> W1 x on the GPU -> W2 (...) where its weight is."""
    graph = g.Graph()
    x = g.mul_mat(g.weight(F32, (32, 32), GPU), g.entry(F32, 32, rows))
    graph.expand(g.mul_mat(g.weight(F32, (32, 32), device), x))
    return graph


@pytest.mark.parametrize(("rows", "gpu"), [(31, True), (32, False)])
def test_weights_of_the_host_are_brought_for_32_tokens(rows, gpu):
    """Fewer are computed where the weight is."""
    graph = chain(rows, HOST)
    allocated(graph)
    assert (graph.nodes[-1].backend == HOST) is gpu


def test_a_weight_that_is_brought_starts_a_split():
    scheduler = Scheduler(host=HOST, supports=lambda t, d: True, batch=lambda t: t.ne[1])
    scheduler.steps(chain(64, HOST))
    assert [s.backend for s in scheduler.splits] == [GPU, GPU]


def test_inputs_of_a_pipeline_are_there_four_times():
    graph = chain(64, GPU)
    once, four = allocated(graph), allocated(chain(64, GPU), copies=4)
    assert four[HOST] == 4 * once[HOST]
    assert (once[GPU], four[GPU]) == (2 * 8192, 6 * 8192)  # the second product in the copy's place


def test_rows_that_are_looked_up_stay_with_their_table():
    graph = g.Graph()
    rows = g.get_rows(g.weight(F16, (32, 100), HOST), g.entry(I32, 64))
    graph.expand(g.mul_mat(g.weight(F16, (32, 32), GPU), rows))
    scheduler = Scheduler(host=HOST, supports=lambda t, d: True, batch=lambda t: 0)
    scheduler.steps(graph)
    assert [t.backend for t in graph.nodes] == [HOST, GPU]


# Layers that repeat


def test_an_even_number_of_turns_is_left_out():
    """Forty layers alike are walked as the first four and the rest that an even number leaves."""
    kept = thinned(["a"] * 40)
    assert kept[:4] == [0, 1, 2, 3]
    assert kept[-1] == 39
    assert len(kept) % 2 == 0
    assert len(kept) < 10


def test_a_pattern_is_left_out_whole():
    kept = thinned(["near", "near", "near", "full"] * 12)
    assert [k % 4 for k in kept] == [i % 4 for i in range(len(kept))]


def test_layers_that_differ_are_all_kept():
    assert thinned(list(range(12))) == list(range(12))
