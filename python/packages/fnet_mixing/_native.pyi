from typing import Optional

__version__: str

def mix(
    input: int,
    output: int,
    samples: int,
    rows: int,
    hidden: int,
    kind: int,
    lengths: Optional[list[int]],
    packed: bool,
    threads: int,
) -> None: ...
def finetune(settings: str, out: str, resume: bool, overwrite: bool, quiet: bool, threads: int) -> str: ...

class Model:
    def __init__(self, path: Optional[str], pooling: Optional[str], threads: int) -> None: ...
    def encode(
        self, texts: list[str], dimensions: Optional[int], normalized: Optional[bool], prompt: Optional[str]
    ) -> tuple[bytearray, int]: ...
    def predict(self, texts: list[str], seconds: Optional[list[str]]) -> list[dict]: ...
    def labels(self) -> list[str]: ...
    def fill_mask(self, text: str, top: int) -> list[list[tuple[str, float, str]]]: ...
