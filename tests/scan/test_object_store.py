"""A scan of an object store: a server that speaks S3, asked over the network as any other is."""

import pytest

from tests.scan import small
from tests.scan.conftest import QUESTIONS, files
from tests.scan.test_running import run
from weighbridge.base.errors import NotFoundError
from weighbridge.faces.scan import asking, planning, registry

pytest.importorskip("moto.server", reason="moto[server]: in the extra test-scan")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # moto's own warnings


@pytest.fixture
def store(monkeypatch):
    """The address of a bucket with models, and a folder that is no model beside them."""
    from moto.server import ThreadedMotoServer
    from pyarrow import fs

    for name, value in (("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    at = f"{host}:{port}"
    store = fs.S3FileSystem(
        region="us-east-1", endpoint_override=at, scheme="http", allow_bucket_creation=True
    )
    store.create_dir("lake")
    for name, text in small.texts().items():
        _put(store, f"lake/team/models/{name}/config.json", text.encode())
    _put(store, "lake/team/models/notes/readme.txt", b"no model")
    yield f"s3://lake/{{}}?endpoint_override={at}&scheme=http&region=us-east-1"
    server.stop()


def _put(store, path, data):
    with store.open_output_stream(path) as file:
        file.write(data)


def test_a_store_has_the_models_and_answers_of_a_folder(store, folder, tmp_path):
    sources = {"folder": folder, "store": store.format("team/models")}
    here, there = (list(registry.models(source)) for source in sources.values())
    assert there == here
    for name, source in sources.items():
        questions = asking.read(QUESTIONS, "questions", ["4090"])
        plan = planning.plan(
            registry.models(source), tmp_path / name, questions, source="models", parts=2
        )
        run(tmp_path / name, plan)
    assert files(tmp_path / "folder") == files(tmp_path / "store") != {}


def test_a_bucket_that_is_not_there_is_told(store):
    with pytest.raises(NotFoundError, match=r"^s3://lake/none: cannot be listed: "):
        list(registry.models(store.format("none")))
