"""The explorer: a map of all items in the browser, each with its picture and its nearest neighbours.

``kyori explore RUN`` is :class:`Explorer`. A command's arguments become a `scene` (items with vectors) and its `looks`;
`layouts` puts them on a plane, `nearness` finds neighbours exactly, `finding` searches, `columns` gives colours;
`desk` answers with all of these, `app` puts the answers behind the gate of :mod:`kyori.serving`, and the page draws
them.
"""

from .app import create_app
from .desk import Desk
from .explorer import Explorer
from .layouts import Layouts, choose_layout
from .looks import Looks
from .scene import Scene, open_scene, open_vectors

__all__ = [
    "Desk",
    "Explorer",
    "Layouts",
    "Looks",
    "Scene",
    "choose_layout",
    "create_app",
    "open_scene",
    "open_vectors",
]
