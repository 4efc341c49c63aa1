"""What the user asked for: plain settings, before any default is filled in.

None means everywhere: the engine's own default. How a setting is written on a command line and in
a request is in `settings/`. A record of many settings takes its time to be made: each is imported
when it is first asked for.
"""

from weighbridge import lazily

TYPE_CHECKING = False
if TYPE_CHECKING:
    from weighbridge.workload.infer import Infer
    from weighbridge.workload.train import Train
    from weighbridge.workload.weighed import Load, Weighed

# Settings by which a server is spread over devices
SPREAD = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
FSDP = ("fsdp1", "fsdp2", "hsdp")  # values of `shard` by which all that a rank holds is in parts

__all__ = ["FSDP", "SPREAD", "Infer", "Load", "Train", "Weighed"]

if not TYPE_CHECKING:  # or a type checker would take any name of this package for an object
    __getattr__ = lazily.named(
        __name__, {"Infer": "infer", "Load": "weighed", "Train": "train", "Weighed": "weighed"}
    )
