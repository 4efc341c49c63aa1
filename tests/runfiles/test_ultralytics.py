"""Lines of Ultralytics: what they say, and what it chooses by itself."""

from tests.cases import all_of

import weighbridge
from weighbridge.files.runfiles import read


def run(line):
    file = read(f"{line}\n", "the text")
    assert file.kind == "ultralytics"
    [only] = file.runs
    return only


@all_of(
    ("words", "expected"),
    [
        ("batch=32", {"batch_size": 32}),
        ("", {"batch_size": 16, "image_size": (640, 640), "precision": "fp16-mixed"}),
        ("imgsz=1280", {"image_size": (1280, 1280)}),
        ("imgsz=[480,640]", {"image_size": (480, 640)}),
        ("optimizer=SGD", {"optimizer": "sgd-momentum"}),
        ("optimizer=auto", {"optimizer": "adamw_torch"}),
        ("amp=False", {"precision": "fp32"}),
        ("device=0,1,2,3 batch=64", {"batch_size": 16}),
    ],
)
def test_arguments_of_a_training(words, expected):
    only = run(f"yolo detect train model=yolo11m.pt data=coco8.yaml {words}")
    assert (only.task, only.model) == ("train", "yolo11m") and not only.unread
    assert {name: only.settings[name] for name in expected} == expected


def test_a_batch_that_is_looked_for_leaves_nothing_sure():
    only = run("yolo train model=yolo11m.pt batch=-1")
    assert only.settings["batch_size"] == 16 and only.unread[0].raises and only.unread[0].lowers


def test_predicting_is_inference():
    only = run("yolo predict model=yolo11s.pt source=x.jpg half=True imgsz=320")
    assert (only.task, only.model) == ("infer", "yolo11s")
    assert only.settings == {"dtype": "float16", "batch_size": 1, "image_size": (320, 320)}


def test_a_pasted_line_is_weighed():
    line = "yolo detect train data=coco.yaml model=yolo11n.pt epochs=100 imgsz=320 batch=2"
    found = weighbridge.weigh(line, name="the text", gpu="3060", offline=True)
    assert found.fits == "yes"
    mail = f"I run this on a 3060:\n\n{line}\n\nand it dies"
    assert weighbridge.weigh(mail, name="mail", offline=True).runs[0].run.task == "train"
