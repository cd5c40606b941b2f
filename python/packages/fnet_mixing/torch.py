"""Fourier mixing in PyTorch, with gradients: it takes the place of the mixing in Transformers' FNet."""

from __future__ import annotations

from typing import Any, Optional

try:
    import torch
except ImportError as error:
    raise ImportError("fnet_mixing.torch needs PyTorch: pip install torch") from error

from ._mix import mix as _mix

__all__ = ["FourierMixing", "mix", "patch"]


@torch.library.custom_op("fnet_mixing::mix", mutates_args=(), device_types="cpu")
def _op(x: torch.Tensor, lengths: Optional[torch.Tensor]) -> torch.Tensor:
    if x.numel() == 0:
        return torch.empty(x.shape, dtype=x.dtype)
    return _mix(x, None if lengths is None else lengths.numpy(), out=torch.empty(x.shape, dtype=x.dtype))


@_op.register_fake
def _(x: torch.Tensor, lengths: Optional[torch.Tensor]) -> torch.Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _keep(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    ctx.save_for_backward(*(x for x in inputs[1:] if x is not None))


def _backward(ctx: Any, gradient: torch.Tensor) -> tuple:
    # The operator is symmetric, so its gradient is itself.
    return _op(gradient, *(ctx.saved_tensors or [None])), None


_op.register_autograd(_backward, setup_context=_keep)


def mix(x: torch.Tensor, lengths: Optional[torch.Tensor] = None) -> torch.Tensor:
    """``fnet_mixing.mix`` with gradients, also of higher order, and under ``torch.compile``. ``lengths`` is a tensor."""
    if lengths is not None and lengths.dtype != torch.int64:
        lengths = lengths.to(torch.int64)
    return _op(x, lengths)


class FourierMixing(torch.nn.Module):
    """Mixes hidden states ``[batch, seq_len, hidden]``.

    With an ``attention_mask`` ``[batch, seq_len]`` of ones followed by zeros, each sequence is mixed at its own length, and
    padding stays zero: the result does not depend on how far a batch is padded.
    """

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        return mix(hidden_states, None if attention_mask is None else _lengths_of(attention_mask != 0))


def _lengths_of(is_own: torch.Tensor) -> torch.Tensor:
    """How many tokens come before the padding."""
    if not torch.compiler.is_compiling() and bool((is_own[..., 1:] & ~is_own[..., :-1]).any()):
        raise ValueError("sequences must be padded on the right: masks are ones, then zeros")
    return is_own.sum(-1)


class _Patched(torch.nn.Module):
    """In the place of Transformers' `FNetBasicFourierTransform`, which returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.mixing = FourierMixing()
        self.lengths: Optional[torch.Tensor] = None

    def forward(self, hidden_states: torch.Tensor) -> tuple:
        return (mix(hidden_states, self.lengths),)


def patch(model: torch.nn.Module, own_lengths: bool = False) -> torch.nn.Module:
    """Gives an FNet of Transformers this mixing, and returns it. Weights and results stay as they are.

    ``own_lengths``: mix each sequence at its own length instead of with its padding, which Transformers mixes in. Results
    of padded sequences then differ, and no longer depend on the padding; ``input_ids`` tell the lengths.
    """
    places = [
        (parent, name)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child).__name__ == "FNetBasicFourierTransform"
    ]
    if not places:
        raise ValueError(f"{type(model).__name__} has no layer of FNet's Fourier mixing")
    patched = [_Patched() for _ in places]
    for (parent, name), module in zip(places, patched):
        setattr(parent, name, module)
    if own_lengths:
        pad = model.config.pad_token_id

        def measure(_: torch.nn.Module, arguments: tuple, named: dict) -> None:
            ids = named.get("input_ids", arguments[0] if arguments else None)
            if ids is None:
                raise ValueError("own_lengths: input_ids tell the lengths, and there are none")
            lengths = _lengths_of(ids != pad)
            for module in patched:
                module.lengths = lengths

        # The encoder itself, by whichever head it is called.
        getattr(model, "base_model", model).register_forward_pre_hook(measure, with_kwargs=True)
    return model
