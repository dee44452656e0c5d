"""A run as a service: search, verify, identify and keep items over HTTP, with limits, tokens and metrics.

``kyori serve RUN`` is :class:`Service`; :class:`Client` asks it. The other way round a request goes through a few small
modules: `connections` (slow clients) → `gate` (tokens, sizes, how many at once) → `app` (routes) → `bodies` (JSON and
pictures, checked) → `answers` (threads for pictures and the index) → `batching` (the model, many requests at once).
"""

from .access import Tokens
from .app import create_app
from .client import Client, ServerError
from .limits import Limits, Refused
from .service import Service

__all__ = ["Client", "Limits", "Refused", "ServerError", "Service", "Tokens", "create_app"]
