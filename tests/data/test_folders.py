"""Folders of class folders, as people have them: clean, untidy, broken."""

import os

import numpy as np
import pytest

from kyori.data import open_source
from kyori.errors import ArgumentError, DataError, DataWarning, ItemError

from .conftest import picture, save


def test_class_folders(photos):
    source = open_source(photos)
    assert len(source) == 9
    assert source.kind == "image"
    assert source.item_shape == (12, 16, 3)
    assert source.class_names == ("ant", "bee", "cat")
    assert source.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert source.ids.tolist()[:4] == ["ant/0.png", "ant/1.png", "ant/2.png", "bee/0.png"]
    assert source.in_memory
    assert np.array_equal(source.load([4])[0], picture(seed=4))
    assert source.read(4).size == (16, 12)
    assert source.skipped == []


def test_what_does_not_fit_into_memory_streams_the_same_pixels(photos):
    memory, stream = open_source(photos), open_source(photos, memory_limit=0)
    assert not stream.in_memory
    assert stream.fingerprint() == memory.fingerprint()
    assert np.array_equal(stream.load([8, 0, 0]), memory.load([8, 0, 0]))
    assert np.array_equal(stream.take([3, 1]).load([0, 1]), memory.load([3, 1]))


def test_size_and_channels(photos):
    assert open_source(photos, size=8).item_shape == (8, 8, 3)
    assert open_source(photos, size=(6, 7), channels=1).item_shape == (6, 7, 1)


def test_common_size_is_the_median_and_grey_stays_grey(tmp_path):
    for number, (height, width) in enumerate([(10, 20), (12, 22), (300, 24)]):
        save(tmp_path / "d" / "abc"[number % 2] / f"{number}.png", picture(height, width, channels=1))
    with pytest.warns(DataWarning, match="single picture"):
        source = open_source(tmp_path / "d")
    assert source.item_shape == (12, 22, 1)
    save(tmp_path / "d" / "a" / "colour.png", picture(12, 22))
    with pytest.warns(DataWarning, match="single picture"):
        assert open_source(tmp_path / "d").item_shape == (12, 22, 3)


def test_large_pictures_are_capped(tmp_path):
    for name in "ab":
        for number in range(2):
            save(tmp_path / name / f"{number}.jpg", picture(300, 400))
    assert open_source(tmp_path).item_shape == (224, 224, 3)
    assert open_source(tmp_path, size=256).item_shape == (256, 256, 3)


def test_nested_pictures_belong_to_the_top_class(photos):
    save(photos / "ant" / "black" / "deep" / "0.png")
    source = open_source(photos)
    assert source.class_names == ("ant", "bee", "cat")
    assert "ant/black/deep/0.png" in source.ids


@pytest.mark.parametrize(
    "names", [("train", "test"), ("Train", "val", "test"), ("training", "valid", "testing")]
)
def test_split_folders(tmp_path, names):
    for split in names:
        for label in "ab":
            for number in range(2):
                save(tmp_path / split / label / f"{number}.png")
    source = open_source(tmp_path)
    assert source.class_names == ("a", "b")
    assert len(source.part("train")) == len(source.part("test")) == 4
    assert len(source.part("validation")) == 4 * (len(names) == 3)


def test_classes_that_are_named_like_splits(tmp_path):
    """Pictures right inside of train/ and test/: these are classes, as is train/ beside car/."""
    for name in ("train", "test"):
        for number in range(2):
            save(tmp_path / "flat" / name / f"{number}.png")
            save(tmp_path / "mixed" / name / "sub" / f"{number}.png")
            save(tmp_path / "mixed" / "car" / f"{number}.png")
    assert open_source(tmp_path / "flat").class_names == ("test", "train")
    with pytest.warns(DataWarning, match="test, train are read as classes .* because of the pictures in car"):
        mixed = open_source(tmp_path / "mixed")
    assert mixed.class_names == ("car", "test", "train")
    assert "split" not in mixed.columns


def test_a_run_beside_the_parts_is_no_class(tmp_path):
    """`kyori compare .` writes its runs into the folder that it reads."""
    for split in ("train", "test"):
        for label in "ab":
            save(tmp_path / split / label / "0.png")
            save(tmp_path / split / label / "1.png")
    (tmp_path / "runs" / "compare" / "cells").mkdir(parents=True)
    (tmp_path / "runs" / "compare" / "board.json").write_text("{}")
    with pytest.warns(DataWarning, match=r"folders without any picture: runs \(1 in all\)"):
        source = open_source(tmp_path)
    assert source.class_names == ("a", "b")
    assert len(source.part("train")) == len(source.part("test")) == 4


def test_a_part_without_classes_makes_parts_classes_and_says_so(tmp_path):
    for name in ("train/a", "train/b", "test"):
        save(tmp_path / name / "0.png")
        save(tmp_path / name / "1.png")
    with pytest.warns(
        DataWarning, match="test, train are read as classes .* because of the pictures in test"
    ):
        source = open_source(tmp_path)
    assert source.class_names == ("test", "train")


def test_numbered_classes_are_ordered_by_number(tmp_path):
    for name in ("10", "9", "2"):
        for number in range(2):
            save(tmp_path / name / f"{number}.png")
    assert open_source(tmp_path).class_names == ("2", "9", "10")


@pytest.fixture
def untidy(photos):
    (photos / "ant" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (photos / "bee" / "notes.txt").write_text("a text file")
    (photos / "bee" / "fake.png").write_text("a text file, too")
    (photos / "empty").mkdir()
    save(photos / "lonely" / "one.png")
    save(photos / "loose.png")
    for litter in (".DS_Store", "Thumbs.db", ".hidden.png"):
        (photos / "cat" / litter).write_text("")
    return photos


@pytest.mark.parametrize("memory_limit", [2**30, 0])
def test_an_untidy_folder_opens_and_everything_is_named(untidy, memory_limit):
    with pytest.warns(DataWarning) as caught:
        source = open_source(untidy, memory_limit=memory_limit)
    assert len(source) == 10
    assert source.class_names == ("ant", "bee", "cat", "lonely")
    reasons = {os.path.basename(path): reason for path, reason in source.skipped}
    assert set(reasons) == {"broken.jpg", "notes.txt", "fake.png", "loose.png"}
    assert "damaged" in reasons["broken.jpg"] or "not a picture" in reasons["broken.jpg"]
    assert "not a picture" in reasons["notes.txt"]
    assert "not a picture" in reasons["fake.png"]
    assert "not in a class folder" in reasons["loose.png"]
    messages = [str(one.message) for one in caught]
    assert len(messages) == 3, "one warning of each kind"
    assert any("without any picture: empty (1 in all)" in message for message in messages)
    assert any("single picture" in message and "lonely" in message for message in messages)
    assert any("4 skipped" in message and "source.skipped" in message for message in messages)


def test_many_bad_items_are_counted_and_the_first_named(photos):
    for number in range(8):
        (photos / "ant" / f"bad{number}.png").write_text("text")
    with pytest.warns(DataWarning, match=r"8 skipped: .*bad0\.png.*bad4\.png \(.*\) and 3 more") as caught:
        source = open_source(photos)
    assert len(source.skipped) == 8
    assert "bad5" not in str(caught[0].message)


@pytest.mark.parametrize("memory_limit", [2**30, 0])
def test_bad_items_can_be_an_error(photos, memory_limit):
    save(photos / "ant" / "cut.jpg", picture(200, 200))
    whole = (photos / "ant" / "cut.jpg").read_bytes()
    (photos / "ant" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ItemError, match=r"cut\.jpg: damaged picture"):
        open_source(photos, bad_items="error", memory_limit=memory_limit)
    with pytest.warns(DataWarning, match=r"cut\.jpg"):
        assert len(open_source(photos, memory_limit=memory_limit)) == 9


def test_without_verification_a_bad_item_shows_when_it_is_loaded(photos):
    save(photos / "ant" / "cut.jpg", picture(200, 200))
    whole = (photos / "ant" / "cut.jpg").read_bytes()
    (photos / "ant" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    source = open_source(photos, memory_limit=0, verify=False)
    assert len(source) == 10
    with pytest.raises(ItemError, match=r"cut\.jpg"):
        source.load(np.flatnonzero(source.ids == "ant/cut.jpg"))


def test_a_file_that_goes_away_later_is_named(photos):
    source = open_source(photos, memory_limit=0)
    (photos / "bee" / "1.png").unlink()
    with pytest.raises(ItemError, match=r"bee/1\.png: no such file"):
        source.load([4])


def test_symbolic_links(photos):
    (photos / "ant" / "loop").symlink_to(photos / "ant")
    (photos / "dog").symlink_to(photos / "cat")
    (photos / "cat" / "gone.png").symlink_to(photos / "nowhere.png")
    with pytest.warns(DataWarning, match="3 skipped"):
        source = open_source(photos)
    assert source.class_names == ("ant", "bee", "cat", "dog")
    assert len(source) == 12
    assert {reason.split(" (")[0] for _, reason in source.skipped} == {
        "symbolic link to a folder that was read already",
        "broken symbolic link",
    }


def test_unreadable_folder_as_the_system_reports_it(photos, monkeypatch):
    real = os.scandir

    def scandir(folder):
        if os.path.basename(folder) == "bee":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr("kyori.data.folders.os.scandir", scandir)
    with pytest.warns(DataWarning) as caught:
        source = open_source(photos)
    assert source.class_names == ("ant", "cat")
    assert any("cannot be read (Permission denied)" in str(one.message) for one in caught)
    with pytest.raises(ItemError, match="bee: folder that cannot be read"):
        open_source(photos, bad_items="error")


def test_root_without_permission(photos, monkeypatch):
    monkeypatch.setattr("kyori.data.opening.os.access", lambda *_: False)
    with pytest.raises(DataError, match="photos: no permission to read this folder"):
        open_source(photos)


def test_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(DataError, match="the folder is empty; expected"):
        open_source(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"holds neither pictures .* nor class folders; expected .*/<class>"):
        open_source(tmp_path)


def test_a_folder_of_pictures_alone_has_no_labels(tmp_path):
    for number in range(3):
        save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.warns(DataWarning, match=r"1 skipped: .*notes\.txt"):
        source = open_source(tmp_path)
    assert source.labels is None
    assert source.class_names == ()
    assert source.ids.tolist() == ["0.png", "1.png", "2.png"]


def test_folders_without_any_good_picture(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match=r"no pictures \(jpg, .*\) in its 2 folders \(a, b\)"):
        open_source(tmp_path)
    (tmp_path / "a" / "x.txt").write_text("x")
    with pytest.raises(DataError, match=r"the first file is .*x\.txt, not a picture"):
        open_source(tmp_path)
    (tmp_path / "a" / "x.png").write_text("x")
    with pytest.raises(DataError, match=r"none of the 1 pictures can be read; the first is .*x\.png"):
        open_source(tmp_path)


def test_progress_reaches_the_end(photos):
    calls = []
    open_source(photos, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(9, 9)]


def test_files_bring_their_own_labels(photos):
    with pytest.raises(ArgumentError, match="labels= belongs to arrays"):
        open_source(photos, labels=[0] * 9)
