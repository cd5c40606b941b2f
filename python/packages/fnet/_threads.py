import sys
from typing import Optional


def number_of(threads: Optional[int]) -> int:
    """Threads to use: as told, else as many as PyTorch uses if it is loaded, else 0 for all cores."""
    if threads is not None:
        if threads < 1:
            raise ValueError(f"`threads`: {threads}; at least 1 is needed")
        return threads
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if hasattr(torch, "get_num_threads") else 0
