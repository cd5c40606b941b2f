import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import fnet


def test_the_shipped_model():
    model = fnet.Model.from_pretrained()
    vectors = model.encode(["a dog runs", "the dog ran", "the price of oil"])
    assert vectors.dtype == np.float32 and vectors.shape == (3, 256)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(model.encode("the dog ran"), vectors[1]), "answers do not depend on the batch"
    short = model.encode("the dog ran", dimensions=32)
    assert short.shape == (32,) and np.allclose(np.linalg.norm(short), 1, atol=1e-5)
    cosines = model.similarity("a dog runs", ["the dog ran", "the price of oil"])
    assert cosines.shape == (2,) and cosines[0] > cosines[1]
    assert model.encode([]).shape == (0, 256)
    guesses = model.fill_mask("a [MASK] day", top=3)
    assert len(guesses) == 1 and len(guesses[0]) == 3 and guesses[0][0].probability >= guesses[0][1].probability
    read = fnet.Model.from_pretrained(pooling="mean+max")
    assert read.encode("a dog").shape == (512,)
    rounded = fnet.Model.from_pretrained(pooling="mean+max", precision="int8")
    assert np.array_equal(rounded.encode(["a dog", "the price of oil"])[0], rounded.encode("a dog"))
    assert 0.99 < rounded.encode("a dog") @ read.encode("a dog") / np.linalg.norm(read.encode("a dog")) ** 2 < 1.01
    assert not np.array_equal(rounded.encode("a dog"), read.encode("a dog"))
    with pytest.raises(ValueError, match="int8"):
        fnet.Model.from_pretrained(precision="float64")


def test_bad_input_is_an_error(tmp_path, rows):
    model = fnet.Model.from_pretrained()
    for work, error in [
        (lambda: fnet.Model.from_pretrained(tmp_path / "nowhere"), (OSError, ValueError)),
        (lambda: fnet.Model.from_pretrained(pooling="best"), ValueError),
        (lambda: fnet.Model.from_pretrained(threads=0), ValueError),
        (lambda: model.encode([1]), TypeError),
        (lambda: model.encode("a", dimensions=0), ValueError),
        (lambda: model.encode("a", dimensions=257), ValueError),
        (lambda: model.encode("a", prompt="none"), ValueError),
        (lambda: model.encode("\ud800"), (UnicodeEncodeError, TypeError, ValueError)),
        (lambda: model.predict("a"), ValueError),
        (lambda: fnet.finetune(rows), ValueError),
        (lambda: fnet.finetune([], out=tmp_path / "a"), ValueError),
        (lambda: fnet.finetune(rows, out=tmp_path / "a", objective="similarity", label="label"), ValueError),
        (lambda: fnet.finetune(3, out=tmp_path / "a"), TypeError),
        (lambda: fnet.finetune(rows, out=tmp_path / "a", label="stars"), ValueError),
        (lambda: fnet.finetune({**rows, "label": ["+"]}, out=tmp_path / "a"), ValueError),
        (lambda: fnet.finetune({**rows, "label": [None] * 32}, out=tmp_path / "a"), ValueError),
        (lambda: fnet.finetune(rows, out=tmp_path / "a", colour="red"), ValueError),
        (lambda: fnet.finetune(rows, out=tmp_path / "a", epochs="many"), ValueError),
        (lambda: fnet.finetune(tmp_path / "none.csv", out=tmp_path / "a"), (OSError, ValueError)),
        (lambda: fnet.finetune(resume=tmp_path / "none"), (OSError, ValueError)),
    ]:
        with pytest.raises(error):
            work()


def test_finetune_and_predict(tmp_path, rows):
    results = fnet.finetune(rows, out=tmp_path / "run", dev=rows, epochs=6, quiet=True, threads=1)
    assert results["values"]["accuracy"] > 0.9
    model = fnet.Model.from_pretrained(tmp_path / "run")
    assert sorted(model.labels) == ["+", "-"]
    prediction = model.predict("so good")
    assert prediction["label"] == "+" and abs(sum(prediction["probabilities"].values()) - 1) < 1e-5
    assert [p["label"] for p in model.predict(["so bad", "so good"])] == ["-", "+"]
    again = fnet.finetune(rows, out=tmp_path / "again", dev=rows, epochs=6, quiet=True, threads=2)
    same = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "again")]
    assert same[0] == same[1], "the same bytes at any number of threads"
    assert again["values"] == results["values"]
    with pytest.raises((OSError, ValueError)):
        fnet.finetune(rows, out=tmp_path / "run", quiet=True)


def test_onnx(tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = fnet.Model.from_pretrained()
    model.export_onnx(tmp_path / "vectors.onnx", vectors=True)
    session = runtime.InferenceSession(tmp_path / "vectors.onnx", providers=["CPUExecutionProvider"])
    ids = np.array([[2, 100, 200, 300, 3, 0, 0], [2, 7, 8, 9, 10, 11, 3]])
    inputs = {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64), "token_type_ids": 0 * ids}
    together = session.run(None, inputs)[0]
    alone = session.run(None, {name: x[:1, :5] for name, x in inputs.items()})[0]
    assert together.shape == (2, 256) and np.allclose(together[0], alone[0], atol=1e-5)
    with pytest.raises(ValueError):
        model.export_onnx(tmp_path / "other.onnx", weights="float7")
    with pytest.raises(OSError):
        model.export_onnx(tmp_path / "none" / "other.onnx")


def test_frames_and_pairs(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame({"a": ["one", "two"] * 8, "b": ["one", "three"] * 8, "score": [1.0, 0.0] * 8})
    out = tmp_path / "pairs"
    fnet.finetune(frame, out=out, text=["a", "b"], label="score", regression=True, steps=3, quiet=True)
    assert set(fnet.Model.from_pretrained(out).predict(["one"], ["two"])[0]) == {"value"}


def test_rows_in_lists(tmp_path, rows):
    pairs = list(zip(rows["text"], rows["label"]))
    dictionaries = [{"text": text, "label": label, "more": 1} for text, label in pairs]
    weights = []
    for name, given in [("columns", rows), ("tuples", pairs), ("dictionaries", dictionaries)]:
        fnet.finetune(given, out=tmp_path / name, steps=2, quiet=True)
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] == weights[2]
    with pytest.raises(ValueError, match="row 1"):
        fnet.finetune([("a", "+"), ("b",)], out=tmp_path / "a")


def test_threads_share_a_model(tmp_path, rows):
    fnet.finetune(rows, out=tmp_path / "run", steps=2, quiet=True)
    model = fnet.Model.from_pretrained(tmp_path / "run", threads=2)
    texts, answers = rows["text"] * 20, []
    threads = [threading.Thread(target=lambda: answers.append(model.predict(texts))) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join(timeout=60) for thread in threads]
    assert len(answers) == 6 and all(answer == answers[0] for answer in answers)


def test_a_refused_run_leaves_the_rows_of_another(tmp_path, rows):
    out = tmp_path / "run"
    fnet.finetune(rows, out=out, steps=2, quiet=True)
    with pytest.raises(ValueError):
        fnet.finetune({"text": ["a", "b"], "label": [1, 2]}, out=out, quiet=True)
    assert fnet.finetune(resume=out, quiet=True)["steps"] == 2


def test_vectors_of_texts(tmp_path):
    rows = {"first": ["a cat", "a dog"] * 8, "second": ["a kitten", "the dog ran"] * 8}
    (tmp_path / "pairs.jsonl").write_text(
        "".join(json.dumps({k: v[i] for k, v in rows.items()}) + "\n" for i in range(16))
    )
    out = tmp_path / "vectors"
    fnet.finetune(tmp_path / "pairs.jsonl", out=out, objective="similarity", steps=4, quiet=True)
    assert fnet.Model.from_pretrained(out).encode("a cat").shape == (256,)


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_writes_a_checkpoint_to_go_on_from(tmp_path, rows):
    code = f"""
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # which who runs tests in the background may have turned off
import fnet
rows = {rows!r}
try:
    fnet.finetune(rows, out={str(tmp_path / "run")!r}, steps=800, quiet=True, threads=1)
except KeyboardInterrupt as error:
    assert "resume" in str(error), error
    raise SystemExit(9)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    log = tmp_path / "run" / "metrics.jsonl"
    while child.poll() is None and not (log.exists() or (tmp_path / "run" / "training.toml").exists()):
        time.sleep(0.05)
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=120)
    assert child.returncode == 9, said
    from_checkpoint = Path(tmp_path / "run" / "state")
    assert any(from_checkpoint.iterdir())
    assert fnet.finetune(resume=tmp_path / "run", quiet=True, threads=2)["steps"] == 800
