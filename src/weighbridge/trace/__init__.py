"""The fake GPU: the real step on fake CUDA tensors, event by event, and the allocator's replay.

    with weighbridge.FakeGPU("a100-80gb") as gpu:
        ...                     # any torch code that asks for "cuda"
    gpu.peak                    # allocated and reserved bytes

Needs torch, and no GPU. `tape.py` has what is recorded (torch-free), `recorder.py` records it.
"""
