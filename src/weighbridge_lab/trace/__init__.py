"""The fake GPU: the real step on fake CUDA tensors, event by event, and the allocator's replay.

    with weighbridge.FakeGPU("a100-80gb") as gpu:
        ...                         # any torch code that asks for "cuda"
    gpu.tape.allocated.nbytes       # the most that was allocated, and
    gpu.devices[0].allocated        # the moment, with its module and the tensors that made it

Needs torch, and no GPU.

    gpu.py        enters all of the below
    card.py       what torch says of the card
    guard.py      torch's engine on fake CUDA tensors
    patches/      what of torch and other libraries is replaced meanwhile
    recorder.py   storages: made and released; watch.py knows in which phase and module
    kernels.py    operations that take another course on a GPU, attention.py among them
    hidden/       the table of what kernels take besides their outputs
    looks.py      what a program is told that looks at values; shadows.py has those that are known
    tape.py       what was recorded, and the allocator's replay of it (torch-free)
    standins.py   kernels of other libraries, which fake tensors cannot enter
    distributed/  one process of many: groups, replicas, shards
    program.py    somebody's script or module, as Python runs it; launchers.py reads their lines
    steady.py     loops that train end when they repeat
    places.py     where a program looks at a value, and where its course hung on one
    script.py     a whole script; report.py what was found, timeline.py over time
    screen.py     the report on a screen; render.py in all forms
"""
