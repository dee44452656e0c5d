"""A trained model and its vectors in the formats of other tools, with a report of what is lost on the way.

:func:`export` writes a model and measures it against the one in PyTorch; :func:`write_vectors` writes vectors;
:func:`compare_sizes` says what smaller vectors cost.
"""

from .formats import FORMATS
from .parity import Parity
from .running import Export, export
from .sizes import Size, compare_sizes
from .vectors import VECTOR_FORMATS, write_vectors

__all__ = [
    "FORMATS",
    "VECTOR_FORMATS",
    "Export",
    "Parity",
    "Size",
    "compare_sizes",
    "export",
    "write_vectors",
]
