"""`kyori index` and `kyori search`, as a user types them."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from kyori.cli.main import run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small finished run on pictures of two classes, with hostile names."""
    root = tmp_path_factory.mktemp("index-cli")
    rng = np.random.default_rng(0)
    for name, level in (("ca[b]ts & <i>", 60), ("鳥", 190)):
        (root / "photos" / name).mkdir(parents=True)
        for i in range(30):
            pixels = rng.normal(level, 20, (12, 12, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "photos" / name / f"{i}.png")
    folder = root / "run"
    options = ["--epochs", "1", "--seed", "0", "--backbone", "mlp"]
    assert run(["train", str(root / "photos"), "--loss", "triplet", *options, "--out", str(folder)]) == 0
    return folder, root / "photos"


@pytest.fixture
def indexed(trained, tmp_path):
    folder, photos = trained
    shutil.copytree(folder, tmp_path / "run")
    assert run(["index", str(tmp_path / "run"), str(photos)]) == 0
    return tmp_path / "run", photos


def test_search_by_picture_and_by_id(indexed, capsys):
    folder, photos = indexed
    capsys.readouterr()
    picture = photos / "鳥" / "3.png"
    assert run(["search", str(folder), str(picture), "-k", "4", "--json"]) == 0
    matches = json.loads(capsys.readouterr().out)["matches"]
    assert [match["rank"] for match in matches] == [1, 2, 3, 4]
    assert (matches[0]["id"], matches[0]["label"]) == ("鳥/3.png", "鳥")
    assert matches[0]["distance"] < 1e-3
    assert run(["search", str(folder), "鳥/3.png", "-k", "3"]) == 0
    out = capsys.readouterr().out
    assert "鳥/3.png" not in out  # the item itself is no answer
    assert out.count("鳥/") + out.count("ca[b]ts") >= 3
    assert run(["search", str(folder), "鳥/3.png", "--label", "ca[b]ts & <i>", "-k", "2", "--json"]) == 0
    matches = json.loads(capsys.readouterr().out)["matches"]
    assert {match["label"] for match in matches} == {"ca[b]ts & <i>"}


def test_search_by_vector_and_with_reranking(indexed, tmp_path, capsys):
    folder, _ = indexed
    np.save(tmp_path / "q.npy", np.zeros(64, np.float32))
    for extra in ([], ["--rerank", "expansion"], ["--rerank", "reciprocal"]):
        capsys.readouterr()
        assert run(["search", str(folder), str(tmp_path / "q.npy"), "--json", *extra]) == 0
        assert len(json.loads(capsys.readouterr().out)["matches"]) == 10


def test_a_page_shows_the_pictures(indexed, tmp_path):
    folder, photos = indexed
    page = tmp_path / "found.html"
    assert run(["search", str(folder), str(photos / "鳥" / "3.png"), "-k", "5", "--html", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.count("<img") == 6
    assert "ca[b]ts & <i>" not in text  # escaped where it stands at all


def test_indexing_again_replaces_and_another_model_is_refused(indexed, capsys):
    folder, photos = indexed
    capsys.readouterr()
    assert run(["index", str(folder), str(photos), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["vectors"] == 60
    assert facts["recall_at_10"] == 1.0
    model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    note = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    assert note["model"] == model["weights"]["crc32"]
    note["model"] = 1
    (folder / "index.json").write_text(json.dumps(note))
    assert run(["index", str(folder), str(photos)]) == 2
    assert "present model did not make; replace them with --overwrite" in capsys.readouterr().err
    assert run(["index", str(folder), str(photos), "--overwrite"]) == 0


def test_an_index_moves_without_the_model(indexed, tmp_path, capsys):
    folder, photos = indexed
    place = str(tmp_path / "elsewhere")
    for arguments, code in (([], 0), ([], 2), (["--url", str(folder / "index"), "--overwrite"], 2)):
        capsys.readouterr()
        assert run(["index", str(folder), "--copy-to", place, "--json", *arguments]) == code, arguments
        if code == 0:
            facts = json.loads(capsys.readouterr().out)
            assert (facts["url"], facts["vectors"], facts["recall_at_10"]) == (place, 60, 1.0)
    shutil.rmtree(folder / "index")
    assert run(["search", str(folder), "鳥/3.png", "-k", "3"]) == 0
    assert run(["index", str(folder), str(photos), "--url", place]) == 0  # still this model's
    assert run(["index", str(folder), "--copy-to", place]) == 2
    assert "another place" in capsys.readouterr().err


def test_mistakes_are_one_line(trained, indexed, tmp_path, capsys):
    bare, photos = trained
    folder, _ = indexed
    (tmp_path / "bad.npy").write_bytes(b"nothing")
    for arguments, message in [
        (["search", str(bare), str(photos / "鳥" / "3.png")], "has no index yet; make one with: kyori index"),
        (["search", str(folder), "nowhere.png"], "'nowhere.png' is neither"),
        (["search", str(folder), str(tmp_path / "bad.npy")], "is no NumPy array"),
        (["search", str(folder), "鳥/3.png", "--url", str(tmp_path / "none")], "holds no index"),
        (["search", "nowhere", "x.png"], "is not a run folder"),
        (["index", "nowhere", "digits"], "not a run folder"),
        (["index", str(bare), str(photos), "--factory", "Flatt"], "FAISS makes no index 'Flatt'"),
        (["index", str(bare), str(photos), "--url", "redis://x"], "begins with one of"),
    ]:
        capsys.readouterr()
        assert run(arguments) == 2, arguments
        err = capsys.readouterr().err
        assert message in err, err
        assert "Traceback" not in err
