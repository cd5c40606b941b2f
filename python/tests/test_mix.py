import subprocess
import sys
import threading

import numpy as np
import pytest

import fnet_mixing


def exact(x, lengths=None):
    """By NumPy's FFT in float64."""
    x = np.asarray(x, np.float64)
    if lengths is None:
        return np.fft.fft2(x).real
    y = np.zeros_like(x)
    for place in np.ndindex(x.shape[:-2]):
        length = np.asarray(lengths)[place]
        if length:
            y[place][:length] = np.fft.fft2(x[place][:length]).real
    return y


def is_close(y, expected, tolerance):
    return np.abs(np.asarray(y, np.float64) - expected).max(initial=0) <= tolerance * (np.abs(expected).max(initial=0) + 1e-9)


def random_shape(random):
    leading = tuple(random.integers(1, 4, random.integers(0, 3)))
    return leading + (int(random.integers(1, 70)), int(random.integers(1, 70)))


def test_random_shapes_layouts_and_lengths():
    random = np.random.default_rng(1)
    for case in range(150):
        shape = random_shape(random)
        kind = [np.float32, np.float16][case % 2]
        x = random.standard_normal(shape).astype(kind)
        if case % 3 == 0:
            x = np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)  # another layout
        elif case % 3 == 1:
            x = np.repeat(x, 2, axis=-2)[..., ::2, :]
        lengths = random.integers(0, shape[-2] + 1, shape[:-2]) if case % 4 == 0 else None
        tolerance = 1e-5 if kind is np.float32 else 1e-3
        before = x.copy()
        y = fnet_mixing.mix(x, lengths)
        assert y.dtype == kind and y.shape == shape
        assert is_close(y, exact(x, lengths), tolerance), (shape, kind, lengths)
        assert np.array_equal(x, before)


def test_packed():
    x = np.random.default_rng(2).standard_normal((10, 6)).astype(np.float32)
    y = fnet_mixing.mix(x, [3, 0, 7])
    assert is_close(y[:3], exact(x[:3]), 1e-5) and is_close(y[3:], exact(x[3:]), 1e-5)
    big = np.random.default_rng(3).standard_normal((600, 64)).astype(np.float32)
    y = fnet_mixing.mix(big, [100, 500])
    assert is_close(y[:100], exact(big[:100]), 1e-5) and is_close(y[100:], exact(big[100:]), 1e-5)


def test_out():
    x = np.random.default_rng(4).standard_normal((4, 32, 200)).astype(np.float32)
    expected = fnet_mixing.mix(x)
    y = np.empty_like(x)
    assert fnet_mixing.mix(x, out=y) is y and np.array_equal(y, expected)
    assert fnet_mixing.mix(y, lengths=[32] * 4, out=y) is y  # in place, twice: x again, even part
    again = x.copy()
    fnet_mixing.mix(again, out=again)
    assert np.array_equal(again, expected)


def test_threads_do_not_change_bits():
    x = np.random.default_rng(5).standard_normal((3, 512, 96)).astype(np.float32)
    one = fnet_mixing.mix(x, threads=1)
    assert all(np.array_equal(one, fnet_mixing.mix(x, threads=n)) for n in (2, 3, 7))


@pytest.mark.parametrize(
    "x, options, error",
    [
        (np.zeros((2, 3)), {}, TypeError),  # float64
        (np.zeros((2, 3), ">f4"), {}, TypeError),
        (np.zeros((2, 3), np.int32), {}, TypeError),
        ([[1.0]], {}, TypeError),
        (None, {}, TypeError),
        (np.zeros(3, np.float32), {}, ValueError),
        (np.float32(1), {}, TypeError),
        (np.zeros((), np.float32), {}, ValueError),
        (np.zeros((2, 0, 3), np.float32), {}, ValueError),
        (np.zeros((2, 3, 0), np.float32), {}, ValueError),
        (np.zeros((2, 3, 4), np.float32), {"lengths": [1]}, ValueError),
        (np.zeros((2, 3, 4), np.float32), {"lengths": [1, 4]}, ValueError),
        (np.zeros((2, 3, 4), np.float32), {"lengths": [1, -1]}, ValueError),
        (np.zeros((2, 3, 4), np.float32), {"lengths": [1, 2.5]}, TypeError),
        (np.zeros((2, 3, 4), np.float32), {"lengths": [1, 2**70]}, TypeError),
        (np.zeros((5, 4), np.float32), {"lengths": [2, 2]}, ValueError),
        (np.zeros((5, 4), np.float32), {"lengths": [2**62, 2**62, 2**62]}, ValueError),
        (np.zeros((2, 3), np.float32), {"out": np.zeros((3, 2), np.float32)}, ValueError),
        (np.zeros((2, 3), np.float32), {"out": np.zeros((2, 3), np.float64)}, ValueError),
        (np.zeros((2, 3), np.float32), {"out": np.zeros((3, 2), np.float32).T}, ValueError),
        (np.zeros((2, 3), np.float32), {"threads": -1}, OverflowError),
    ],
)
def test_bad_input_is_an_error(x, options, error):
    with pytest.raises(error):
        fnet_mixing.mix(x, **options)


def test_overlap_and_read_only_outputs_are_refused():
    memory = np.zeros(30, np.float32)
    with pytest.raises(ValueError, match="overlaps"):
        fnet_mixing.mix(memory[:12].reshape(3, 4), out=memory[6:18].reshape(3, 4))
    y = np.zeros((2, 3), np.float32)
    y.flags.writeable = False
    with pytest.raises(ValueError):
        fnet_mixing.mix(np.zeros((2, 3), np.float32), out=y)


def test_no_samples_and_no_sequences():
    assert fnet_mixing.mix(np.zeros((0, 3, 4), np.float32)).shape == (0, 3, 4)
    assert fnet_mixing.mix(np.zeros((0, 3, 4), np.float16), []).shape == (0, 3, 4)


def test_two_threads_at_once():
    xs = [np.random.default_rng(i).standard_normal((2, 100, 96)).astype(np.float32) for i in range(4)]
    expected, failed = [fnet_mixing.mix(x) for x in xs], []

    def work(i):
        for _ in range(200):
            if not np.array_equal(fnet_mixing.mix(xs[i]), expected[i]):
                failed.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failed


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow():
    def resident():
        return int(open("/proc/self/statm").read().split()[1]) * 4096

    random = np.random.default_rng(6)
    shapes = [random_shape(random) for _ in range(200)]
    arrays = [np.zeros(shape, np.float32) for shape in shapes]

    def work(calls):
        for i in range(calls):
            fnet_mixing.mix(arrays[i % 200])

    work(20_000)
    before = resident()
    work(80_000)
    assert resident() - before < 16 << 20


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="there is no fork")
def test_a_forked_child_is_told_instead_of_waiting_for_ever():
    code = """
import os, numpy as np, fnet_mixing
big, small = np.zeros((4, 128, 256), np.float32), np.zeros((4, 8), np.float32)
fnet_mixing.mix(big, threads=2)
child = os.fork()
if child == 0:
    fnet_mixing.mix(small)  # needs no threads
    try:
        fnet_mixing.mix(big, threads=2)
    except RuntimeError as error:
        os._exit(7 if "spawn" in str(error) else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)
