"""Compares exported models with the program's own answers: onnx_check.py FOLDER."""

import json
import platform
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

# On x86-64 without VNNI onnxruntime adds products of 8 bits in 16, which saturate.
cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
sums_are_exact = platform.machine() != "x86_64" or "vnni" in cpu
folder, worst, shares = Path(sys.argv[1]), 0.0, []
for path in sorted(folder.glob("*.json")):
    told = json.loads(path.read_text())
    file = str(path.with_suffix(".onnx"))
    onnx.checker.check_model(file, full_check=True)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert names == list(told["outputs"]), (names, list(told["outputs"]))

    def run(examples):
        """All examples in one batch, each a list of texts, padded to the longest or to the fixed length."""
        length = max(told["padded"] or 0, max(len(text["ids"]) for texts in examples for text in texts))
        inputs = {name: np.zeros((len(examples), told["texts"], length), np.int64)
                  for name in ("input_ids", "attention_mask", "token_type_ids")}
        for i, texts in enumerate(examples):
            for j, text in enumerate(texts):
                inputs["input_ids"][i, j, : len(text["ids"])] = text["ids"]
                inputs["token_type_ids"][i, j, : len(text["ids"])] = text["segments"]
                inputs["attention_mask"][i, j, : len(text["ids"])] = 1
        if told["texts"] == 1:
            inputs = {name: values[:, 0] for name, values in inputs.items()}
        outputs = session.run(names, inputs)
        # Of what is by token, the tokens' own.
        return [[out[i][: len(examples[i][0]["ids"])] if out.ndim == 3 else out[i] for out in outputs]
                for i in range(len(examples))]

    together = run(told["examples"])
    # In 8 bits a number near the middle of two may be rounded to either, which later layers spread: the runtime's answers and
    # ours may differ as much as two independent roundings do. What else is in the batch must still change little.
    is_int8 = told["outputs"] != told["in_float32"]
    if is_int8 and not sums_are_exact:
        continue
    changed, missed, moved = 0.0, 0.0, 0.0
    for i, example in enumerate(told["examples"]):
        alone = run([example])[0]
        for got in (together[i], alone):
            for name, values, lone in zip(names, got, alone):
                expected = np.array(told["outputs"][name][i], np.float32)
                if is_int8:
                    in_float32 = np.array(told["in_float32"][name][i], np.float32)
                    changed += np.abs(expected - in_float32).sum()
                    missed += np.abs(values.ravel() - expected).sum()
                    moved += np.abs(values - lone).sum()
                    continue
                error = np.abs(values.ravel() - expected).max() / max(1.0, np.abs(expected).max())
                worst = max(worst, error)
                assert values.size == expected.size and error < 1e-4, (told["about"], name, i, error)
    assert missed <= 1.5 * changed, (told["about"], missed, changed)
    if is_int8:
        shares.append([missed / changed, moved / changed])
assert not shares or (np.mean(shares, axis=0) < [0.7, 0.3]).all(), shares
if not sums_are_exact:
    print("skipped: models in 8 bits, for this CPU has no VNNI")
print(f"worst {worst:.1e}")
