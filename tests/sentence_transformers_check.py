"""Whether sentence-transformers gives the vectors that `fnet embed` wrote: words.npy with no flag, layers.npy with code."""

import sys
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

place = Path(sys.argv[1])
texts = (place / "more.txt").read_text().splitlines()
for name, flags in [("words", {}), ("layers", {"trust_remote_code": True})]:
    model = SentenceTransformer(str(place / name), device="cpu", **flags)
    theirs, ours = model.encode(texts, normalize_embeddings=True), np.load(place / f"{name}.npy")
    off = np.abs(theirs - ours).max()
    assert theirs.shape == ours.shape and off < 1e-5, f"{name}: {off}"
    model.save(str(place / f"{name}-saved"))
    again = SentenceTransformer(str(place / f"{name}-saved"), device="cpu", **flags).encode(texts)
    assert np.abs(again - model.encode(texts)).max() < 1e-6, f"{name}, saved"
    print(f"sentence-transformers, {name}: {len(texts)} vectors of {theirs.shape[1]} within {off:.1e}")
