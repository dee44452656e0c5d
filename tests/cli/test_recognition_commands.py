"""`kyori calibrate`, `verify`, `identify`, `search` and enrolling, as a user types them."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import kyori
from kyori.cli.blocks import blocks
from kyori.cli.main import run
from kyori.recognition import PairwiseReranker


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A small run on digits with an index of all of them, and some as picture files."""
    root = tmp_path_factory.mktemp("recognise")
    folder = root / "run"
    kyori.fit("digits", loss="triplet", epochs=2, seed=0, out=folder, report=None)
    assert run(["index", str(folder), "digits"]) == 0
    source = kyori.open_source("digits")
    for i in range(12):
        Image.fromarray(source.load([i])[0][:, :, 0]).save(root / f"{i}.png")
    return folder, root


@pytest.fixture(scope="module")
def calibrated(digits, tmp_path_factory):
    """The same, calibrated for pairs and for the gallery; not to be changed."""
    folder = tmp_path_factory.mktemp("calibrated") / "run"
    shutil.copytree(digits[0], folder)
    options = ["--far", "0.01", "--fpir", "0.05", "--limit", "20000", "--rerank"]
    assert run(["calibrate", str(folder), "digits", *options]) == 0
    return folder, digits[1]


@pytest.fixture
def copied(calibrated, tmp_path):
    """A copy to change, with an index of its own."""
    shutil.copytree(calibrated[0], tmp_path / "run")
    (tmp_path / "run" / "index.json").unlink()
    assert run(["index", str(tmp_path / "run"), "digits", "--overwrite"]) == 0
    return tmp_path / "run", calibrated[1]


def answer(capsys, *arguments):
    """Run a command with --json and return what it printed."""
    capsys.readouterr()
    assert run([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_calibrate_keeps_the_threshold_and_shows_the_curve(digits, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(digits[0], folder)
    page = tmp_path / "curve.html"
    command = ["calibrate", folder, "digits", "--far", "0.01", "--limit", "20000", "--html", page]
    found = answer(capsys, *command)["verification"]
    assert found["threshold_low"] <= found["threshold"] <= found["threshold_high"]
    assert found["far"]["value"] <= 0.01
    assert found["data"]["pairs"] <= 20000 < found["data"]["of_pairs"]
    kept = json.loads((folder / "calibration.json").read_text())
    assert kept["verification"]["threshold"] == found["threshold"]
    assert "<svg" in page.read_text()
    capsys.readouterr()
    assert run(["calibrate", str(folder), "digits", "--precision", "0.9", "--limit", "20000"]) == 0
    out = capsys.readouterr().out
    assert "for precision 0.9" in out
    assert out.count("│") >= 8  # the curve at round rates
    assert (
        json.loads((folder / "calibration.json").read_text())["verification"]["target"]["name"] == "precision"
    )


def test_calibrate_from_a_pairs_file_checks_what_was_trained_on(digits, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(digits[0], folder)
    source = kyori.open_source("digits")
    test = np.flatnonzero(np.isin(source.ids, kyori.VectorTable.load(folder / "vectors.parquet").ids))
    rng = np.random.default_rng(0)

    def write(rows, name):
        lines = [
            f"{source.ids[a]},{source.ids[b]},{int(source.labels[a] == source.labels[b])}" for a, b in rows
        ]
        (tmp_path / name).write_text("a,b,same\n" + "\n".join(lines) + "\n")
        return tmp_path / name

    unseen = write(rng.choice(test, (400, 2)), "unseen.csv")
    found = answer(capsys, "calibrate", folder, unseen, "--far", "0.05", "--data", "digits")["verification"]
    assert found["data"]["pairs"] == 400
    by_index = answer(capsys, "calibrate", folder, unseen, "--far", "0.05")["verification"]
    assert by_index["threshold"] == pytest.approx(found["threshold"], rel=1e-5)
    seen = write(rng.choice(len(source), (400, 2)), "seen.csv")
    assert run(["calibrate", str(folder), str(seen), "--far", "0.05", "--data", "digits"]) == 2
    assert "the run was trained on" in capsys.readouterr().err
    assert run(["calibrate", str(folder), str(seen), "--far", "0.05", "--data", "digits", "--trained"]) == 0
    assert run(["calibrate", str(folder), "digits", "--far", "0.05", "--part", "train"]) == 2
    assert "choose --part test" in capsys.readouterr().err


def test_verify_answers_and_can_be_scripted(calibrated, tmp_path, capsys):
    folder, root = calibrated
    found = answer(capsys, "verify", folder, root / "3.png", root / "3.png")
    assert (found["same"], found["distance"]) == (True, pytest.approx(0.0, abs=1e-5))
    assert found["far_low"] <= found["far"] <= found["far_high"]
    assert answer(capsys, "verify", folder, root / "3.png", "3")["distance"] == pytest.approx(0.0, abs=1e-5)
    assert run(["verify", str(folder), str(root / "1.png"), str(root / "0.png"), "--exit-code"]) == 1
    assert "different   distance" in capsys.readouterr().out
    assert run(["verify", str(folder), "7", "7", "--exit-code"]) == 0
    np.save(tmp_path / "v.npy", np.zeros(64, np.float32))
    assert run(["verify", str(folder), str(tmp_path / "v.npy"), "7"]) == 0


@pytest.mark.parametrize("kind", ["vector", "array", "set", "image"])
def test_an_item_in_an_array_is_asked_for_as_a_picture_is(kind, tmp_path, capsys):
    """For models of rows, arrays and sets there are no pictures to ask with; an embedding is one, too."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    shape = {"vector": (5,), "array": (3, 2), "set": (4, 2), "image": (8, 8)}[kind]
    items = rng.normal(0, 1, (60, *shape)).astype(np.float32) + labels.reshape(-1, *[1] * len(shape))
    if kind == "image":
        items = rng.integers(0, 255, (60, *shape)).astype(np.uint8)
    offsets = {"offsets": np.arange(61) * 4} if kind == "set" else {}
    np.savez(tmp_path / "data.npz", X=items.reshape(-1, 2) if kind == "set" else items, y=labels, **offsets)
    folder, data = tmp_path / "run", str(tmp_path / "data.npz")
    known = {"items": kind} if kind in ("array", "set") else {}
    options = {"backbone": "mlp", "embedding_size": 5, "epochs": 1, "report": None, **known}
    embedder = kyori.fit(data, loss="triplet", out=folder, **options).embedder
    assert run(["index", str(folder), data]) == 0
    np.save(tmp_path / "item.npy", items[7])
    np.save(tmp_path / "vector.npy", embedder.encode([items[7]])[0])
    found = answer(capsys, "search", folder, tmp_path / "item.npy", "-k", 1)["matches"][0]
    assert (found["id"], found["distance"]) == (7, pytest.approx(0.0, abs=1e-3))
    asked = answer(capsys, "search", folder, tmp_path / "vector.npy", "-k", 1, "--as", "vector")
    assert asked["matches"][0]["id"] == 7
    assert answer(
        capsys, "search", folder, tmp_path / "item.npy", "--as", "item", "--html", tmp_path / "p.html"
    )
    assert (tmp_path / "p.html").exists()


def test_verify_many_writes_csv_and_counts_errors(calibrated, tmp_path, capsys):
    folder, root = calibrated
    pairs = root / "pairs.csv"
    pairs.write_text("a,b,same\n0.png,10.png,1\n0.png,1.png,0\n2,3,0\n")
    capsys.readouterr()
    assert run(["verify", str(folder), "--pairs", str(pairs)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "a,b,same,distance,probability,threshold,far,expected"
    assert len(lines) == 4
    assert "held against the file: FAR 0" in err
    written = tmp_path / "out.csv"
    found = answer(capsys, "verify", folder, "--pairs", pairs, "--out", written)
    assert found["pairs"] == 3
    assert found["far"]["value"] == 0.0
    assert written.read_text() == out


def test_identify_knows_whom_it_knows(copied, capsys):
    folder, root = copied
    found = answer(capsys, "identify", folder, root / "4.png", root / "5.png", "-k", "3")["answers"]
    assert [one["identity"] for one in found] == ["4", "5"]
    assert len(found[0]["candidates"]) == 3
    assert found[0]["target"] == "fpir=0.05"
    assert run(["index", str(folder), "--remove-identity", "4"]) == 0
    (gone,) = answer(capsys, "identify", folder, root / "4.png")["answers"]
    assert gone["identity"] != "4"
    assert answer(capsys, "index", folder, "--enroll", "kururu", root / "4.png")["added"] == 1
    (back,) = answer(capsys, "identify", folder, root / "4.png")["answers"]
    assert (back["identity"], back["candidates"][0]["nearest"]) == ("kururu", 1797)
    assert answer(capsys, "index", folder, "--remove", "1797")["removed"] == 1
    strict = answer(capsys, "identify", folder, root / "4.png", "--threshold", "1e-6")["answers"][0]
    assert strict["identity"] is None
    assert run(["identify", str(folder), str(root / "4.png"), "--threshold", "1e-6", "--exit-code"]) == 1
    assert ": unknown   distance" in capsys.readouterr().out


def test_identify_in_boxes_and_by_a_detector(calibrated, tmp_path, capsys, monkeypatch):
    folder, root = calibrated
    scene = np.zeros((40, 40), np.uint8)
    for item, x in ((6, 2), (9, 25)):
        scene[10:18, x : x + 8] = np.asarray(Image.open(root / f"{item}.png"))
    Image.fromarray(scene).save(tmp_path / "scene.png")
    (tmp_path / "boxes.csv").write_text(
        "path,x,y,w,h,score\nscene.png,2,10,8,8,0.9\nscene.png,25,10,8,8,0.8\n"
    )
    found = answer(capsys, "identify", folder, "--boxes", tmp_path / "boxes.csv")["answers"]
    assert [(one["identity"], one["score"]) for one in found] == [("6", "0.9"), ("9", "0.8")]
    (tmp_path / "eyes.py").write_text("def look(picture):\n    return [(2, 10, 10, 18), (25, 10, 33, 18)]\n")
    monkeypatch.chdir(tmp_path)
    found = answer(capsys, "identify", folder, "scene.png", "--detector", "eyes:look")["answers"]
    assert [one["identity"] for one in found] == ["6", "9"]


def test_search_shows_probabilities_pictures_and_reranks(calibrated, tmp_path, capsys, monkeypatch):
    folder, root = calibrated
    for way in ("pairwise", "expansion", "reciprocal"):
        found = answer(capsys, "search", folder, root / "5.png", "-k", "4", "--rerank", way)
        assert len(found["matches"]) == 4
        assert {match["probability"] for match in found["matches"]} == {None}
    found = answer(capsys, "search", folder, "5", "-k", "4")
    assert all(0 < match["probability"] < 1 for match in found["matches"])
    monkeypatch.setenv("COLUMNS", "120")
    assert run(["search", str(folder), "5", "-k", "2", "--pictures"]) == 0
    assert "▀" in capsys.readouterr().out
    assert run(["search", str(folder), "5", "-k", "2"]) == 0  # no terminal: no pictures
    assert "▀" not in capsys.readouterr().out
    page = tmp_path / "found.html"
    assert run(["search", str(folder), str(root / "5.png"), "--html", str(page)]) == 0
    assert page.read_text().count("<img") == 11


def test_evaluate_says_what_reranking_gains(calibrated, capsys):
    folder, _ = calibrated
    command = [
        "evaluate",
        folder,
        "digits",
        "--measures",
        "recall@1",
        "--rerank",
        "expansion",
        "--rerank",
        "pairwise",
    ]
    rows = answer(capsys, *command)["reranking"]
    assert {(row["rerank"], row["measure"]) for row in rows} == {
        (way, measure) for way in ("none", "expansion", "pairwise") for measure in ("recall@1", "map@r")
    }
    assert all(row["low"] <= row["gain"] <= row["high"] and row["milliseconds"] > 0 for row in rows)
    assert run([str(part) for part in command]) == 0
    out, err = capsys.readouterr()
    assert "pairwise    map@r" in out
    assert "trained on these very items" in err  # calibrated with the same test part
    assert run(["evaluate", str(folder), "digits", "--rerank", "expansion", "--metric", "manhattan"]) == 2
    assert "--rerank is for euclidean and cosine" in capsys.readouterr().err


def test_pictures_as_characters_keep_their_colours():
    picture = Image.new("RGB", (8, 8), (200, 10, 10))
    picture.paste((10, 10, 200), (0, 4, 8, 8))
    text = blocks(picture, 4)
    assert text.plain == "▀▀▀▀\n▀▀▀▀"
    assert "rgb(200,10,10)" in str(text.spans[0].style)
    assert (
        blocks(np.array([0.0, 1.0, 2.0])).plain == "▁▄█" or blocks(np.array([0.0, 1.0, 2.0])).plain[0] == "▁"
    )
    assert blocks("a text").plain == "a text"
    assert blocks(None).plain == ""


def test_mistakes_are_one_line(digits, calibrated, tmp_path, capsys):
    bare = digits[0]
    folder, _ = calibrated
    (tmp_path / "no.png").write_text("no picture")
    (tmp_path / "two.npy").write_bytes(b"")
    np.save(tmp_path / "wrong.npy", np.zeros((2, 3, 4, 5)))
    np.save(tmp_path / "number.npy", np.array(3.0))
    np.save(tmp_path / "cube.npy", np.zeros((2, 3)))
    (tmp_path / "pairs.csv").write_text("0.png,nowhere.png,1\n")
    for arguments, message in [
        (["calibrate", bare, "digits"], "say what to reach: --far"),
        (["calibrate", bare, "digits", "--far", "1e-3", "--precision", "0.9"], "one of --far, --precision"),
        (["calibrate", bare, "digits", "--far", "2"], "far must lie between 0 and 1"),
        (["calibrate", bare, "nowhere", "--far", "0.1"], "nowhere"),
        (["calibrate", "nowhere", "digits", "--far", "0.1"], "not a run folder"),
        (["calibrate", bare, tmp_path / "pairs.csv", "--fpir", "0.1"], "need labelled DATA"),
        (
            ["calibrate", bare, tmp_path / "pairs.csv", "--far", "0.1"],
            "is neither a file beside the pairs file nor",
        ),
        (["calibrate", bare, "digits", "--far", "0.1", "--metric", "cosine"], "measures euclidean distances"),
        (
            ["calibrate", bare, "digits", "--far", "0.1", "--html", tmp_path / "no" / "p.html"],
            "folder that is there",
        ),
        (
            ["verify", bare, "1", "2"],
            "not calibrated for verification; find the threshold with: kyori calibrate",
        ),
        (["verify", folder, "1"], "give A and B"),
        (["verify", folder], "give A and B"),
        (["verify", folder, "1", "2", "--out", "x"], "belong to --pairs"),
        (["verify", folder, "1", tmp_path / "no.png"], "not a picture"),
        (["verify", folder, "1", tmp_path / "wrong.npy"], "wrong.npy: item 0 must be"),
        (["verify", folder, "1", tmp_path / "number.npy"], "one array of numbers"),
        (["search", folder, tmp_path / "cube.npy", "--as", "vector"], "one vector (d,)"),
        (["search", folder, "1", "--as", "vector"], "needs a .npy file"),
        (["verify", folder, "1", tmp_path / "two.npy"], "no NumPy array"),
        (["verify", folder, "1", "nowhere.png"], "'nowhere.png' is neither"),
        (["identify", bare, "1"], "not calibrated for identification"),
        (["identify", folder, "1", "--pooling", "mean"], "calibrated for the pooling nearest"),
        (["identify", folder, tmp_path / "no.png"], "not a picture"),
        (["identify", folder, "x.png", "--detector", "nothing"], "package.module:function"),
        (["identify", folder, "x.png", "--detector", "no_such_module:f"], "cannot be imported"),
        (["identify", folder, tmp_path / "none.csv", "--boxes"], "none.csv"),
        (["search", bare, "1", "--rerank", "pairwise"], "no pairwise re-ranker"),
        (["search", folder, "an owl", "--as", "text"], "takes images, no texts"),
        (["search", folder, tmp_path / "no.png"], "not a picture"),
        (["index", bare], "give the DATA to index"),
        (["index", bare, "--remove", "99999"], "ids of the index"),
        (["index", bare, "--enroll", "x"], "needs the items"),
        (["index", bare, "--enroll", "x", "nowhere.png"], "takes files"),
    ]:
        capsys.readouterr()
        before = sorted(path.name for path in folder.iterdir())
        assert run([str(argument) for argument in arguments]) == 2, arguments
        err = capsys.readouterr().err
        assert message in err, (arguments, err)
        assert "Traceback" not in err
        assert sorted(path.name for path in folder.iterdir()) == before


def test_the_reranker_of_the_run_is_a_file_of_its_own(calibrated):
    model = PairwiseReranker.load(calibrated[0] / PairwiseReranker.FILE)
    assert model.facts["items"] == 359
