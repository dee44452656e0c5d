"""The bodies of requests and answers, as pydantic models: what they allow is what the API page shows."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    WithJsonSchema,
)

__all__ = [
    "Answer",
    "ByEmbedding",
    "ById",
    "Deletion",
    "Embed",
    "Failure",
    "Features",
    "Identify",
    "Insertion",
    "Picture",
    "Search",
    "Text",
    "Verify",
]


class _Strict(BaseModel):
    """A number in quotes is no number, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _from_base64(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64 without line breaks") from None


#: Squares of such numbers stay finite in float32; NaN and the infinities are not among them.
Number = Annotated[float, Field(ge=-1e18, le=1e18)]
Line = Annotated[str, StringConstraints(max_length=512, pattern=r"^[^\x00]*$")]
Identifier = Annotated[int, Field(ge=-(2**63), lt=2**63)] | Annotated[Line, Field(min_length=1)]
Scalar = bool | Annotated[int, Field(ge=-(2**63), lt=2**63)] | Number | Line
Base64 = Annotated[
    bytes, BeforeValidator(_from_base64), WithJsonSchema({"type": "string", "contentEncoding": "base64"})
]
Vector = Annotated[list[Number], Field(min_length=1, max_length=1_000_000, fail_fast=True)]


class Picture(_Strict):
    """A picture file: JPEG, PNG, WebP or BMP in base64."""

    image: Base64


class Features(_Strict):
    """The numbers that a model of vectors takes."""

    features: Vector


class Text(_Strict):
    """A text, for a model of texts."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=100_000)]


class ById(_Strict):
    """An item of the index."""

    id: Identifier


class ByEmbedding(_Strict):
    """A vector that this model has made already."""

    embedding: Vector


_KINDS = ("image", "features", "text", "embedding", "id")


def _kind(value: Any) -> str | None:
    keys = value if isinstance(value, dict) else getattr(type(value), "model_fields", {})
    return next((kind for kind in _KINDS if kind in keys), None)


def _one_of(*kinds: str) -> Discriminator:
    return Discriminator(
        _kind,
        custom_error_type="kind",
        custom_error_message=f"must be an object with one of {', '.join(kinds)}",
    )


Item = Annotated[
    Annotated[Picture, Tag("image")] | Annotated[Features, Tag("features")] | Annotated[Text, Tag("text")],
    _one_of("image", "features", "text"),
]
Subject = Annotated[
    Annotated[Picture, Tag("image")]
    | Annotated[Features, Tag("features")]
    | Annotated[Text, Tag("text")]
    | Annotated[ByEmbedding, Tag("embedding")]
    | Annotated[ById, Tag("id")],
    _one_of(*_KINDS),
]
Enrolled = Annotated[
    Annotated[Picture, Tag("image")]
    | Annotated[Features, Tag("features")]
    | Annotated[Text, Tag("text")]
    | Annotated[ByEmbedding, Tag("embedding")],
    _one_of("image", "features", "text", "embedding"),
]
Operator = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in"]
# A list is read up to its first mistake: a million mistakes of a client must not become a million of ours.
Scalars = Annotated[list[Scalar], Field(fail_fast=True)]
Operators = Annotated[dict[Operator, Scalar | Scalars], Field(min_length=1)]
Condition = Scalar | Scalars | Operators
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Embed(_Strict):
    """Items whose vectors are wanted."""

    items: list[Item] = Field(min_length=1, fail_fast=True)


class Search(_Strict):
    """Queries, and what is wanted of their neighbours."""

    items: list[Subject] = Field(min_length=1, fail_fast=True)
    k: Count = 10
    where: dict[Line, Condition] | None = Field(
        default=None,
        description='By column: a value, a list of values, or operators: {"label": ["cat", "dog"], "price": {"<": 3}}.',
    )
    rerank: Literal["expansion", "reciprocal"] | None = None


class Pair(_Strict):
    """Two items."""

    a: Subject
    b: Subject


class Verify(_Strict):
    """Pairs: is it the same?"""

    pairs: list[Pair] = Field(min_length=1, fail_fast=True)


class Identify(_Strict):
    """Items: who is it?"""

    items: list[Subject] = Field(min_length=1, fail_fast=True)
    k: Count = 5
    pooling: Literal["nearest", "mean"] | None = None
    threshold: Annotated[float, Field(gt=0, le=1e18)] | None = None


class NewItem(_Strict):
    """An item for the index."""

    id: Identifier
    item: Enrolled
    label: Identifier | None = None
    columns: dict[Line, Scalar] = Field(default_factory=dict)


class Insertion(_Strict):
    """Items to add, or to put in the place of those with the same ids; all of them or none."""

    items: list[NewItem] = Field(min_length=1, fail_fast=True)


class Deletion(_Strict):
    """Ids of items to remove."""

    ids: list[Identifier] = Field(min_length=1, fail_fast=True)


class Complaint(BaseModel):
    """What was wrong."""

    message: str


class Failure(BaseModel):
    """An error."""

    error: Complaint


class Vectors(BaseModel):
    """A vector for each item."""

    vectors: list[list[float]]


class Hit(BaseModel):
    """An item that was found."""

    id: int | str
    label: int | str | None
    distance: float
    probability: float | None


class Matches(BaseModel):
    """The nearest items of each query, nearest first."""

    metric: str
    matches: list[list[Hit]]


class Verdict(BaseModel):
    """The same or not, and by which threshold."""

    same: bool
    distance: float
    probability: float
    threshold: float
    far: float
    far_low: float
    far_high: float
    target: str


class Verdicts(BaseModel):
    """A verdict for each pair."""

    verdicts: list[Verdict]


class Candidate(BaseModel):
    """A possible identity."""

    identity: int | str
    distance: float
    probability: float | None
    nearest: int | str | None


class Identity(BaseModel):
    """Who it is; null where nobody known is near enough."""

    identity: int | str | None
    known: bool
    distance: float | None
    probability: float | None
    threshold: float
    target: str
    candidates: list[Candidate]


class Identities(BaseModel):
    """An identity for each item."""

    identities: list[Identity]


class StoredItem(BaseModel):
    """An item of the index."""

    id: int | str
    label: int | str | None
    columns: dict[str, Any]


class StoredItems(BaseModel):
    """Items in the order of the ids asked for."""

    items: list[StoredItem]


class Written(BaseModel):
    """How many items were written or removed, and how many there are now."""

    changed: int
    total: int


class Reloaded(BaseModel):
    """The model now in use."""

    model: str


class Health(BaseModel):
    """Whether requests are taken."""

    status: Literal["ok", "stopping"]


class About(BaseModel):
    """What this server knows and allows."""

    kyori: str
    model: str
    takes: str
    shape: list[int]
    dimensions: int
    metric: str
    writable: bool
    items: int | None
    columns: dict[str, str]
    verification: dict[str, Any] | None
    identification: dict[str, Any] | None
    limits: dict[str, float]


Answer = Vectors | Matches | Verdicts | Identities | StoredItems | Written | Reloaded | Health | About
