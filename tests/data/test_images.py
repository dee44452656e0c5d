"""One picture from a file: every way of storing it gives the same upright, opaque, 8-bit picture."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from kyori.data import open_source
from kyori.data.images import SUFFIXES, convert, decode, probe, to_array
from kyori.errors import ArgumentError, DataWarning, ItemError

from .conftest import picture, save

SIZE = (12, 16)
CLOSE = {"quality": 95, "subsampling": 0}
OPTIONS = {".webp": {"lossless": True}, ".jpg": CLOSE, ".jpeg": CLOSE}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_format_in_grey_and_colour(tmp_path, suffix, channels):
    array = picture(channels=channels)
    path = str(save(tmp_path / f"a{suffix}", array, **OPTIONS.get(suffix, {})))
    header = probe(path)
    assert (header.height, header.width) == SIZE
    assert header.grey == (channels == 1) or suffix == ".webp"  # WebP has no grey
    tolerance = 12 if suffix in (".jpg", ".jpeg") else 0
    got = decode(path, SIZE, channels)
    assert got.shape == (*SIZE, channels)
    assert got.dtype == np.uint8
    assert np.abs(got.astype(int) - array).max() <= tolerance


def test_sixteen_bit_grey_is_scaled_and_not_cut(tmp_path):
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    path = str(tmp_path / "deep.png")
    assert probe(path).grey
    assert decode(path, (1, 4), 1)[0, :, 0].tolist() == [0, 1, 128, 255]
    assert decode(path, (1, 4), 3)[0].tolist() == [[0] * 3, [1] * 3, [128] * 3, [255] * 3]


def test_cmyk_jpeg(tmp_path):
    colour = Image.new("RGB", (16, 12), (200, 30, 60)).convert("CMYK")
    colour.save(tmp_path / "a.jpg", quality=95)
    path = str(tmp_path / "a.jpg")
    assert not probe(path).grey
    assert np.abs(decode(path, SIZE, 3).astype(int) - [200, 30, 60]).max() <= 6


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path, orientation, suffix):
    upright = picture(24, 40)
    # what a camera that is held so writes: the inverse of the transposition that a viewer applies
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, quality=100)
    header = probe(str(path))
    assert (header.height, header.width) == (24, 40)
    assert np.abs(decode(str(path), (24, 40), 3).astype(int) - upright).mean() < 4


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparency_lies_on_white(tmp_path, mode):
    if mode == "P":
        image = Image.new("P", (16, 12), 1)
        image.putpalette([255, 0, 0, 0, 0, 255])
        image.putpixel((0, 0), 0)
        image.save(tmp_path / "a.png", transparency=1)  # the colour 1, blue, is invisible
        expected = [[255, 0, 0], [255, 255, 255]]
    else:
        image = Image.new("RGBA", (16, 12), (0, 0, 0, 0))
        image.putpixel((0, 0), (10, 10, 10, 255))
        image = image.convert("LA" if mode == "PA" else mode)
        image.save(tmp_path / "a.png")
        expected = [[10, 10, 10], [255, 255, 255]]
    assert decode(str(tmp_path / "a.png"), SIZE, 3)[0, :2].tolist() == expected


def test_half_transparent_black_is_middle_grey():
    assert to_array(Image.new("RGBA", (2, 2), (0, 0, 0, 128)), (2, 2), 1)[0, 0, 0] == 127


def test_several_pictures_in_one_jpeg_as_phones_write_them(tmp_path):
    first, second = (Image.new("RGB", (16, 12), colour) for colour in ((200, 10, 10), (10, 10, 200)))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    assert np.abs(decode(str(tmp_path / "a.jpg"), SIZE, 3).astype(int) - [200, 10, 10]).max() < 8


def test_palette_and_bilevel(tmp_path):
    palette = Image.new("P", (16, 12), 0)
    palette.putpalette([1, 2, 3])
    palette.save(tmp_path / "p.png")
    assert decode(str(tmp_path / "p.png"), SIZE, 3)[0, 0].tolist() == [1, 2, 3]
    Image.new("1", (16, 12), 1).save(tmp_path / "b.png")
    assert probe(str(tmp_path / "b.png")).grey
    assert decode(str(tmp_path / "b.png"), SIZE, 1)[0, 0].tolist() == [255]


def test_another_shape_covers_and_is_cut_in_the_centre(tmp_path):
    array = np.zeros((10, 40, 3), dtype=np.uint8)
    array[:, 10:30] = 255  # the centre square and half a square on each side of it
    path = str(save(tmp_path / "wide.png", array))
    assert decode(path, (10, 10), 3).min() == 255
    assert decode(path, (5, 5), 3).min() == 255
    assert decode(path, (10, 40), 3)[0, 0].tolist() == [0, 0, 0]


def test_another_shape_is_kept_whole_on_black_or_stretched():
    wide = Image.new("L", (40, 20), 200)
    padded = to_array(wide, (20, 20), 1, "pad")[:, :, 0]
    np.testing.assert_array_equal(padded[5:15], np.full((10, 20), 200))
    assert not padded[:5].any()
    assert not padded[15:].any()
    np.testing.assert_array_equal(to_array(wide, (20, 20), 3, "stretch"), np.full((20, 20, 3), 200))


@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_resize_reaches_files_arrays_datasets_and_shards(tmp_path, memory_limit):
    expected = {}
    for number in range(3):
        image = Image.fromarray(picture(30, 60, seed=number))
        image.save(save(tmp_path / "photos" / "a" / f"{number}.png"))
        expected[number] = image
    arrays = np.stack([np.asarray(image) for image in expected.values()])
    labelled = [(image, 0) for image in expected.values()]
    forms = [tmp_path / "photos", (arrays, [0, 0, 0]), _Listed(labelled), _Passed(labelled)]
    for resize in ("crop", "pad", "stretch"):
        wanted = np.stack([to_array(image, (16, 16), 3, resize) for image in expected.values()])
        for form in forms:
            limit = memory_limit if form is not forms[3] else 2**30
            source = open_source(form, size=16, resize=resize, memory_limit=limit)
            assert source.resize == resize
            np.testing.assert_array_equal(source.load([0, 1, 2]), wanted)
        digests = open_source(forms[0], size=16, resize=resize, memory_limit=0).digests([0])
        assert (resize == "crop") == (
            digests == open_source(forms[0], size=16, memory_limit=0).digests([0])
        ).all()
    with pytest.raises(ArgumentError, match="resize must be one of crop, pad, stretch; got 'fit'"):
        open_source(forms[0], resize="fit")


class _Listed:
    def __init__(self, items):
        self.items, self.targets = items, [label for _, label in items]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class _Passed:
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)

    def __len__(self):
        return len(self.items)


def test_large_jpeg_is_shrunk_while_decoding_to_the_same_picture(tmp_path):
    array = picture(600, 900)
    path = str(save(tmp_path / "large.jpg", array, quality=95))
    drafted = decode(path, (40, 60), 3).astype(int)
    direct = to_array(Image.fromarray(array), (40, 60), 3).astype(int)
    assert np.abs(drafted - direct).max() <= 8


def test_shrinking_minds_the_rotation(tmp_path):
    """A tall picture that is stored lying, wanted as a wide one: nothing of its width may be thrown away."""
    array = np.zeros((1600, 100, 3), dtype=np.uint8)
    array[:, ::4] = array[:, 1::4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.jpg"
    Image.fromarray(np.ascontiguousarray(np.rot90(array, 1))).save(path, exif=exif, quality=95, subsampling=0)
    direct = to_array(Image.fromarray(array), (10, 160), 3).astype(int)
    assert np.abs(decode(str(path), (10, 160), 3).astype(int) - direct).mean() < 5


def test_box_is_cut_from_the_upright_picture(tmp_path):
    array = picture(20, 30)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(array, 1))).save(tmp_path / "a.png", exif=exif)
    path = str(tmp_path / "a.png")
    assert np.array_equal(decode(path, (5, 10), 3, (4, 2, 14, 7)), array[2:7, 4:14])
    header = probe(path, (4, 2, 14, 7))
    assert (header.height, header.width) == (5, 10)
    with pytest.raises(ItemError, match=r"a\.png: damaged .*must lie inside of 30×20 pixels"):
        decode(path, (5, 10), 3, (4, 2, 31, 7))


def truncated(path):
    save(path, picture(200, 200))
    path.write_bytes(path.read_bytes()[:-2000])


BROKEN = {
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "text": (lambda path: path.write_text("not a picture at all"), "not a picture"),
    "truncated": (truncated, "damaged picture"),
    "header only": (lambda path: path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF"), "picture"),
    "missing": (lambda path: None, "no such file"),
    "broken link": (lambda path: path.symlink_to(path.parent / "gone.jpg"), "broken symbolic link"),
    "self link": (lambda path: path.symlink_to(path), "symbolic link|symlink|damaged"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_item_errors_with_their_path(tmp_path, name):
    make, reason = BROKEN[name]
    path = tmp_path / "bad.jpg"
    make(path)
    with pytest.raises(ItemError, match=reason) as caught:
        decode(str(path), SIZE, 3)
    assert caught.value.item == str(path)


def test_file_without_permission(tmp_path, monkeypatch):
    """As the system reports it; root, who runs many a test, may read everything."""

    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    path = str(save(tmp_path / "a.png"))
    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(ItemError, match=r"a\.png: no permission to read it"):
        decode(path, SIZE, 3)


@pytest.mark.parametrize("factor", [1.5, 3])
@pytest.mark.parametrize("action", ["ignore", "error"])
def test_decompression_bomb(tmp_path, monkeypatch, factor, action):
    """Between once and twice its limit Pillow itself only warns, and most programs ignore that."""
    path = str(save(tmp_path / "bomb.png", picture(30, 30)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(900 / factor))
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(ItemError, match="Pillow's limit"):
            decode(path, SIZE, 3)


def test_other_formats_are_not_opened(tmp_path):
    """EPS would start Ghostscript; a format that is not wanted is no picture."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.ppm")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.ppm").read_bytes())
    with pytest.raises(ItemError, match="not a picture"):
        probe(str(tmp_path / "a.png"))


def test_convert_copies_only_what_changes():
    pictures = np.stack([picture(8, 8, seed) for seed in range(3)])
    assert convert(pictures, None, "auto") is pictures
    assert convert(pictures, (8, 8), 3) is pictures
    assert convert(pictures, (4, 6), 1).shape == (3, 4, 6, 1)
    grey = convert(pictures, None, 1)
    assert np.array_equal(convert(grey, None, 3), np.repeat(grey, 3, axis=3))


def test_a_picture_of_20_000_by_20_000_is_refused_by_its_header(tmp_path):
    """A decompression bomb: 50 kB on the disk, 400 million pixels."""
    side = 20_000
    row = b"\0" + bytes(side // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row * 1000) for _ in range(side // 1000)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    )
    for label in "ab":
        (tmp_path / label).mkdir()
        for item in range(2):
            Image.new("L", (8, 8), 50).save(tmp_path / label / f"{item}.png")
    bomb = tmp_path / "a" / "bomb.png"
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    assert bomb.stat().st_size < 100_000
    with pytest.raises(ItemError, match="more pixels than Pillow's limit"):
        probe(str(bomb))
    with pytest.raises(ItemError, match="more pixels than Pillow's limit"):
        decode(str(bomb), (8, 8), 1)
    with pytest.warns(DataWarning, match="more pixels"):
        source = open_source(tmp_path)
    assert len(source) == 4
    assert source.skipped[0][0] == str(bomb)


def test_the_first_picture_of_an_animated_webp(tmp_path):
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ((250, 0, 0), (0, 0, 250)))
    first.save(tmp_path / "a.webp", save_all=True, append_images=[second], lossless=True)
    assert decode(str(tmp_path / "a.webp"), (8, 8), 3)[4, 4].tolist() == [250, 0, 0]


def test_sixteen_bit_colour_is_cut_to_eight(tmp_path):
    pixels = bytes([0x80, 0xFF, 0x10, 0x00, 0xFF, 0xFF]) * 4
    raw = b"".join(b"\0" + pixels[12 * i : 12 * i + 12] for i in range(2))
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    )
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    assert decode(str(tmp_path / "deep.png"), (2, 2), 3)[0, 0].tolist() == [0x80, 0x10, 0xFF]
