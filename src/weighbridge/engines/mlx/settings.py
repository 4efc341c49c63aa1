"""Settings of mlx-lm, named as its own command line has them."""

from weighbridge.settings.setting import Int, Str, count, spelled
from weighbridge.settings.shared import ProgramSettings, ServingSettings


class Mlx(ServingSettings):
    """Settings of mlx-lm."""

    TITLE = "MLX"
    program: Str = ProgramSettings.program
    max_kv_size: Int = count(
        1,
        label="Largest cache",
        help="Cells of a cache that rotates, where a model's class has no caches of its own.",
        label_zh="缓存上限(token)",
        zh="循环缓存的格数；类自带缓存的模型不受影响。",
    )
    prefill_step_size: Int = count(
        1,
        label="Prompt tokens at once",
        help="Tokens of a prompt that are computed at once. Default: 2048.",
        default=1 << 11,
        label_zh="提示分段(token)",
        zh="一次计算的提示 token 数。默认 2048。",
        launch=spelled("--prefill-step-size", reads="whole"),
    )


SETTINGS = Mlx
