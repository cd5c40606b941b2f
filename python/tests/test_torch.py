import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import numpy as np

import fnet_mixing
import fnet_mixing.torch as fourier


def test_values_and_gradients_against_torch():
    random = torch.Generator().manual_seed(1)
    numbers = np.random.default_rng(1)
    for case in range(150):
        shape = tuple(numbers.integers(1, 4, numbers.integers(0, 3))) + tuple(numbers.integers(1, 60, 2))
        kind = [torch.float32, torch.float32, torch.bfloat16, torch.float16][case % 4]
        x = torch.randn(*map(int, shape), generator=random).to(kind)
        if case % 3 == 0:
            x = x.transpose(-1, -2).contiguous().transpose(-1, -2)
        x.requires_grad_()
        y = fourier.mix(x)
        expected = torch.fft.fft2(x.double()).real
        weights = torch.randn(*y.shape, generator=random)
        y.float().mul(weights).sum().backward()
        gradient = torch.fft.fft2(weights.to(kind).double()).real
        tolerance = {torch.float32: 1e-5, torch.bfloat16: 6e-3, torch.float16: 1e-3}[kind]
        for got, exact in [(y, expected), (x.grad, gradient)]:
            assert got.dtype == kind and got.shape == exact.shape
            assert (got.double() - exact).abs().max() <= tolerance * exact.abs().max(), (shape, kind)


def test_opcheck():
    for x in [torch.randn(2, 5, 6), torch.randn(3, 4), torch.randn(2, 3, 7, 8).transpose(-1, -2)]:
        torch.library.opcheck(torch.ops.fnet_mixing.mix.default, (x.requires_grad_(), None))
    lengths = torch.tensor([3, 5])
    torch.library.opcheck(torch.ops.fnet_mixing.mix.default, (torch.randn(2, 5, 6, requires_grad=True), lengths))
    x = torch.randn(2, 3, 4, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: fourier.mix(x.float()).double(), x.double(), eps=1e-2, atol=1e-3)


def test_each_sequence_at_its_own_length():
    layer = fourier.FourierMixing()
    x, mask = torch.randn(2, 6, 5, requires_grad=True), torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    y = layer(x, mask)
    alone = layer(x[:1, :4])
    assert torch.allclose(y[0, :4], alone[0], atol=1e-5) and not y[0, 4:].any()
    y.sum().backward()
    assert not x.grad[0, 4:].any()


def test_under_compile():
    layer = torch.compile(fourier.FourierMixing(), fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 5, 6, requires_grad=True)
    y = layer(x)
    assert torch.allclose(y, fourier.mix(x))
    y.sum().backward()
    assert torch.allclose(x.grad, fourier.mix(torch.ones(2, 5, 6)))


def test_bad_tensors_are_errors():
    for x in [torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, 3, device="meta"), torch.zeros(2, 3).to_sparse()]:
        with pytest.raises(TypeError):
            fnet_mixing.mix(x)
    for x in [torch.zeros(3), torch.zeros(2, 0, 3), torch.zeros(())]:
        with pytest.raises(ValueError):
            fnet_mixing.mix(x)
    with pytest.raises(ValueError):
        fourier.mix(torch.zeros(2, 3, 4), torch.tensor([4, 1]))
    with pytest.raises(ValueError):
        fnet_mixing.mix(torch.zeros(2, 3), out=torch.zeros(2, 3, requires_grad=True))


def test_transformers_fnet_trains_to_the_same_loss():
    transformers = pytest.importorskip("transformers", reason="Transformers is not installed")
    config = transformers.FNetConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, intermediate_size=64, max_position_embeddings=40
    )
    torch.manual_seed(1)
    model = transformers.FNetForMaskedLM(config).eval()
    ids, labels = torch.randint(4, 100, (3, 40)), torch.randint(4, 100, (3, 40))
    ids[0, 20:] = config.pad_token_id

    def step():
        model.zero_grad()
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        return loss.item(), [p.grad.clone() for p in model.parameters() if p.grad is not None]

    loss, gradients = step()
    fourier.patch(model)
    patched, patched_gradients = step()
    assert abs(loss - patched) < 1e-4
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(gradients, patched_gradients))
    with pytest.raises(ValueError):
        fourier.patch(model)

    with pytest.raises(ValueError, match="right"):
        fourier.FourierMixing()(torch.zeros(1, 3, 4), torch.tensor([[0, 1, 1]]))
    with pytest.raises(RuntimeError, match="in-?place|version"):
        layer = torch.nn.Linear(4, 4)
        x = torch.zeros(2, 4)
        y = layer(x).sum()
        fnet_mixing.mix(x, out=x)
        y.backward()

    fourier.patch(own := transformers.FNetModel(config).eval(), own_lengths=True)
    padded, alone = own(input_ids=ids).last_hidden_state, own(input_ids=ids[:1, :20]).last_hidden_state
    assert torch.allclose(padded[0, :20], alone[0], atol=1e-5)
