"""A training run, phase by phase, without torch: the step itself, written over shapes.

plan.py        every setting of one run, defaults filled in
frameworks.py  what each framework does by default
parameters.py  the class's parameters, as they are held
build.py       the class in memory; its forward is of the room forward/
adapters.py    LoRA and its relatives: which modules
tuners.py      PEFT's other methods: what each trains of a linear
adapting.py    adapters on the class in memory
optimizers/    states and temporaries, a row each
sharding/      what one rank holds, gathers and reduces
run.py         load, forward, loss, backward, step: the fullest moment of each
phases.py      moments in the words of the report
"""
