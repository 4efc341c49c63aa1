"""The real class of transformers, from its config, does the asked work on a simulated GPU.

    build.py       the class: its config, dtype and attention; refusals; what a request of it holds
    inference.py   the requests: a prompt, its answer, a forward alone; which storages are caches
    training.py    the steps of a run
    compare.py     phases of a tape, beside those of the closed form

`weighbridge.estimate.exact` asks it. All that is here imports torch.
"""
