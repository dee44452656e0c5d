"""kyori evaluate by protocol: what it prints, saves and refuses."""

import json

import numpy as np
import pytest

from kyori.cli.main import run
from kyori.evaluation import all_pairs, evaluate, open_set, pool_templates
from kyori.vectors import VectorTable


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(8, 6))

    def table(name, n, classes):
        labels = np.arange(n) % classes
        vectors = centres[labels] + 0.4 * generator.normal(size=(n, 6))
        columns = {"person": np.array([f"t{i % 24}" for i in range(n)]), "video": np.arange(n) % 48}
        made = VectorTable(
            ids=[f"{name}/{i}" for i in range(n)],
            vectors=vectors,
            labels=[f"c{c}" for c in labels],
            columns=columns,
        )
        made.save(folder / f"{name}.parquet")
        return made

    tables = {name: table(name, n, classes) for name, n, classes in (("test", 96, 8), ("train", 60, 4))}
    pairs = generator.integers(96, size=(200, 2))
    same = tables["test"].labels[pairs[:, 0]] == tables["test"].labels[pairs[:, 1]]
    lines = [f"test/{a},test/{b},{int(s)}" for (a, b), s in zip(pairs, same, strict=True)]
    (folder / "pairs.csv").write_text("a,b,same\n" + "\n".join(lines))
    return folder, tables


def answer(capsys, *words) -> dict:
    assert run(["evaluate", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def values(document):
    return {result["measure"]: result["value"] for result in document["results"]}


def test_measures_groups_leaks_and_files(place, capsys):
    folder, tables = place
    words = ["--measures", "recall@1,b-cubed", "--per", "class", "--leaks", folder / "train.parquet"]
    words += ["--memory", "64", "--per-query", folder / "q.parquet", "--out", folder / "out.json"]
    found = answer(capsys, folder / "test.parquet", *words)
    expected = evaluate(tables["test"], measures=["recall@1", "b-cubed"])
    assert values(found) == {name: result.value for name, result in expected.items()}
    assert {row["group"] for row in found["groups"]} == {f"c{i}" for i in range(8)}
    assert found["leaks"]["classes"] == ["c0", "c1", "c2", "c3"]
    assert json.loads((folder / "out.json").read_text()) == found
    assert (folder / "q.parquet").exists()
    assert run(["evaluate", str(folder / "test.parquet"), *map(str, words[:6])]) == 0
    shown = capsys.readouterr().out
    assert "4 classes are in training and test: c0, c1, c2, c3" in shown
    assert "group" in shown


def test_each_protocol_gives_what_the_function_gives(place, capsys):
    folder, tables = place
    test = folder / "test.parquet"
    lfw = answer(capsys, test, "--protocol", "lfw", "--pairs", folder / "pairs.csv")
    assert len(lfw["results"][0]["protocol"]["accuracies"]) == 10
    listed = answer(
        capsys, test, "--protocol", "pairs", "--pairs", folder / "pairs.csv", "--threshold", "1.5"
    )
    assert "accuracy@1.5" in values(listed)
    every = answer(capsys, test, "--all-pairs", "--far", "1e-2")
    assert values(every) == {n: r.value for n, r in all_pairs(tables["test"], far=[1e-2]).items()}
    known = answer(capsys, test, "--open-set", "--gallery", folder / "train.parquet", "--far", "0.1")
    assert values(known) == {
        n: r.value for n, r in open_set(tables["test"], tables["train"], fpir=[0.1]).items()
    }
    pooled = answer(capsys, test, "--templates", "person", "--media", "video", "--measures", "recall@1")
    expected = evaluate(pool_templates(tables["test"], "person", "video"), measures=["recall@1"])
    assert values(pooled) == {"recall@1": expected["recall@1"].value}
    against = answer(
        capsys, folder, "--query", test, "--gallery", folder / "train.parquet", "--measures", "map@r"
    )
    assert against["provenance"]["gallery"] == 60


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--protocol", "lfw"], "--protocol and --pairs belong together"),
        (["--all-pairs", "--open-set"], "--all-pairs and --open-set are different protocols"),
        (["--open-set"], "--open-set needs the enrolled items"),
        (["--all-pairs", "--per", "class"], "--per has no use with --all-pairs"),
        (["--media", "video"], "--media is for --templates"),
        (["--seen"], "--seen is for --leaks"),
        (["--per", "persn"], "did you mean 'person'"),
        (["--templates", "persn"], "did you mean 'person'"),
        (["--far", "small"], "--far must be numbers with commas"),
        (["--measures", "recal@1"], "did you mean 'recall@1'"),
        (["--leaks", "train"], "give DATA"),
    ],
)
def test_a_mistake_is_one_line(place, capsys, words, message):
    folder, _ = place
    assert run(["evaluate", str(folder / "test.parquet"), *words]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
