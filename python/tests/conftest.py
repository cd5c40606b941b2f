import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

ROWS = {
    "text": ["so good", "so bad", "a good day", "a bad day", "good, good", "bad, bad", "very good", "very bad"] * 4,
    "label": ["+", "-"] * 16,
}


@pytest.fixture
def rows():
    return {name: list(values) for name, values in ROWS.items()}
