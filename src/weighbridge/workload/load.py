"""Settings of loading."""

from weighbridge.engines.transformers.settings import Transformers
from weighbridge.settings.setting import Str
from weighbridge.settings.shared import Weighed


class Load(Weighed):
    """Loading the weights and nothing else."""

    device_map: Str = Transformers.device_map
