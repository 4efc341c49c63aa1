"""`--emit k8s` and `compose`, checked by the schemas of what starts them, where these are installed.

By hand: pip install kubernetes-validate==1.37.0 compose-spec==0.2.1 (116 MB, so in no extra)
"""

import pytest
import yaml

import weighbridge
from weighbridge.files.runfiles.patching import patched

MODEL = "llama-3.1-8b"
SERVED = {
    "two": {"gpu": "l40s:2", "context": 8000},
    "release": {"gpu": "h100:2", "context": 8000, "engine_version": "0.19"},
    "sglang": {"gpu": "h100", "context": 4096, "engine": "sglang"},
    "longer": {"gpu": "h200", "context": 200_000, "engine": "vllm"},
    "sizes": {"gpu": "h100", "context": 4096, "max_num_seqs": 8, "kv_cache_dtype": "fp8"},
}
RELEASES = ["1.28", "1.34", "1.37"]


def kubernetes(text, release):
    """Fail where a manifest has a field that a release of Kubernetes has not."""
    schemas = pytest.importorskip("kubernetes_validate", reason="by hand: see above")
    for one in yaml.safe_load_all(text):
        schemas.validate(one, release, strict=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the validator's own packages
@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("settings", SERVED.values(), ids=SERVED)
def test_kubernetes_has_every_field_of_a_manifest(settings, release):
    kubernetes(weighbridge.emit(MODEL, "k8s", **settings).text, release)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_kubernetes_has_every_field_of_a_manifest_that_was_changed_to_fit():
    text = weighbridge.emit(MODEL, "k8s", gpu="h100", context=131_072).text
    found = weighbridge.weigh(text, name="run.yaml", gpu="3090")
    patch = patched(found)
    assert found.fits == "no"
    assert patch.after != text
    kubernetes(patch.after, RELEASES[-1])


def compose(text):
    """Return the services of a file as the specification of Compose has them."""
    spec = pytest.importorskip("compose_spec", reason="by hand: see above")
    return spec.ComposeSpecification.model_validate(yaml.safe_load(text)).services


@pytest.mark.slow
@pytest.mark.parametrize("settings", SERVED.values(), ids=SERVED)
def test_compose_has_every_key_of_a_service(settings):
    made = weighbridge.emit(MODEL, "compose", **settings)
    (service,) = compose(made.text).values()
    said = yaml.safe_load(made.text)["services"]
    (told,) = said.values()
    assert [key for key in told if key not in type(service).model_fields] == []
    assert [str(word) for word in service.command] == told["command"]
    (device,) = service.deploy.resources.reservations.devices
    given = told["deploy"]["resources"]["reservations"]["devices"][0]
    assert [key for key in given if key not in type(device).model_fields] == []
    assert device.count == int(settings["gpu"].partition(":")[2] or 1)
