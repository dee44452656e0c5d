"""Small scenes: handwritten digits by their pixels, and made-up items of the other kinds."""

from typing import Any

import numpy as np
from starlette.testclient import TestClient

import kyori
from kyori.exploring import Desk, Layouts, Looks, Scene, create_app


def digits(n: int = 300) -> tuple[kyori.VectorTable, kyori.Source]:
    source = kyori.open_source("digits").take(range(n))
    vectors = source.load(range(n)).reshape(n, -1).astype(np.float32)
    columns = {
        "ink": np.where(np.arange(n) == 5, np.nan, vectors.sum(axis=1)),
        "half": np.arange(n) % 2 == 0,
        "number": np.arange(n),
    }
    table = kyori.VectorTable(source.ids, vectors, source.labels, columns, source.class_names)
    return table, source


def scene(table: kyori.VectorTable, source: kyori.Source | None = None, name: str = "a <b> & c") -> Scene:
    return Scene(table, Looks(table, source), name)


def desk(made: Scene, **options: Any) -> Desk:
    return Desk(made, Layouts(made.table.vectors, "pca"), **options)


def client(made: Scene, lang: str = "en", **options: Any) -> TestClient:
    return TestClient(create_app(desk(made, **options), lang=lang), base_url="http://localhost")
