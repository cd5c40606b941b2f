"""Fine-tuning on rows that are in memory or in files."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Union

from ._threads import number_of

from fnet_mixing import _native

Rows = Union[str, os.PathLike, Mapping[str, Sequence], Any]


def finetune(
    train: Optional[Rows] = None,
    *,
    out: Union[str, os.PathLike, None] = None,
    dev: Optional[Rows] = None,
    text: Union[str, Sequence[str], None] = None,
    label: Optional[str] = None,
    model: Union[str, os.PathLike, None] = None,
    resume: Union[str, os.PathLike, None] = None,
    overwrite: bool = False,
    quiet: bool = False,
    threads: Optional[int] = None,
    **settings: Any,
) -> dict:
    """Fine-tunes a model on labelled rows and writes it to the folder ``out``; returns its results.

    ``train``, ``dev``: a pandas frame, a dictionary of columns, a list of rows (each a dictionary, or the texts and then the
    label), or a file that ``fnet finetune`` reads. ``text``: the
    column of the texts, "text" unless told, or two for pairs. ``label``: the column of classes, or of numbers with
    ``regression=True``; "label" unless told.
    ``model``: a pretrained folder, by default the model that ships with the package. Other settings are those of
    ``fnet finetune``: ``epochs``, ``learning_rate``, ``seeds``, ``adapter``, ``recipe``, ``objective="similarity"`` and more.

    Progress is shown on standard error unless ``quiet``. Ctrl-C writes a checkpoint and raises KeyboardInterrupt;
    ``finetune(resume=out)`` goes on, to the same bytes. Rows in memory are kept beside ``out`` for that.
    """
    if resume is not None:
        if train is not None or dev is not None or out is not None or settings:
            raise ValueError("a run goes on with its own rows and settings: give `resume` alone")
        return json.loads(_native.finetune("{}", os.fspath(resume), True, False, quiet, number_of(threads)))
    if train is None or out is None:
        raise ValueError("`train` and `out` are needed, or `resume`")
    out = Path(out)
    given = {"model": model, **settings}
    if settings.get("objective") is None:
        texts = [text or "text"] if text is None or isinstance(text, str) else list(text)
        given.update(text=texts, label=label or "label")
        columns = [*texts, given["label"]]
    elif text is not None or label is not None:
        raise ValueError("`text` and `label` are for labelled rows; with an objective, columns are known by their names")
    else:
        columns = None  # all there are
    given["train"] = _file_of(train, "train", columns, out)
    given["dev"] = None if dev is None else _file_of(dev, "dev", columns, out)
    given = {name: _plain(value) for name, value in given.items() if value is not None}
    return json.loads(_native.finetune(json.dumps(given), os.fspath(out), False, overwrite, quiet, number_of(threads)))


def _plain(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _file_of(rows: Rows, name: str, columns: Optional[list[str]], out: Path) -> str:
    """The file of rows: their own, or one beside the run's folder, named by what is in it: other runs keep theirs."""
    if isinstance(rows, (str, os.PathLike)):
        return os.path.abspath(rows)
    if isinstance(rows, (list, tuple)):
        if columns is None:
            raise TypeError(f"`{name}`: with an objective, rows must be a frame, a dictionary of columns or a file")
        rows = _columns_of_rows(rows, name, columns)
    table = {str(column): _values(rows[column]) for column in _columns_of(rows, name)}
    columns = list(table) if columns is None else columns
    missing = [column for column in columns if column not in table]
    if missing:
        raise ValueError(
            f"`{name}` has no column {missing[0]!r}: name yours by `text` and `label`; "
            f"there are {', '.join(map(repr, table))}"
        )
    sizes = {column: len(values) for column, values in table.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"the columns of `{name}` differ in length: {sizes}")
    for column in columns:
        for i, value in enumerate(table[column]):
            if value is None or value != value:
                raise ValueError(f"`{name}`: row {i} has no {column!r}")
    lines = (json.dumps({c: table[c][i] for c in columns}) + "\n" for i in range(len(table[columns[0]])))
    content = "".join(lines).encode()
    path = out.with_name(f"{out.name}-{name}-{hashlib.sha256(content).hexdigest()[:12]}.jsonl").absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all, for a run that goes on reads it again.
    with tempfile.NamedTemporaryFile("wb", dir=path.parent, delete=False) as file:
        file.write(content)
    os.replace(file.name, path)
    return str(path)


def _columns_of_rows(rows: Sequence, name: str, columns: list[str]) -> dict[str, list]:
    """Rows as columns."""
    table: dict[str, list] = {column: [] for column in columns}
    for i, row in enumerate(rows):
        if isinstance(row, Mapping) and all(column in row for column in columns):
            values = [row[column] for column in columns]
        elif isinstance(row, (list, tuple)) and len(row) == len(columns):
            values = row
        else:
            raise ValueError(f"`{name}`: row {i} is not made of {', '.join(columns)}")
        for column, value in zip(columns, values):
            table[column].append(value)
    return table


def _columns_of(rows: Any, name: str) -> list:
    if isinstance(rows, Mapping):
        return list(rows)
    if hasattr(rows, "columns") and hasattr(rows, "iloc"):
        return list(rows.columns)
    raise TypeError(f"`{name}` must be a pandas frame, columns, rows or a file, not {type(rows).__name__}")


def _values(column: Any) -> list:
    return column.tolist() if hasattr(column, "tolist") else list(column)
