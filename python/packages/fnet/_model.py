"""A model opened for use."""

from __future__ import annotations

import os
from typing import Any, NamedTuple, Optional, Sequence, Union

import numpy as np

from fnet_mixing import _native

from ._threads import number_of

Texts = Union[str, Sequence[str]]


class Guess(NamedTuple):
    """A guess for a mask."""

    token: str
    probability: float
    text: str


class Model:
    """A folder of a pretrained or fine-tuned model, or of an adapter, opened by :meth:`from_pretrained`.

    Answers do not depend on the batch that a text is in, nor on the number of threads.
    """

    def __init__(self, native: _native.Model) -> None:
        self._native = native

    @classmethod
    def from_pretrained(
        cls,
        path: Union[str, os.PathLike, None] = None,
        *,
        pooling: Optional[str] = None,
        precision: str = "f32",
        threads: Optional[int] = None,
    ) -> Model:
        """Opens a folder; without one, the model that ships with the package.

        ``pooling``: what :meth:`encode` reads of a text, such as ``"mean"`` or ``"max+embeddings"``, if not what the
        model was made for. ``precision``: that of products, ``"f32"``, ``"bf16"`` or ``"int8"``; with AVX-512
        VNNI the last is the fastest. Raises OSError for files that cannot be read, ValueError for ones that make no model.
        """
        return cls(_native.Model(None if path is None else os.fspath(path), pooling, precision, number_of(threads)))

    def encode(
        self,
        texts: Texts,
        *,
        dimensions: Optional[int] = None,
        normalize: Optional[bool] = None,
        prompt: Optional[str] = None,
    ) -> np.ndarray:
        """Vectors of texts, float32 ``[texts, width]``; of a single text ``[width]``.

        ``dimensions``: how many leading values are kept. ``normalize``: whether vectors have length one, by default as
        the model says. ``prompt``: the name of one of the model's prompts.
        """
        single, texts = _listed(texts)
        data, width = self._native.encode(texts, dimensions, normalize, prompt)
        vectors = np.frombuffer(data, np.float32).reshape(len(texts), width)
        return vectors[0] if single else vectors

    def similarity(self, first: Texts, second: Texts) -> np.ndarray:
        """Cosines of texts' vectors, ``[first, second]``; axes of single texts are left out."""
        (one, first), (other, second) = _listed(first), _listed(second)
        vectors = self.encode(first + second, normalize=True)
        cosines = vectors[: len(first)] @ vectors[len(first) :].T
        return cosines[0 if one else slice(None), 0 if other else slice(None)]

    def predict(self, texts: Texts, pairs: Optional[Texts] = None) -> Any:
        """What a fine-tuned model says of texts, or of pairs if the second texts are given: a dictionary for each.

        ``{"label": .., "probabilities": {..}}`` for classes, ``{"labels": [..], "probabilities": {..}}`` where there may be
        any number of labels, ``{"value": ..}`` for numbers.
        """
        single, texts = _listed(texts)
        seconds = None if pairs is None else _listed(pairs)[1]
        if seconds is not None and len(seconds) != len(texts):
            raise ValueError(f"{len(texts)} texts and {len(seconds)} second texts are no pairs")
        predictions = self._native.predict(texts, seconds)
        return predictions[0] if single else predictions

    def fill_mask(self, text: str, top: int = 5) -> list[list[Guess]]:
        """For each ``[MASK]`` of a text, the likeliest tokens."""
        return [[Guess(*guess) for guess in guesses] for guesses in self._native.fill_mask(text, top)]

    def export_onnx(
        self, path: Union[str, os.PathLike], *, vectors: bool = False, weights: str = "float32"
    ) -> None:
        """Writes an ONNX file of standard operators; each sequence of a padded batch is mixed at its own length.

        ``vectors``: what :meth:`encode` computes, instead of what is predicted. ``weights``: ``"float32"``, ``"bfloat16"`` or
        ``"int8"``. Inputs are ``input_ids``, ``attention_mask`` and ``token_type_ids``, padded on the right.
        """
        data = self._native.export_onnx(vectors, weights)
        aside = f"{os.fspath(path)}.part"
        with open(aside, "wb") as file:
            file.write(data)
        os.replace(aside, path)

    @property
    def labels(self) -> list[str]:
        """Names of the classes or labels, in the order of the model; empty if it predicts a number."""
        return self._native.labels()


def _listed(texts: Texts) -> tuple[bool, list[str]]:
    """Whether it is a single text, and all as a list."""
    if isinstance(texts, str):
        return True, [texts]
    texts = list(texts)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"text {i} is {type(text).__name__}, not str")
    return False, texts
