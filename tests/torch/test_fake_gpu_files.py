"""Files that programs read and write while a fake GPU stands in."""

import io
import zipfile

import pytest
import torch

from weighbridge_lab.trace import guard
from weighbridge_lab.trace.gpu import FakeGPU

pytestmark = [
    pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not()),
    pytest.mark.filterwarnings("ignore:tensors are not written"),
]
GRAPH = [[0, 1, 2, 6], [1, 2, 6, 0]]


@pytest.fixture
def graph(tmp_path):
    """A data set as people save it, with weights beside it."""
    path = tmp_path / "graph.pt"
    many = torch.arange(300_000)
    torch.save(
        {
            "edges": torch.tensor(GRAPH),
            "many": many,
            "slice": many[10:20:3],
            "mask": torch.tensor([True, False]),
            "scale": torch.tensor(2.5),
            "none": torch.tensor([], dtype=torch.int64),
            "weights": torch.randn(100, 64),
        },
        path,
    )
    return path


@pytest.mark.parametrize("where", [None, "cuda", "cpu"])
def test_integers_of_a_file_are_known(graph, where):
    """And nobody is warned: warnings are errors here."""
    with FakeGPU("t4"):
        found = torch.load(graph, map_location=where)
        assert found["edges"].tolist() == GRAPH
        nodes = int(found["edges"].max()) + 1
        assert torch.zeros(nodes, 4, device="cuda").shape == (7, 4)
        assert found["many"][299_998:].tolist() == [299_998, 299_999]
        assert found["slice"].tolist() == [10, 13, 16, 19]
        assert found["mask"].tolist() == [True, False] and found["scale"].item() == 2.5
        assert found["none"].numel() == 0
        assert found["edges"].device.type == (where or "cpu")


def test_so_they_are_of_a_stream_and_weights_are_not_read(graph):
    with FakeGPU("t4"):
        with graph.open("rb") as stream:
            found = torch.load(stream)
        assert found["edges"].tolist() == GRAPH
        with pytest.warns(UserWarning, match="is told 0"):
            assert found["weights"].sum().item() == 0


def test_a_checkpoint_that_a_script_writes_by_itself_is_found_again(tmp_path):
    """A script of YOLO's kind: bytes of a buffer go into two files; it asks whether they are whole,
    strips one and saves that again."""
    last, best = tmp_path / "last.pt", tmp_path / "best.pt"
    with FakeGPU("t4"):
        model = torch.nn.Linear(64, 8).cuda()
        buffer = io.BytesIO()
        torch.save({"epoch": 3, "model": model, "optimizer": {"lr": 0.1}}, buffer)
        for path in (last, best):
            path.write_bytes(buffer.getvalue())
        assert zipfile.is_zipfile(best)
        kept = torch.load(best, map_location="cpu", weights_only=False)
        assert kept["epoch"] == 3 and kept["model"].weight.device.type == "cpu"
        kept["optimizer"] = None
        torch.save(kept, best)
        assert torch.load(best, weights_only=False)["optimizer"] is None
        assert torch.load(last, weights_only=False)["optimizer"] == {"lr": 0.1}
        buffer.seek(0)
        assert torch.load(buffer, weights_only=False)["epoch"] == 3


def test_a_mark_looks_like_a_file_of_torch_and_goes_at_the_end(tmp_path):
    path, other = tmp_path / "a.pt", tmp_path / "b.pt"
    with FakeGPU("t4"):
        torch.save({"a": torch.ones(3)}, path)
        assert zipfile.is_zipfile(path)
        path.rename(other)
        assert torch.load(other)["a"].shape == (3,)
    assert not list(tmp_path.iterdir())


def test_a_file_of_somebody_else_is_left_alone(tmp_path):
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("a", "b")
    with FakeGPU("t4"):
        torch.save({"a": torch.ones(3)}, tmp_path / "a.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["other.zip"]


def test_functions_that_a_library_keeps_write_for_the_gpu_that_stands_in_now(tmp_path):
    """Imported by name under an earlier one; each counts its files from 0."""
    safetensors = pytest.importorskip("safetensors.torch")
    with FakeGPU("t4"):
        save_file = safetensors.save_file
    with FakeGPU("t4"):
        torch.save({"step": 1}, tmp_path / "step.pt")
        save_file({"w": torch.ones(2, device="cuda")}, tmp_path / "w.safetensors")
        assert safetensors.load_file(tmp_path / "w.safetensors")["w"].shape == (2,)
        assert torch.load(tmp_path / "step.pt") == {"step": 1}
