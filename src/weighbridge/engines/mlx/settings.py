"""Settings of mlx-lm, by the names on its command line."""

from weighbridge.settings.setting import Int, Str, count, spelled
from weighbridge.settings.shared import ProgramSettings, ServingSettings


class Mlx(ServingSettings):
    """Settings of mlx-lm."""

    TITLE = "MLX"
    program: Str = ProgramSettings.program
    max_kv_size: Int = count(1)
    prefill_step_size: Int = count(
        1, default=1 << 11, launch=spelled("--prefill-step-size", reads="whole")
    )


SETTINGS = Mlx
