"""Tar and Parquet shards: what is read from them, and what is said of damaged ones."""

import builtins
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from kyori.data import open_source
from kyori.data.shards import Shards, expand, is_shards
from kyori.data.streams import open_stream
from kyori.errors import DataError, DataWarning, ItemError, MissingExtraError

from .streams import png, write_shards, write_tar

LONG = "a" * 150  # longer than a tar header's field


def read(path):
    return list(Shards((str(path),)).read(0))


def test_patterns(tmp_path):
    write_shards(tmp_path, shards=3)
    assert expand("x/{a,b}-{0..1}.tar") == ("x/a-0.tar", "x/a-1.tar", "x/b-0.tar", "x/b-1.tar")
    assert expand(str(tmp_path / "*.tar")) == expand(str(tmp_path / "{00..02}.tar"))
    assert expand(["p.tar", "{q,r}.tar"]) == ("p.tar", "q.tar", "r.tar")
    with pytest.raises(DataError, match=r"no shard matches"):
        expand(str(tmp_path / "*.parquet"))
    with pytest.raises(DataError, match=r"a range counts upwards; got \{3\.\.1\}"):
        expand("{3..1}.tar")


def test_what_is_a_shard(tmp_path):
    pa.parquet.write_table(pa.table({"path": ["a.png"], "label": ["a"]}), tmp_path / "manifest.parquet")
    pa.parquet.write_table(pa.table({"image": [b"x"], "label": ["a"]}), tmp_path / "items.parquet")
    assert not is_shards(tmp_path / "manifest.parquet")
    assert is_shards(tmp_path / "items.parquet")
    assert is_shards(["a.tar", "b.tar.gz"])
    assert not is_shards(["a.tar", "a sentence"])
    assert not is_shards([])


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_samples_are_those_of_webdataset(tmp_path, format):
    webdataset = pytest.importorskip("webdataset")
    key = "folder/b" if format == tarfile.USTAR_FORMAT else f"folder/{LONG}距"
    items = [("folder/a", {"cls": "3", "png": png(0, 0)}), (key, {"cls": "4", "seg.png": png(1, 1)})]
    path = write_tar(tmp_path / "s.tar", items, format=format)
    ours = read(path)
    theirs = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))
    assert [sample.key for sample in ours] == [sample["__key__"] for sample in theirs]
    assert [sample.label for sample in ours] == [sample["cls"].decode() for sample in theirs]
    assert ours[0].data == theirs[0]["png"]
    assert [sample.place for sample in ours] == [0, 1]


def test_labels_alone_are_the_same(tmp_path):
    pattern = write_shards(tmp_path, shards=1)
    shards = Shards(expand(pattern))
    whole, short = list(shards.read(0)), list(shards.read(0, items=False))
    assert [(s.key, s.label) for s in whole] == [(s.key, s.label) for s in short]
    assert all(sample.data is None for sample in short)


def test_kinds_of_members(tmp_path):
    vector = tmp_path / "v.npy"
    np.save(vector, np.array([1.0, 2.0], dtype=np.float32))
    samples = read(
        write_tar(
            tmp_path / "s.tar",
            [
                ("text", {"txt": "距離", "json": '{"label": 7.0, "split": "val"}'}),
                ("vector", {"npy": vector.read_bytes()}),
                ("nothing", {"mp3": b"x"}),
                ("latin", {"txt": "ü".encode("latin-1")}),
                ("broken", {"txt": "x", "json": "{"}),
            ],
        )
    )
    assert (samples[0].data, samples[0].label, samples[0].split) == ("距離", "7", "validation")
    assert samples[1].data.tolist() == [1, 2]
    assert samples[1].label is None
    assert "no picture, .txt or .npy among its members (mp3)" in samples[2].fault
    assert samples[3].fault.startswith("not UTF-8")
    assert samples[4].fault


PICTURES = [png(number, 0) for number in range(3)]


@pytest.mark.parametrize(
    "item", [{"image": [{"bytes": body, "path": None} for body in PICTURES]}, {"image": PICTURES}]
)
def test_parquet_pictures(tmp_path, item):
    path = tmp_path / "items.parquet"
    pa.parquet.write_table(pa.table({**item, "label": [1, 0, 1], "id": ["x", "y", "z"]}), path)
    source = open_source(path)
    assert source.ids.tolist() == ["x", "y", "z"]
    assert source.labels.tolist() == [1, 0, 1]
    assert source.item_shape == (6, 6, 1)
    assert len(open_stream(path)) == 3


def test_parquet_vectors_and_texts(tmp_path):
    pa.parquet.write_table(
        pa.table({"vector": [[1.0, 2.0], [3.0, 4.0]], "label": ["a", "b"]}), tmp_path / "v.parquet"
    )
    assert open_source(tmp_path / "v.parquet").load([1]).tolist() == [[3, 4]]
    for shard in "01":
        pa.parquet.write_table(
            pa.table({"text": [f"one {shard}", " "], "label": ["a", "b"]}), tmp_path / f"t{shard}.parquet"
        )
    with pytest.warns(DataWarning, match="it is empty"):
        source = open_source(str(tmp_path / "t{0..1}.parquet"))
    assert source.load([0, 1]).tolist() == ["one 0", "one 1"]


def damage(path, how):
    body = bytearray(path.read_bytes())
    if how == "cut off":
        path.write_bytes(body[: len(body) // 2 - 100])
    elif how == "header":
        place = body.index(b"00005.png")  # a name in a header: its checksum no longer fits
        body[place] ^= 1
        path.write_bytes(body)
    elif how == "no shard":
        path.unlink()


@pytest.mark.parametrize("how", ["cut off", "header", "no shard"])
def test_damaged_shards(tmp_path, how):
    pattern = write_shards(tmp_path, shards=2, items=40)
    damage(tmp_path / "00.tar", how)
    with pytest.warns(
        DataWarning, match=r"1 skipped while reading: .*00\.tar \((damaged shard|no such shard)"
    ):
        source = open_source(pattern)
    assert 20 <= len(source) < 40
    with pytest.raises(ItemError, match=r"00\.tar"):
        open_source(pattern, bad_items="error")


def test_damaged_parquet_and_wrong_columns(tmp_path):
    (tmp_path / "0.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match="no item can be read"):
        open_source(str(tmp_path / "{0..0}.parquet"))
    pa.parquet.write_table(pa.table({"weight": [1]}), tmp_path / "1.parquet")
    with pytest.raises(ItemError, match=r"no column image.*got weight"):
        open_source(str(tmp_path / "{1..1}.parquet"), bad_items="error")


def test_urls(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    write_shards(tmp_path, shards=2, items=40)
    memory = fsspec.filesystem("memory")
    for name in ("00.tar", "01.tar"):
        memory.pipe_file(f"/bucket/{name}", (tmp_path / name).read_bytes())
    local = open_source(str(tmp_path / "{00..01}.tar"))
    for url in ("memory://bucket/{00..01}.tar", "memory://bucket/*.tar", f"file://{tmp_path}/{{00..01}}.tar"):
        remote = open_source(url)
        assert np.array_equal(remote.load(range(40)), local.load(range(40)))
        assert len(open_stream(url)) == 40
    with pytest.raises(
        DataError, match=r"no item can be read; the first: memory://bucket/7\.tar: no such shard"
    ):
        open_stream("memory://bucket/7.tar")
    with pytest.raises(DataError, match="cannot be reached"):
        open_stream("nonsense://bucket/7.tar")
    memory.rm("/bucket", recursive=True)


def test_a_url_without_the_package_names_the_extra(monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments, **options):
        if name.startswith("fsspec"):
            raise ImportError("No module named 'fsspec'")
        return real(name, *arguments, **options)

    monkeypatch.setattr("importlib.import_module", lambda name: refuse(name))
    with pytest.raises(MissingExtraError, match=r'pip install "kyori\[stream\]"'):
        open_stream("memory://bucket/0.tar")


def test_too_many_to_gather(tmp_path):
    pattern = write_shards(tmp_path, items=40)
    with pytest.raises(DataError, match=r"do not fit into memory_limit.*kyori embed"):
        open_source(pattern, memory_limit=10 * 36)
