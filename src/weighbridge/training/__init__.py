"""A training run, phase by phase, without torch: the step itself, written over shapes.

plan.py        every setting of one run, defaults filled in
frameworks.py  what each framework does by default
tensors.py     the class's parameters, as they are held
modules.py     parameters by their paths; linears, plain, packed or with adapters
alike.py       which layers are of one kind
nets/          forward, a family a file
attend.py      which kernel of attention runs
losses.py      the head and the loss
adapters/      LoRA and its relatives: which modules, what they add
optimizers/    states and temporaries, a row each
sharding/      what one rank holds, gathers and reduces
run.py         load, forward, loss, backward, step: the fullest moment of each
phases.py      moments in the words of the report
"""
