"""The recogniser: what it answers, and what it says when it cannot."""

import json
import threading

import numpy as np
import pytest

import kyori
from kyori.errors import ArgumentError, DataError, FileFormatError
from kyori.evaluation import calibrate
from kyori.index import QueryExpansion
from kyori.recognition import GalleryCalibration, Recogniser, RunCalibration

POINTS = np.array([[0, 0], [0, 1], [10, 0], [10, 1], [0, 30]], np.float32)
NAMES = ["ann", "ann", "bob", "bob", "eve"]


def calibration(**changes):
    """Thresholds that are known: same below 2, identities below 3."""
    pairs = calibrate([0.5, 1.0, 1.5, 1.9, 2.0, 9.0], [1, 1, 1, 0, 0, 0], far=0.4, metric="euclidean")
    gallery = calibrate([0.5, 1.0, 2.0, 2.5, 3.0, 9.0], [1, 1, 1, 0, 0, 0], far=0.4, metric="euclidean")
    made = {"verification": pairs, "identification": GalleryCalibration(gallery, "nearest", 3, 5, 1.0)}
    return RunCalibration("model", "euclidean", **{**made, **changes})


@pytest.fixture
def recogniser(encoder, tmp_path):
    with kyori.open_index(tmp_path / "i") as index:
        index.add(["a1", "a2", "b1", "b2", "e1"], POINTS, labels=NAMES)
        yield Recogniser(encoder, index, calibration())


def test_search_gives_labels_distances_and_probabilities(recogniser):
    (hits,) = recogniser.search([[0, 0.2]], k=3)
    assert [(hit.id, hit.label) for hit in hits] == [("a1", "ann"), ("a2", "ann"), ("b1", "bob")]
    assert [hit.distance for hit in hits] == pytest.approx([0.2, 0.8, np.hypot(10, 0.2)])
    assert hits[0].probability > 0.5 > hits[2].probability
    assert json.loads(json.dumps(hits[0].as_dict()))["id"] == "a1"
    assert recogniser.search([[0, 0]], k=50, where={"label": "bob"})[0][0].label == "bob"
    reranked = recogniser.search([[0, 0]], k=2, rerank=QueryExpansion(top=2))[0]
    assert {hit.probability for hit in reranked} == {None}  # another distance than the calibrated one


def test_verify_says_by_which_threshold(recogniser):
    same, different = recogniser.verify([0, 0], [0, 1]), recogniser.verify([0, 0], [10, 0])
    assert (same.same, different.same) == (True, False)
    assert (same.distance, different.distance) == (1.0, 10.0)
    assert (same.threshold, same.far, same.target) == (2.0, pytest.approx(1 / 3), "far=0.4")
    assert same.far_low <= same.far <= same.far_high
    assert same.probability > different.probability
    edge = recogniser.verify_vectors([[0, 0]], [[0, 2.0]])[0]
    assert not edge.same  # the threshold itself is different: accepted is what lies below


def test_identify_names_the_best_or_nobody(recogniser):
    found = recogniser.identify([10.5, 0], k=2)
    assert (found.identity, found.known) == ("bob", True)
    assert [(one.identity, one.nearest) for one in found.candidates] == [("bob", "b1"), ("ann", "a1")]
    nobody = recogniser.identify([5, 0], k=5)
    assert (nobody.identity, nobody.known, nobody.distance) == (None, False, 5.0)
    assert [one.identity for one in nobody.candidates] == ["ann", "bob", "eve"]
    assert (nobody.threshold, nobody.target) == (3.0, "fpir=0.4")
    assert recogniser.identify([5, 0], threshold=6.0).known


def test_pooling_by_the_mean_is_the_nearest_class_mean(recogniser):
    query = np.array([4.0, 0.9], np.float32)
    found = recogniser.identify_vectors([query], k=3, pooling="mean", threshold=100.0)[0]
    names = sorted(set(NAMES))
    means = [POINTS[[name == other for other in NAMES]].mean(axis=0) for name in names]
    true = sorted(
        (float(np.linalg.norm(query - mean)), name) for mean, name in zip(means, names, strict=True)
    )
    assert [one.identity for one in found.candidates] == [name for _, name in true]
    assert [one.distance for one in found.candidates] == pytest.approx([d for d, _ in true], rel=1e-6)
    with pytest.raises(ArgumentError, match="calibrated for the pooling nearest"):
        recogniser.identify(query, pooling="mean")


def test_identities_behind_many_items_of_another_are_found(encoder, tmp_path):
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(0, 0.1, (500, 3)), rng.normal(5, 0.1, (3, 3))]).astype(np.float32)
    labels = ["many"] * 500 + ["few", "two", "one"]
    with kyori.open_index(tmp_path / "i") as index:
        index.add(np.arange(503), X, labels=labels)
        found = Recogniser(encoder, index).identify([0, 0, 0], k=4, threshold=1.0)
    assert found.identity == "many"
    assert {one.identity for one in found.candidates} == {"many", "few", "two", "one"}
    nearest = {one.identity: one for one in found.candidates}
    for name in ("few", "two", "one"):
        assert nearest[name].nearest == labels.index(name)


def test_enrolling_and_removing(recogniser):
    assert not recogniser.identify([50, 50]).known
    recogniser.add([[50, 50], [50, 51]], labels=["kururu"] * 2, ids=["k1", "k2"])
    assert recogniser.identify([50, 50.1]).identity == "kururu"
    assert recogniser.identify([50, 50.1], pooling="mean", threshold=1.0).identity == "kururu"
    assert recogniser.remove("kururu") == 2
    assert recogniser.remove("kururu") == 0
    assert not recogniser.identify([50, 50]).known
    assert recogniser.identify([50, 50], pooling="mean", threshold=1.0).identity is None
    assert recogniser.delete(["a1", "a2", "b1", "b2", "e1"]) == 5
    empty = recogniser.identify([0, 0])
    assert (empty.known, empty.candidates, empty.as_dict()["distance"]) == (False, (), None)


def test_threads_may_read_while_another_writes(recogniser):
    """Nobody sees an error, and each answer is one that was right at some moment."""
    stop, wrong = threading.Event(), []

    def read():
        while not stop.is_set():
            try:
                hits = recogniser.search([[0, 0]], k=8)[0]
                assert hits[0].id == "a1"
                assert recogniser.identify([0, 0], k=4).identity == "ann"
                assert recogniser.identify([0, 0], k=4, pooling="mean", threshold=3.0).identity == "ann"
            except BaseException as error:
                wrong.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for i in range(30):
        recogniser.add([[0.0, 2.0 + i]], labels=[f"new{i % 3}"], ids=[f"n{i % 5}"])
        recogniser.delete([f"n{(i + 2) % 5}"])
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong, wrong[0]


def test_what_is_deleted_between_the_search_and_the_look_at_its_label_is_left_out(recogniser, monkeypatch):
    """However often it happens: what threads do now and then happens here at every search."""
    index, search, turn = recogniser.index, recogniser.index.search, iter(range(10**6))

    def search_and_delete(vectors, k=10, *args, **settings):
        found = search(vectors, k, *args, **settings)
        index.delete([f"n{next(turn)}"])
        return found

    index.add([f"n{i}" for i in range(60)], [[0.0, 0.001 * (i + 1)] for i in range(60)], labels=["new"] * 60)
    monkeypatch.setattr(index, "search", search_and_delete)
    for i in range(0, 20, 2):
        assert [hit.id for hit in recogniser.search([[0, 0]], k=3)[0]] == ["a1", f"n{i + 1}"]
        found = recogniser.identify([0, 0], k=2)
        assert [one.nearest for one in found.candidates] == ["a1", f"n{i + 2}"]
    index.delete(index.ids()[1:])
    monkeypatch.setattr(index, "search", lambda *a, **s: (search(*a, **s), index.delete(["a1"]))[0])
    assert recogniser.search([[0, 0]], k=3) == [[]]
    assert not recogniser.identify([0, 0]).candidates


def test_without_index_or_calibration_it_says_what_to_do(encoder, tmp_path):
    bare = Recogniser(encoder, name="runs/x")
    with pytest.raises(
        ArgumentError, match="runs/x has no index yet; make one with: kyori index runs/x DATA"
    ):
        bare.search([[0.0, 1.0]])
    with pytest.raises(ArgumentError, match=r"not calibrated for verification.*kyori calibrate runs/x"):
        bare.verify([0.0], [1.0])
    with pytest.raises(ArgumentError, match=r"not calibrated for identification.*--fpir"):
        bare.identify([0.0])
    with kyori.open_index(tmp_path / "i") as index:
        index.add([1, 2], [[0.0], [1.0]])
        with pytest.raises(DataError, match="no labels"):
            Recogniser(encoder, index).identify([0.0], threshold=1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.identify([0, 0], k=0), "k must be at least 1"),
        (lambda r: r.identify([0, 0], pooling="median"), "pooling must be"),
        (lambda r: r.identify([0, 0], threshold=-1.0), "threshold must be a distance above 0"),
        (lambda r: r.search([[0, 0, 0]]), r"shape \(q, 2\)"),
        (lambda r: r.verify([0, np.nan], [0, 0]), "finite vectors"),
        (lambda r: r.verify_vectors([[0, 0]], [[0, 0, 0]]), "same shape"),
    ],
)
def test_bad_arguments_are_named(recogniser, call, message):
    with pytest.raises((ArgumentError, DataError), match=message):
        call(recogniser)


def test_a_calibration_of_another_distance_is_refused(encoder, tmp_path):
    with (
        kyori.open_index(tmp_path / "i", metric="cosine") as index,
        pytest.raises(ArgumentError, match="calibrated for euclidean distances"),
    ):
        Recogniser(encoder, index, calibration())


def test_calibrations_come_back_from_the_folder(tmp_path):
    made = calibration()
    made.save(tmp_path)
    back = RunCalibration.load(tmp_path, "model")
    assert back.verification.as_dict() == made.verification.as_dict()
    assert back.identification.as_dict() == made.identification.as_dict()
    assert RunCalibration.load(tmp_path / "none", "model") is None
    with pytest.raises(ArgumentError, match="another model"):
        RunCalibration.load(tmp_path, "other")
    text = (tmp_path / "calibration.json").read_text()
    for damaged in (
        text[:100],
        "[]",
        text.replace('"nearest"', '"some"'),
        text.replace('"euclidean"', '"far"', 1),
    ):
        (tmp_path / "calibration.json").write_text(damaged)
        with pytest.raises(FileFormatError, match="damaged"):
            RunCalibration.load(tmp_path, "model")
    (tmp_path / "calibration.json").write_text(text.replace('"version": 1', '"version": 9', 1))
    with pytest.raises(FileFormatError, match="version 9"):
        RunCalibration.load(tmp_path, "model")


def test_a_run_folder_opens_as_a_whole(run_folder, held_out):
    digits = kyori.open_source("digits")
    with Recogniser.open(run_folder) as recogniser:
        assert (recogniser.takes, recogniser.metric, recogniser.calibration) == ("image", "euclidean", None)
        row = int(np.flatnonzero(digits.ids == held_out.ids[0])[0])
        picture = digits.load([row])[0]
        np.testing.assert_allclose(recogniser.embed([picture])[0], held_out.vectors[0], atol=1e-5)
        rows = np.flatnonzero(np.isin(digits.ids, held_out.ids))[:60]
        hits = recogniser.search(digits.take(rows), k=1)
        right = [
            hit.label == digits.class_names[digits.labels[i]] for i, (hit,) in zip(rows, hits, strict=True)
        ]
        assert np.mean(right) > 0.8
    note = json.loads((run_folder / "index.json").read_text())
    (run_folder / "index.json").write_text(json.dumps({**note, "model": "other"}))
    with pytest.raises(ArgumentError, match="made by another model"):
        Recogniser.open(run_folder)


def test_an_item_that_another_thread_replaces_has_the_label_that_it_was_found_with(recogniser, monkeypatch):
    index, search, others = recogniser.index, recogniser.index.search, []

    def search_beside_a_writer(*given, **settings):
        found = search(*given, **settings)
        others.append(threading.Thread(target=index.upsert, args=(["a1"], [[90, 90]], ["eve"])))
        others[-1].start()
        others[-1].join(0.2)  # it would be done by then, but that it has to wait
        return found

    for ask in (
        lambda: recogniser.search([[0, 0]], k=1)[0][0].label,
        lambda: recogniser.identify([0, 0]).identity,
    ):
        with monkeypatch.context() as patch:
            patch.setattr(index, "search", search_beside_a_writer)
            assert ask() == "ann"
        others[-1].join()
        assert recogniser.identify([90, 90]).identity == "eve"
        index.upsert(["a1"], [[0, 0]], ["ann"])


@pytest.mark.parametrize("clear", [False, True])
def test_everything_may_go_while_identities_are_looked_for(recogniser, monkeypatch, clear):
    index = recogniser.index
    everything = index.get(index.ids())

    def gone(ask):
        """Ask while all items go, at each call after which they could."""
        answers = []
        for name in ("__len__", "ids", "columns"):
            before = getattr(type(index), name)

            def late(self, before=before):
                monkeypatch.undo()
                found = before.fget(self) if isinstance(before, property) else before(self)
                index.clear() if clear else index.delete(everything.ids)
                return found

            monkeypatch.setattr(type(index), name, property(late) if name == "columns" else late)
            recogniser.refresh()
            answers.append(ask())
            monkeypatch.undo()
            index.clear()
            index.add_table(everything)
        return answers

    for pooling in ("nearest", "mean"):
        for found in gone(
            lambda pooling=pooling: recogniser.identify([0, 0], pooling=pooling, threshold=1.0)
        ):
            assert found.identity in (None, "ann")
    assert set(gone(lambda: recogniser.remove("ann"))) <= {0, 2}
