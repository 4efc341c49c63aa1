"""Settings, each declared once as a typed field of a class, with all that is known of it beside it.

    setting.py   the record of one, and the class that holds what was said
    kinds.py     kinds of values: how each is read, and how it is called
    shared.py    settings that no engine owns; an engine's own stand in its folder (settings.py)

`weighbridge.workload` has the classes of the tasks, which take them together.
"""

# Settings by which a server is spread over devices
SPREAD = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
