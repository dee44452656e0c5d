"""What a person asks with: a picture, an array, a text, a vector or an item of the index; and what it looks like."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ArgumentError, FileFormatError, KyoriError
from .console import note

if TYPE_CHECKING:
    import numpy as np

    from ..index import Index
    from ..recognition import Recogniser

__all__ = ["Kind", "Pictures", "chance", "drawn", "id_of", "picture_of", "vector_of"]

Kind = Literal["auto", "item", "vector", "id", "text"]


def vector_of(recogniser: Recogniser, query: str, kind: Kind = "auto") -> tuple[np.ndarray, Any]:
    """Return the vector ``(d,)`` of a query, and its id where it is an item of the index.

    A query is a file if there is one of that name, else the id of an item, else, where the model takes texts, a text.
    A ``.npy`` file is an item as the model takes them if its shape says so, else a vector that is an embedding already.
    """
    is_file = Path(query).is_file()
    if is_file and query.endswith(".npy") and kind in ("auto", "item", "vector"):
        return _of_array(recogniser, query, kind), None
    if kind == "vector":
        raise ArgumentError(f"--as vector needs a .npy file with one embedding (d,); got {query}.")
    if kind == "text" or (kind == "auto" and recogniser.takes == "text" and not _is_id(recogniser, query)):
        if recogniser.takes not in ("text", "any"):
            raise ArgumentError(f"the model of {recogniser.name} takes {recogniser.takes}s, no texts.")
        return recogniser.embed([query])[0], None
    if kind == "item" or (kind == "auto" and is_file):
        return recogniser.embed([query])[0], None
    if not recogniser.has_index:
        raise ArgumentError(
            f"{query} is no file, and {recogniser.name} has no index whose items it could name."
        )
    if not _is_id(recogniser, query):
        also = "" if recogniser.takes == "image" else f" (the model takes {recogniser.takes}s)"
        raise ArgumentError(f"expected a file or the id of an item of the index; {query!r} is neither{also}.")
    own = id_of(recogniser.index, query)
    return recogniser.stored([own])[0], own


def chance(probability: float | None) -> str:
    """Return a probability in three digits, never as a certainty that nobody measured.

    >>> chance(0.98765), chance(0.99997), chance(1e-5), chance(None)
    ('0.988', '> 0.999', '1e-05', '')
    """
    if probability is None:
        return ""
    return "> 0.999" if probability > 0.9995 else f"{probability:.3g}"


def id_of(index: Index, text: str) -> Any:
    """Return an id as the index keeps it.

    Raises:
        ArgumentError: The ids of this index are integers, and this is none.
    """
    if index.statistics().get("ids") != "int":
        return text
    if not text.lstrip("-").isdigit():
        raise ArgumentError(
            f"the ids of this index are integers; {text!r} is neither a file nor one of them."
        )
    return int(text)


def _is_id(recogniser: Recogniser, query: str) -> bool:
    if not recogniser.has_index:
        return False
    index = recogniser.index
    if index.statistics().get("ids") == "int" and not query.lstrip("-").isdigit():
        return False
    try:
        index.get([id_of(index, query)])
    except KyoriError:
        return False
    return True


def _of_array(recogniser: Recogniser, path: str, kind: Kind) -> np.ndarray:
    """Return the vector of what a ``.npy`` file holds: an item, or an embedding."""
    import numpy as np

    array = _read_array(path)
    if recogniser.takes != "set" and array.ndim > 1 and array.size == max(array.shape):
        array = array.reshape(-1)
    if kind == "item" or (kind == "auto" and _is_item(recogniser, array)):
        try:
            return recogniser.embed([array])[0]
        except ArgumentError as error:
            raise ArgumentError(f"{path}: {error}") from error
    if array.ndim != 1:
        raise FileFormatError(f"{path} must hold one vector (d,) of numbers; got {array.shape}.")
    return array.astype(np.float32)


def _is_item(recogniser: Recogniser, array: np.ndarray) -> bool:
    """Whether the model takes arrays like this one; all embeddings have one axis."""
    if recogniser.takes == "vector":
        return array.shape == recogniser.item_shape
    return array.ndim > 1 and recogniser.takes in ("image", "array", "set")


def _read_array(path: str) -> np.ndarray:
    import numpy as np

    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise FileFormatError(f"{path} is no NumPy array of numbers: {error}") from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf" or found.ndim == 0:
        what = found.shape if isinstance(found, np.ndarray) else type(found).__name__
        raise FileFormatError(f"{path} must hold one array of numbers; got {what}.")
    return found


class Pictures:
    """What the items of an index look like, by id: files where ids are their paths, else from the data opened again."""

    def __init__(self, run: Path):
        from ..recognition.places import find_note

        self._run = run
        self._data = find_note(run).get("data")
        self._source: Any = None
        self._place: dict[Any, int] | None = None

    def of(self, id_: Any) -> Any:
        """Return the picture, vector or text of an item; None where it cannot be had."""
        if isinstance(id_, str) and (found := self._file(id_)) is not None:
            return found
        if self._place is None:
            self._open()
        assert self._place is not None
        return self._source.read(self._place[id_]) if id_ in self._place else None

    def _file(self, id_: str) -> Any:
        """Look for the file that an id names, before all of the data are opened for a few of them."""
        if "#" in id_:  # a box of a picture: only the data know
            return None
        base = Path(self._data) if isinstance(self._data, str) else Path()
        for path in (base / id_, Path(id_)):
            if path.is_file():
                return picture_of(str(path))
        return None

    def _open(self) -> None:
        self._place = {}
        if self._data is None:
            return
        from ..runs import open_data, open_run

        try:
            self._source = open_data(self._data, open_run(self._run).config)
            self._place = {id_: row for row, id_ in enumerate(self._source.ids.tolist())}
        except (KyoriError, OSError) as error:
            note(f"note: no pictures are shown, as the data cannot be opened: {error}")


def picture_of(path: str) -> Any:
    """Return the picture in a file; None where it is none."""
    from ..data.images import picture

    try:
        return picture(path)
    except KyoriError:
        return None


def drawn(query: str, kind: Kind) -> Any:
    """Return what a query that is a file looks like: a picture, or the numbers; None for a vector or a text."""
    if kind in ("vector", "text") or not Path(query).is_file():
        return None
    if not query.endswith(".npy"):
        return picture_of(query)
    array = _read_array(query)
    return array if kind == "item" or array.ndim > 1 else None
