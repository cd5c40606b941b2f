#!/usr/bin/env bash
# Round trips between this program and Transformers: builds the programs, makes a Python environment of its own and
# runs round_trip.py. An argument is a text file, whose first 10,000 lines the tokenizers are compared on.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PARITY_PYTHON:-target/parity/bin/python}
if [ ! -x "$python" ]; then
    python3 -m venv target/parity
    target/parity/bin/pip install --quiet torch==2.9.1 transformers tokenizers safetensors numpy sentencepiece protobuf
fi
cargo build --release -p fnet-encoder -p fnet-train -p fnet-cli --bin fnet --example logits --example encode
exec "$python" tests/parity/round_trip.py target/release --data data ${1:+--text "$1"}
