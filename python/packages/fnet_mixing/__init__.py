"""Parameter-free Fourier token mixing: y = Re(FFT2(x)) over the sequence and hidden axes (Lee-Thorp et al. 2021).

    import numpy as np, fnet_mixing
    y = fnet_mixing.mix(np.ones((8, 128, 256), np.float32))

``fnet_mixing.torch`` has the same for PyTorch, with gradients.
"""

from ._mix import mix
from ._native import __version__

__all__ = ["__version__", "mix"]
