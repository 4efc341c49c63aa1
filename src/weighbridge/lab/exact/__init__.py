"""The real class of transformers, from its config, does the asked work on a simulated GPU.

    build.py       the class: its config, dtype and attention; refusals
    inference.py   the requests: a prompt, its answer, a forward alone
    training.py    the steps of a run
    inputs.py      what a request of that class holds
    keeping.py     which storages are caches and logits
    compare.py     phases of a tape, beside those of the closed form

`weighbridge.estimate.exact` asks it. All that is here imports torch.
"""
