"""Writes crates/fnet-reservoir/tests/reservoirpy.json: states and readouts of reservoirpy with stored matrices.

    pip install reservoirpy && python tests/parity/reservoirpy_example.py
"""

import json
from pathlib import Path

import numpy as np
from reservoirpy.nodes import NVAR, Reservoir, Ridge

UNITS, INPUTS, OUTPUTS, STEPS = 12, 2, 2, 40
random = np.random.default_rng(1)
recurrent = random.normal(size=(UNITS, UNITS)) * (random.random((UNITS, UNITS)) < 0.4)
recurrent *= 0.9 / np.abs(np.linalg.eigvals(recurrent)).max()
matrices = {
    "recurrent": recurrent,
    "input": random.uniform(-1, 1, (UNITS, INPUTS)),
    "bias": random.uniform(-0.3, 0.3, UNITS),
}
inputs = np.stack([np.sin(np.arange(STEPS) * 0.3), np.cos(np.arange(STEPS) ** 2 * 0.1)], axis=1)
targets = np.stack([np.roll(inputs[:, 0], 3), inputs[:, 1] ** 2], axis=1)

reservoir = Reservoir(
    UNITS, lr=0.4, W=matrices["recurrent"], Win=matrices["input"], bias=matrices["bias"], input_dim=INPUTS
)
states = reservoir.run(inputs)
readout = Ridge(ridge=1e-3)
readout.fit(states[10:], targets[10:])
example = {name: matrix.tolist() for name, matrix in matrices.items()}
example |= {"leak": 0.4, "inputs": inputs.tolist(), "targets": targets.tolist(), "states": states.tolist()}
example |= {"washout": 10, "penalty": 1e-3}
example |= {"weight": readout.Wout.T.tolist(), "readout_bias": np.ravel(readout.bias).tolist()}
example |= {"outputs": readout.run(states).tolist()}
example["spectral_radius"] = float(np.abs(np.linalg.eigvals(recurrent)).max())
nvar = NVAR(delay=3, order=2, strides=2)
example["nvar"] = nvar.run(inputs).tolist()
place = Path(__file__).parents[2] / "crates/fnet-reservoir/tests/reservoirpy.json"
place.write_text(json.dumps(example))
