"""One forward of a class over shapes: what operators take, save and give back, without torch.

    m = Machine(Heap())
    y = linear(m, x, weight)        # takes what the operator takes, saves what backward needs
    backward(m, loss)               # walks the nodes as torch's engine does

Tensors are shapes. A storage lives exactly as long as Python objects refer to it, so a layer that
is written with the local variables of the real one holds what that holds. Each operator says what
it makes, what it saves (torch tools/autograd/derivatives.yaml) and what its gradient makes; what
is alive together follows, for any order, dtype, adapter or checkpoint.

    nets/           the forward of each family, and of classes that frameworks have of their own
    parts/          what these are put together from: attention, layers, experts, encoders
    losses.py       the head and the loss
    adapters.py     what stands in for a linear that has an adapter

    step.py         what a net is given: the class in memory, the batch, the versions, and what
                    happens around layers and gradients (nothing, for a process alone)
    modules.py      parameters by their paths; linears, plain, packed or with adapters
    alike.py        which layers are of one kind
    limits.py       sizes of a config that no step can have

    ops/            operators
    tensors.py      storages, tensors, parameters
    machine.py      modes: gradients, autocast, what new memory is for; nodes of the graph
    backward.py     order, sums of gradients, what is accumulated where
    checkpoint.py   layers that are computed again
    loops.py        loops of like turns, of which few are run
    tape.py         what a layer takes and gives back, written down
    splice.py       layers that ask for the same again, of which few are walked
"""
