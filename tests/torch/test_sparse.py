"""What operations on sparse matrices allocate on the fake GPU, worked out by hand from the source."""

import pytest
import torch

from weighbridge_lab.trace import guard
from weighbridge_lab.trace.gpu import FakeGPU

pytestmark = pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not())
EDGES = 1 << 17


def test_coalescing_sorts_one_index_of_both_dimensions():
    """Three lists of 8 bytes an edge (the index, the order, the first of each), the sort's second
    buffers of keys and of values, then the sums in float32 and two coordinates
    (aten/src/ATen/native/sparse/cuda/SparseCUDATensor.cu)."""
    with FakeGPU("a100-80gb") as gpu:
        places = torch.zeros(2, EDGES, dtype=torch.int64, device="cuda")
        values = torch.ones(EDGES, device="cuda")
        graph = torch.sparse_coo_tensor(places, values, (64, 64), check_invariants=False)
        before, held = len(gpu.tape.storages), torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        graph = graph.coalesce()
        made = [s.nbytes // EDGES for s in gpu.tape.storages[before:]]
        assert made == [8, 8, 8, 2 * 8, 4, 2 * 8]
        assert torch.cuda.max_memory_allocated() - held == (3 * 8 + 4 + 2 * 8) * EDGES
        assert torch.cuda.memory_allocated() - held == (4 + 2 * 8) * EDGES
        assert graph.coalesce() is graph  # sorted already
