"""FNet encoders, trained and used on CPUs.

    import fnet
    fnet.finetune({"text": ["so good", "so bad", ...], "label": ["+", "-", ...]}, out="reviews")
    fnet.Model.from_pretrained("reviews").predict(["what a film"])
"""

from fnet_mixing._native import __version__

from ._model import Guess, Model
from ._training import finetune

__all__ = ["Guess", "Model", "__version__", "finetune"]
