"""One forward of a class over shapes: what operators allocate, save and free, without torch.

    m = Machine(Heap())
    y = linear(m, x, weight)        # allocates as the operator does, saves what backward needs
    backward(m, loss)               # walks the nodes as torch's engine does

Tensors are shapes. A storage lives exactly as long as Python objects refer to it, so a layer that
is written with the local variables of the real one keeps alive what that one does. Each operator
states its outputs, what it saves (torch tools/autograd/derivatives.yaml) and what its gradient
allocates; what is alive together follows, for any order, dtype, adapter or checkpoint.

    nets/           the forward of each family, and of classes that frameworks define
    parts/          what these are put together from: attention, layers, experts, encoders
    losses.py       the head and the loss
    adapters.py     linears with an adapter

    step.py         inputs of a net: the class in memory, the batch, the versions, and hooks
                    around layers and gradients (none for a process without ranks)
    modules.py      parameters by their paths; linears, plain, quantized or with adapters
    alike.py        which layers are of one kind
    limits.py       sizes of a config that no step can have

    ops/            operators
    tensors.py      storages, tensors, parameters
    machine.py      modes: gradients, autocast, what new memory counts as; nodes of the graph
    backward.py     order, sums of gradients, what is accumulated where
    checkpoint.py   layers that are recomputed
    loops.py        loops of like iterations, of which few are run
    tape.py         the allocations and frees of a layer, recorded
    splice.py       layers that allocate alike, of which few are walked
"""
