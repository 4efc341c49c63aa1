"""Settings: each is declared once, as a typed field of a class, with all that is known about it.

    setting.py   the record of one setting, and the base class that holds the values
    kinds.py     kinds of values: how each is read, and its name
    shared.py    settings that no engine owns; an engine's own are in its folder (settings.py)

`weighbridge.workload` combines them into one class per task.
"""

# Settings that spread a server over devices
SPREAD = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
