"""Indexes: vectors that can be added, replaced, deleted and searched, in a folder or on a server.

One class, :class:`Index`, checks and converts; behind it stands a :class:`Store`, one file each: a folder searched by
FAISS, PostgreSQL with pgvector, Milvus. :func:`open_index` chooses by URL.
"""

from .base import Index
from .opening import open_index
from .reranking import KReciprocal, PairModel, QueryExpansion, Rerank
from .servers import redacted

__all__ = ["Index", "KReciprocal", "PairModel", "QueryExpansion", "Rerank", "open_index", "redacted"]
