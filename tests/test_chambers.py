"""Archives of measurements: what their description must hold, opening, and the refusal of damaged tables and images."""

import hashlib
import io
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hybridsam.core import settings
from hybridsam.core.errors import UserError
from hybridsam.data.chambers import Archive, archives, is_twin, open_archive, read_images, read_table

ROOT = Path(__file__).resolve().parents[1]
DESCRIPTION = {
    "name": "walks",
    "url": "http://127.0.0.1/walks.zip",
    "md5": "0" * 32,
    "licence": "CC BY 4.0",
    "attribution": "Nobody",
    "bytes": 1,
}
SIZE = 16
TABLE = "timestamp,config,load,pressure,image_file\n0.1,standard,1.0,96340.25,a.jpg\n0.2,standard,0.3,-1e-3,b.jpg\n"


def jpeg(width=SIZE, height=SIZE, mode="RGB", form="JPEG", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, form)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """An unpacked archive: a table beside an experiment with a table and images."""
    images = tmp_path / "walks" / "lights" / f"images_{SIZE}"
    images.mkdir(parents=True)
    (tmp_path / "walks/steps.csv").write_text(TABLE)
    (tmp_path / "walks/lights/lights.csv").write_text(TABLE)
    for seed, name in enumerate(["a.jpg", "b.jpg"]):
        (images / name).write_bytes(jpeg(seed=seed))
    return tmp_path / "walks"


def packed(folder, compression=zipfile.ZIP_DEFLATED):
    path = folder.with_name("walks.zip")
    with zipfile.ZipFile(path, "w", compression) as file:
        for member in sorted(folder.rglob("*")):
            file.write(member, member.relative_to(folder.parent))
    return path


def described(path, **changes):
    content = path.read_bytes()
    found = {"md5": hashlib.md5(content).hexdigest(), "bytes": len(content)}
    return Archive(**(DESCRIPTION | found | changes))


@pytest.fixture(params=["folder", "zip"])
def opened(request, folder):
    """Opens the archive, after a test has changed its files, in either form."""

    def open_it():
        if request.param == "folder":
            return open_archive(folder, Archive(**DESCRIPTION))
        path = packed(folder)
        return open_archive(path, described(path))

    return open_it


# Descriptions


def test_the_described_archives_are_complete_and_credited():
    found = archives(settings.load(str(ROOT / "config/archives.yaml")))
    assert set(found) == {"wt_walks_v1", "lt_camera_v1", "lt_interventions_standard_v1"}
    for name, archive in found.items():
        assert archive.url.startswith("https://") and archive.url.endswith(f"/{name}.zip")
        assert archive.licence == "CC BY 4.0" and "10.1038/s42256-024-00964-x" in archive.attribution
        assert archive.size > 1e6 and "\n" not in archive.attribution


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"md5": "19BB4E92CBE0B8DFF49299B9B509AC36"}, r"archives\.walks\.md5: '19BB.*' is not 32 hexadecimal digits"),
        ({"md5": "19bb4e92"}, r"archives\.walks\.md5"),
        ({"bytes": 0}, r"archives\.walks: needs a positive length, either bytes or approximate_bytes"),
        ({"bytes": -1}, r"archives\.walks: needs a positive length"),
        ({"approximate_bytes": 5}, r"archives\.walks: needs a positive length, either"),
        ({"bytes": "many"}, r"archives\.walks\.bytes: 'many' is not of type int"),
        ({"mirror": "x"}, r"archives\.walks\.mirror: unknown key"),
    ],
)
def test_a_mistake_in_a_description_names_the_key(changes, message):
    entry = {key: value for key, value in DESCRIPTION.items() if key != "name"} | changes
    with pytest.raises(UserError, match=message):
        archives({"walks": entry})


# Opening


def test_an_archive_opens_the_same_packed_and_unpacked(folder):
    path = packed(folder)
    for place in (open_archive(path, described(path)), open_archive(folder, Archive(**DESCRIPTION))):
        assert place.name == "walks" and place.is_dir() and not (place / "missing.csv").exists()
        assert sorted(entry.name for entry in place.iterdir()) == ["lights", "steps.csv"]
        assert (place / "steps.csv").read_bytes() == TABLE.encode()
        with (place / "steps.csv").open("rb") as file:
            assert file.readline() == b"timestamp,config,load,pressure,image_file\n"


def test_an_archive_of_unknown_length_is_opened(folder):
    path = packed(folder)
    assert open_archive(path, described(path, bytes=0, approximate_bytes=10)).is_dir()


def test_a_changed_or_foreign_zip_is_refused(folder, tmp_path):
    path = packed(folder)
    good, content = described(path), path.read_bytes()
    middle = len(content) // 2
    refusals = {
        content[:-1]: f"wrong length: expected {len(content)} bytes, found {len(content) - 1}",
        content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]: f"expected MD5 {good.md5}, found ",
    }
    for damaged, message in refusals.items():
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=f"^{re.escape(str(path))}: {message}"):
            open_archive(path, good)
    path.write_bytes(b"<html>sign in</html>")
    with pytest.raises(UserError, match="not a readable zip file"):
        open_archive(path, described(path))
    path.write_bytes(content)
    with pytest.raises(UserError, match="holds no folder runs"):
        open_archive(path, described(path, name="runs"))
    with pytest.raises(UserError, match=r"no such file or folder; expected walks\.zip or its folder walks"):
        open_archive(tmp_path / "elsewhere.zip", good)


def test_a_twin_is_known_by_its_mark(folder, opened):
    assert not is_twin(opened())
    (folder / "TWIN.json").write_text("{}")
    assert is_twin(opened())


# Tables


def test_a_table_has_the_columns_asked_for_in_that_order(opened):
    table = read_table(opened() / "steps.csv", ["pressure", "image_file", "load"], 2, text_columns=["image_file"])
    assert list(table) == ["pressure", "image_file", "load"]
    assert table["pressure"].tolist() == [96340.25, -1e-3] and table["load"].dtype == np.float64
    assert table["image_file"].tolist() == ["a.jpg", "b.jpg"]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_numbers_are_read_to_the_last_digit(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("table") / "values.csv"
    path.write_text("x\n" + "".join(f"{value!r}\n" for value in values))
    assert read_table(path, ["x"])["x"].tolist() == values


HEADER, FIRST, SECOND = TABLE.splitlines(keepends=True)
MALFORMED = {
    "missing column": (TABLE.replace("load", "lod"), "no column load; there are timestamp, config, lod, pressure"),
    "two missing columns": (TABLE.replace("p", "q"), "no column pressure; there are timestamq"),
    "word": (TABLE.replace("0.3", "open"), "row 2, column load: 'open' is not a finite number (1 such values"),
    "NaN": (TABLE.replace("1.0", "nan").replace("0.3", ""), "row 1, column load: 'nan' is not a finite number (2"),
    "infinite": (TABLE.replace("96340.25", "inf"), "row 1, column pressure: 'inf' is not"),
    "too few rows": (HEADER + FIRST, "expected 2 rows, found 1"),
    "too many rows": (TABLE + SECOND, "expected 2 rows, found 3"),
    "header only": (HEADER, "expected 2 rows, found 0"),
    "truncated row": (TABLE[: TABLE.index("-1e-3")], "row 2 has 4 values, the header has 5"),
    "row with too much": (TABLE.replace("0.3", "0.3,0.4"), "row 2 has 6 values"),
    "empty": ("", "empty"),
    "blank": ("\n\n", "empty"),
    "byte order mark": ("\ufeff" + TABLE, "begins with a byte order mark (BOM)"),
    "open quote": (HEADER + '0.1,"standard,1.0,2.0,a.jpg\n', "not a CSV file"),
    "another format": ("<html>\n<body>sign in</body>\n", "no column load, pressure; there are <html>"),
}


@pytest.mark.parametrize(("content", "message"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_table_is_refused_with_its_name(folder, opened, content, message):
    (folder / "steps.csv").write_text(content, encoding="utf-8")
    file = opened() / "steps.csv"
    with pytest.raises(UserError) as refused:
        read_table(file, ["load", "pressure"], 2)
    assert str(refused.value).startswith(f"{file}: {message}"), refused.value
    assert "steps.csv" in str(file)


@pytest.mark.parametrize("content", [TABLE.encode("utf-16"), b"\x89PNG\r\n\x1a\n\x00\xff", b"PK\x03\x04\xff\xfe"])
def test_a_file_that_is_no_text_is_refused_with_its_name(folder, opened, content):
    (folder / "steps.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"steps\.csv: (not a CSV file|begins with a byte order mark)"):
        read_table(opened() / "steps.csv", ["load"])


def test_a_missing_file_is_refused_with_its_name(opened):
    for name in ("runs.csv", "lights", "steps.csv/runs.csv"):
        with pytest.raises(UserError, match=rf"{name}/?: no such file"):
            read_table(opened() / name, ["load"])


def test_a_table_of_any_length_has_rows(folder):
    assert len(read_table(folder / "steps.csv", ["load"])) == 2
    (folder / "steps.csv").write_text(HEADER)
    with pytest.raises(UserError, match="expected some rows, found 0"):
        read_table(folder / "steps.csv", ["load"])


# Images


def test_images_are_read_in_the_order_of_their_names(folder, opened):
    images = read_images(opened() / "lights", ["b.jpg", "a.jpg", "b.jpg"], SIZE)
    assert images.shape == (3, SIZE, SIZE, 3) and images.dtype == np.uint8
    for image, name in zip(images, ["b.jpg", "a.jpg", "b.jpg"], strict=True):
        np.testing.assert_array_equal(image, Image.open(folder / f"lights/images_{SIZE}" / name))
    assert (images[0] != images[1]).any()


WHOLE = jpeg()
BAD_IMAGES = {
    "truncated": (WHOLE[: len(WHOLE) // 2], "not a readable JPEG image"),
    "no image data": (WHOLE[:100], "not a readable JPEG image"),
    "empty": (b"", "not a readable JPEG image"),
    "overwritten": (bytes(len(WHOLE)), "not a readable JPEG image"),
    "a PNG": (jpeg(form="PNG"), "not a readable JPEG image"),
    "too wide": (jpeg(width=SIZE + 1), f"expected {SIZE} x {SIZE} pixels, RGB, found {SIZE + 1} x {SIZE} pixels, RGB"),
    "too large": (jpeg(2 * SIZE, 2 * SIZE), f"expected {SIZE} x {SIZE} pixels, RGB, found {2 * SIZE} x {2 * SIZE}"),
    "grey": (jpeg(mode="L"), f"expected {SIZE} x {SIZE} pixels, RGB, found {SIZE} x {SIZE} pixels, L"),
    "for print": (jpeg(mode="CMYK"), f"found {SIZE} x {SIZE} pixels, CMYK"),
}


@pytest.mark.parametrize(("content", "message"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_a_bad_image_is_refused_with_its_name(folder, opened, content, message):
    (folder / f"lights/images_{SIZE}/b.jpg").write_bytes(content)
    with pytest.raises(UserError, match=rf"images_{SIZE}/b\.jpg: .*{message}"):
        read_images(opened() / "lights", ["a.jpg", "b.jpg"], SIZE)


@given(st.integers(0, len(WHOLE) - 3))
def test_an_image_truncated_anywhere_is_refused(tmp_path_factory, length):
    folder = tmp_path_factory.mktemp("images") / f"images_{SIZE}"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(WHOLE[:length])
    with pytest.raises(UserError, match=r"a\.jpg: not a readable JPEG image"):
        read_images(folder.parent, ["a.jpg"], SIZE)


def test_a_missing_image_is_refused_with_its_name(opened):
    with pytest.raises(UserError, match=rf"images_{SIZE}/c\.jpg: no such file"):
        read_images(opened() / "lights", ["a.jpg", "c.jpg"], SIZE)


def test_a_missing_size_is_refused_with_those_there_are(folder, opened):
    (folder / "lights/images_100").mkdir()
    (folder / "lights/images_100/a.jpg").write_bytes(jpeg(100, 100))
    with pytest.raises(UserError, match=rf"images_64: no such folder; there are images_100, images_{SIZE}$"):
        read_images(opened() / "lights", ["a.jpg"], 64)
    with pytest.raises(UserError, match=r"walks/images_64: no such folder; there are no images_\* folders$"):
        read_images(opened(), ["a.jpg"], 64)
    with pytest.raises(UserError, match=r"walks/sensors: no such folder$"):
        read_images(opened() / "sensors", ["a.jpg"], 64)


# Damage inside a zip file whose checksum is that of the damaged file


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED], ids=["deflated", "stored"])
@pytest.mark.parametrize("member", ["steps.csv", f"lights/images_{SIZE}/b.jpg"])
@pytest.mark.parametrize("place", ["content", "header"])
def test_a_damaged_member_is_refused_with_its_name_and_the_others_are_read(folder, compression, member, place):
    path = packed(folder, compression)
    with zipfile.ZipFile(path) as file:
        start = file.getinfo(f"walks/{member}").header_offset
    content = bytearray(path.read_bytes())
    at = start if place == "header" else start + 30 + len(f"walks/{member}") + 20
    content[at : at + 4] = bytes(255 - byte for byte in content[at : at + 4])
    path.write_bytes(content)
    opened = open_archive(path, described(path))
    with pytest.raises(UserError, match=rf"{member}: cannot be read, it is damaged: "):
        if member.endswith(".csv"):
            read_table(opened / member, ["load"])
        else:
            read_images(opened / "lights", ["a.jpg", "b.jpg"], SIZE)
    assert len(read_table(opened / "lights/lights.csv", ["load"])) == 2


# Memory

READ = """
import sys
from pathlib import Path
from hybridsam.data.chambers import read_images
images = read_images(Path(sys.argv[1]), [f"{i}.jpg" for i in range(10000)], 64)
assert images.shape == (10000, 64, 64, 3) and (images == images[0]).all()
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(status["VmHWM"].split()[0], "torch" in sys.modules)  # getrusage begins with the memory of the parent
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ten_thousand_images_are_read_in_little_memory(tmp_path):
    folder = tmp_path / "images_64"
    folder.mkdir()
    (folder / "0.jpg").write_bytes(jpeg(64, 64))
    for i in range(1, 10000):
        os.link(folder / "0.jpg", folder / f"{i}.jpg")
    output = subprocess.run([sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True, check=True)
    kilobytes, torch = output.stdout.split()
    assert int(kilobytes) < 6e5  # the result is 123 MB, the libraries are 150
    assert torch == "False"
