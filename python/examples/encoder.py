"""Vectors of texts, a classifier from rows, and its answers."""

import tempfile
from pathlib import Path

import fnet

model = fnet.Model.from_pretrained()
print("cosines:", model.similarity("a dog and its puppy", ["a puppy and a dog", "the price of oil"]))
for guess in model.fill_mask("once upon a [MASK]", top=3)[0]:
    print(f"{guess.probability:.2f}", guess.text)

rows = {
    "text": ["a calm and clever play", "dull from start to end", "clever, warm and funny", "it never ends, so dull"] * 8,
    "label": ["good", "bad"] * 16,
}
with tempfile.TemporaryDirectory() as place:
    out = Path(place) / "reviews"
    results = fnet.finetune(rows, out=out, dev=rows, epochs=5, quiet=True)
    print("accuracy on its own rows:", results["values"]["accuracy"])
    reviews = fnet.Model.from_pretrained(out)
    print(reviews.predict("a clever and funny play"))
    assert reviews.predict("a clever and funny play")["label"] == "good"
