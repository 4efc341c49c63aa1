"""A small autograd over shapes: the step of a model as torch runs it, without torch.

    m = Machine(Heap())
    y = linear(m, x, weight)        # takes what the operator takes, saves what backward needs
    backward(m, loss)               # walks the nodes as torch's engine does

Tensors are shapes. A storage lives exactly as long as Python objects refer to it, so a layer that
is written with the local variables of the real one holds what that holds. Each operator says what
it makes, what it saves (torch tools/autograd/derivatives.yaml) and what its gradient makes; what
is alive together follows, for any order, dtype, adapter or checkpoint.

    tensors.py      storages, tensors, parameters
    machine.py      modes: gradients, autocast, what new memory is for; nodes of the graph
    engine.py       backward: order, sums of gradients, what is accumulated where
    checkpoint.py   layers that are computed again
    tape.py         what a layer takes and gives back, written down
    splice.py       layers that ask for the same again, of which few are walked
    ops/            operators
"""
