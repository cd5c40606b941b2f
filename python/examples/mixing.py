"""Mixing in NumPy and in a small PyTorch encoder."""

import numpy as np

import fnet_mixing

# A batch of two sequences of four tokens, hidden size 6.
x = np.ones((2, 4, 6), np.float32)
y = fnet_mixing.mix(x)
print("a constant has only the zero frequency:", y[0, 0, 0], abs(y).sum() == abs(y[:, 0, 0]).sum())

# The operator is its own transpose.
a, b = np.random.default_rng(1).standard_normal((2, 4, 6)).astype(np.float32)
print("symmetric:", np.allclose((fnet_mixing.mix(a) * b).sum(), (a * fnet_mixing.mix(b)).sum(), atol=1e-4))

try:
    import torch
except ImportError:
    print("the rest needs PyTorch: pip install torch")
    raise SystemExit

from fnet_mixing.torch import FourierMixing


class Layer(torch.nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.mixing, self.norm = FourierMixing(), torch.nn.LayerNorm(hidden)
        self.wide, self.narrow = torch.nn.Linear(hidden, 4 * hidden), torch.nn.Linear(4 * hidden, hidden)

    def forward(self, x, mask):
        x = self.norm(x + self.mixing(x, mask))
        return x + self.narrow(torch.nn.functional.gelu(self.wide(x)))


# Which of two sequences rises? One of them is padded.
torch.manual_seed(1)
layer, head = Layer(16), torch.nn.Linear(16, 1)
up = torch.linspace(-1, 1, 12)[:, None].repeat(1, 16)
x, mask = torch.stack([up, -up]), torch.ones(2, 12)
mask[1, 8:] = 0
optimizer = torch.optim.AdamW([*layer.parameters(), *head.parameters()], lr=1e-2)
for step in range(50):
    logits = head(layer(x, mask)[:, 0])[:, 0]
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor([1.0, 0.0]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print("loss after 50 steps:", round(loss.item(), 4))
assert loss < 0.1
