"""``mix`` on arrays of NumPy and tensors of PyTorch."""

from __future__ import annotations

import sys
from typing import Any, Optional, Sequence

import numpy as np

from . import _native

_KINDS = {"float32": 0, "bfloat16": 1, "float16": 2}


def mix(x: Any, lengths: Optional[Sequence[int]] = None, *, out: Any = None, threads: Optional[int] = None) -> Any:
    """Re(FFT2(x)) of each sample ``[seq_len, hidden]``.

    ``x``: a NumPy array or a PyTorch tensor on the CPU, ``[..., seq_len, hidden]``, of float32, bfloat16 or float16;
    halves are mixed in float32 and rounded once. Contiguous memory is read where it is, other layouts are copied.

    ``lengths``: mixes each sequence at its own length; its other rows become zero. One for each sample, in the shape of
    the leading axes. For ``[tokens, hidden]``, a list: sequences packed one after another, without padding.

    ``out``: where the result is written, a contiguous array of the same shape and type; ``x`` itself for in place.

    ``threads``: as many as ``torch.get_num_threads()`` for tensors, all cores for arrays, unless given.

    Raises TypeError for other types, ValueError for shapes, lengths and layouts that do not fit. No gradient is recorded:
    that is what ``fnet_mixing.torch.mix`` is for.
    """
    if isinstance(x, np.ndarray):
        contiguous = np.ascontiguousarray(x) if x.ndim else x
        made = np.empty_like(contiguous) if out is None else out
        if out is not None and not (isinstance(out, np.ndarray) and out.flags.c_contiguous and out.flags.writeable):
            raise ValueError("`out` must be a contiguous, writeable NumPy array, as x is one")
        kind, addresses = x.dtype.name if x.dtype.isnative else str(x.dtype), (contiguous.ctypes.data, made.ctypes.data)
    elif (torch := sys.modules.get("torch")) is not None and isinstance(x, torch.Tensor):
        if x.device.type != "cpu" or x.layout is not torch.strided:
            raise TypeError(f"a dense tensor on the CPU is needed, not one of {x.layout} on {x.device}")
        if x.is_conj() or x.is_neg():
            x = x.resolve_conj().resolve_neg()
        contiguous = x.detach().contiguous()
        made = torch.empty_like(contiguous) if out is None else out
        if out is not None and not (isinstance(out, torch.Tensor) and out.device.type == "cpu" and out.is_contiguous()):
            raise ValueError("`out` must be a contiguous tensor on the CPU, as x is one")
        if out is not None and out.requires_grad:
            raise ValueError("`out` must not require a gradient")
        kind, addresses = str(x.dtype)[6:], (contiguous.data_ptr(), made.data_ptr())
        threads = torch.get_num_threads() if threads is None else threads
    else:
        raise TypeError(f"a NumPy array or a PyTorch tensor is needed, not {type(x).__name__}")
    if kind not in _KINDS:
        raise TypeError(f"float32, bfloat16 or float16 are mixed, not {kind}")
    if out is not None and (tuple(out.shape) != tuple(x.shape) or out.dtype != x.dtype):
        raise ValueError(f"`out` is {tuple(out.shape)} of {out.dtype}, x is {tuple(x.shape)} of {x.dtype}")
    shape = tuple(x.shape)
    if len(shape) < 2 or 0 in shape[-2:]:
        raise ValueError(f"a shape of [..., seq_len, hidden] is needed, each at least 1, not {list(shape)}")
    samples = 1
    for size in shape[:-2]:
        samples *= size
    packed = False
    if lengths is not None:
        lengths, packed = _checked(lengths, shape)
    _native.mix(*addresses, samples, *shape[-2:], _KINDS[kind], lengths, packed, threads or 0)
    if out is not None and not isinstance(out, np.ndarray):
        # A gradient that needs what was there before is then refused, as after PyTorch's own operations in place.
        sys.modules["torch"].autograd.graph.increment_version(out)
    return made


def _checked(lengths: Any, shape: tuple) -> tuple[list[int], bool]:
    """Lengths as a list, and whether they are of packed sequences."""
    array = np.asarray(lengths)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"`lengths` must be whole numbers, not {array.dtype}")
    packed = len(shape) == 2 and array.ndim == 1
    if not packed and array.shape != shape[:-2]:
        raise ValueError(f"`lengths` must have the shape of the leading axes, {list(shape[:-2])}, not {list(array.shape)}")
    if array.size and array.min() < 0:
        raise ValueError("`lengths` must not be negative")
    return array.ravel().tolist(), packed
