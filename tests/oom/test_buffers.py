"""The buffers that llama.cpp lays out before a message, added up on the device of the message."""

import weighbridge

LOG = """
load_tensors: offloaded 33/33 layers to GPU
load_tensors:   CPU_Mapped model buffer size =   281.81 MiB
load_tensors:        CUDA0 model buffer size =  4403.49 MiB
load_tensors:        CUDA1 model buffer size =  4000.00 MiB
llama_kv_cache:      CUDA0 KV buffer size =  4096.00 MiB
llama_kv_cache:      CUDA1 KV buffer size =  1024.00 MiB
{}
llama_init_from_model: failed to initialize the context: failed to allocate compute pp buffers
"""
CUDA = """
ggml_backend_cuda_buffer_type_alloc_buffer: allocating 2144.00 MiB on device {}: cudaMalloc failed: out of memory
ggml_gallocr_reserve_n: failed to allocate CUDA{} buffer of size 2248146944
"""


def parsed(device):
    return weighbridge.explain_oom(LOG.format(CUDA.format(device, device))).parsed


def test_buffers_of_the_device_are_added_up():
    assert parsed(0)["buffers_bytes"] == round((4403.49 + 4096) * 2**20)
    assert parsed(1)["buffers_bytes"] == (4000 + 1024) * 2**20
    assert "buffers_bytes" not in parsed(2)


def test_a_line_that_stands_twice_counts_once():
    text = LOG.format(CUDA.format(0, 0))
    assert (
        weighbridge.explain_oom(text + text).parsed["buffers_bytes"] == parsed(0)["buffers_bytes"]
    )


def test_what_was_laid_out_stands_beside_what_was_asked_for():
    oom = weighbridge.explain_oom(LOG.format(CUDA.format(0, 0)))
    assert "asked for 2.09 GiB beside 8.30 GiB" in str(oom)
