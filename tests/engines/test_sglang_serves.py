"""SGLang starts with the pool that is left and caps its requests: whether it starts, and whether it
serves what was asked, are two questions."""

import weighbridge

LINE = "python -m sglang.launch_server --model-path meta-llama/Llama-3.1-8B"


def asked(flags=""):
    return weighbridge.infer(command=f"{LINE} {flags}", gpu="4090", offline=True)


def test_a_context_that_was_asked_for_is_served_or_not():
    found = asked("--context-length 32768")
    tokens = found.derived["kv_cache_tokens"]
    assert tokens < 32768
    assert (found.verdict.fits, found.derived["serves_as_asked"]) == ("no", False)
    assert found.derived["launch_serves"]
    assert found.derived["largest_context"] < tokens
    (remedy,) = (r for r in found.remedies if "mem_fraction_static" in r.change)
    assert asked(f"--context-length 32768 {remedy.flags}").verdict.fits == "yes"
    length = found.derived["largest_context"]
    assert asked(f"--context-length {length}").derived["serves_as_asked"]


def test_a_context_that_nobody_said_is_capped():
    """And the line to paste says none, too."""
    found = asked()
    assert found.verdict.fits == "yes"
    assert found.derived["longest_request"] < 131072
    assert "--context-length" not in found.derived["launch"]
