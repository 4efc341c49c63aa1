"""Rules for one sound: positions that a tower computes on, and tokens that the language model gets.

    16,000 samples a second; 100 mel frames a second, or convolutions of the waveform itself

Source: transformers 5.23 models/<name>/modeling_<name>.py (_get_feat_extract_output_lengths and its
like), processing_<name>.py and feature_extraction_<name>.py.
"""

from collections.abc import Callable
from math import ceil

from weighbridge.models.arch.config import Config
from weighbridge.models.arch.inputs.images import TowerTokens

Rule = Callable[[Config, Config, float], TowerTokens]
RATE, FRAMES = 16_000, 100  # samples and mel frames per second
WINDOW = 30  # seconds of Whisper's window, to which sounds are padded


def frames(seconds: float) -> int:
    return int(seconds * RATE) // (RATE // FRAMES)


def halved(length: int, times: int = 1) -> int:
    """Return the length after `times` convolutions of kernel 3, padding 1 and stride 2."""
    for _ in range(times):
        length = (length - 1) // 2 + 1
    return length


def whisper(whole: Config, tower: Config, seconds: float) -> TowerTokens:
    """Return the positions and tokens of one window of 30 seconds, to which every sound is
    padded."""
    positions = tower.num("max_source_positions")
    return TowerTokens(positions, positions)


def qwen2_audio(whole: Config, tower: Config, seconds: float) -> TowerTokens:
    """Return the positions and tokens of a sound, padded or cut to one window. Pairs of unpadded
    positions are averaged."""
    positions = tower.num("max_source_positions")
    real = halved(min(frames(seconds), 2 * positions))
    return TowerTokens(positions, (real - 2) // 2 + 1)


def voxtral(whole: Config, tower: Config, seconds: float) -> TowerTokens:
    """Return the positions and tokens of a sound padded to whole windows; usually one token per
    four positions."""
    windows, positions = max(1, ceil(seconds / WINDOW)), tower.num("max_source_positions")
    grouped = tower.num("intermediate_size") // tower.num("hidden_size")
    return TowerTokens(windows * positions, windows * positions // max(1, grouped), positions)


def ultravox(whole: Config, tower: Config, seconds: float) -> TowerTokens:
    """Return the positions and tokens of whole Whisper windows; `stack_factor` positions make a
    token (ultravox_processing.py)."""
    real = ceil(halved(frames(seconds)) / max(1, whole.num("stack_factor", default=8)))
    positions = tower.num("max_source_positions")
    return TowerTokens(max(1, ceil(seconds / WINDOW)) * positions, real, positions)


def granite_speech(whole: Config, tower: Config, seconds: float) -> TowerTokens:
    """Return the positions and tokens of a sound: two frames make a position, and each window of
    positions becomes a few queries."""
    positions = (frames(seconds) + 1) // 2
    window = whole.num("window_size", default=15)
    each = window // max(1, whole.num("downsample_rate", default=5))
    return TowerTokens(
        positions, ceil(positions / window) * each, tower.num("context_size", default=200)
    )


def gemma3n(whole: Config, tower: Config, seconds: float) -> TowerTokens:
    """Return the positions of a sound, a quarter of its frames up to 30 seconds, and its tokens,
    which are always equally many."""
    positions = halved(frames(min(seconds, WINDOW)), 2)
    return TowerTokens(positions, whole.num("audio_soft_tokens_per_image", default=188))


def gemma4(whole: Config, tower: Config, seconds: float) -> TowerTokens:
    """Return the positions and tokens of a sound: frames of 20 ms every 10 ms, half a frame before
    the first; at most 750."""
    length = (int(seconds * RATE) + 160 - 321) // 160 + 1
    positions = min(halved(max(0, length), 2), whole.num("audio_seq_length", default=750))
    return TowerTokens(positions, positions)


def qwen2_5_omni(whole: Config, tower: Config, seconds: float) -> TowerTokens:
    """Return the positions and tokens of a sound: pairs of positions are averaged; `n_window`
    positions attend to each other."""
    positions = halved(frames(seconds))
    return TowerTokens(positions, (positions - 2) // 2 + 1, tower.num("n_window", default=100))


def qwen3_omni(whole: Config, tower: Config, seconds: float) -> TowerTokens:
    """Return the positions and tokens of a sound: 13 positions per full chunk of frames; positions
    in `n_window_infer` frames attend to each other."""
    chunk = 2 * tower.num("n_window", default=50)
    whole_chunks, left_over = divmod(frames(seconds), max(1, chunk))
    positions = whole_chunks * 13 + halved(left_over, 3)
    window = tower.num("n_window_infer", default=800) // max(1, chunk) * 13
    return TowerTokens(positions, positions, window)


def phi4(whole: Config, tower: Config, seconds: float) -> TowerTokens:
    """Return the positions and tokens of a sound: one of each per eight mel frames."""
    positions = ceil(frames(seconds) / 8)
    return TowerTokens(positions, positions)


def speech_to_text(whole: Config, tower: Config, seconds: float) -> TowerTokens:
    positions = halved(frames(seconds), tower.num("num_conv_layers", default=2))
    return TowerTokens(positions, positions)


def seamless(whole: Config, tower: Config, seconds: float) -> TowerTokens:
    """Return the positions and tokens of a sound: two frames make a position, and the adapter's
    stride divides these."""
    positions = frames(seconds) // 2
    stride = tower.num("adaptor_stride", default=8)
    return TowerTokens(positions, ceil(positions / max(1, stride)))


def waveform(whole: Config, tower: Config, seconds: float) -> TowerTokens:
    """Return the positions and tokens after convolutions over the samples, without padding."""
    length = int(seconds * RATE)
    kernels, strides = tower.nums("conv_kernel"), tower.nums("conv_stride")
    for kernel, stride in zip(kernels, strides, strict=True):
        length = (length - kernel) // max(1, stride) + 1
    return TowerTokens(max(0, length), max(0, length))
