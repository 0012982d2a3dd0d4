"""CSV files as people have them: what is read as it is meant, and what is asked instead of guessed."""

import gzip
import logging

import numpy as np
import pandas as pd
import pytest
from helpers.refusals import refused
from helpers.tables import LAW, ONE_SERIES, SITES, changed, hares, law, sites
from hypothesis import given
from hypothesis import strategies as st

from hybridsam.core.errors import UserError
from hybridsam.data.cells import labels, number
from hybridsam.data.table import dataset_of, read_dataset

TEXT = hares().drop(columns="weather").to_csv(index=False)  # year,hare,lynx
GERMAN = TEXT.replace(",", ";").replace(".", ",")
QUOTED = "year,hare,lynx\n" + "".join(f'{y},"{y % 100},5","{1000 + y % 100},0"\n' for y in range(1900, 1921))
WITH_DEGREES = TEXT.replace("lynx\n", "lynx,Temp °C\n").replace(".0\n", ".0,1\n")


def read(folder, content, dialect=None, name="hare.csv"):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_dataset(ONE_SERIES | {"file": str(folder / name)} | ({"dialect": dialect} if dialect else {}))


def refusal(folder, *file):
    return refused(read, folder, *file).removeprefix(f"{folder / 'hare.csv'}: ")


def rows(text, change):
    """The file with its rows of values changed."""
    header, *lines = text.splitlines(keepends=True)
    return header + "".join(change(line) for line in lines)


MEANT = {  # content, dialect
    "as it is": (TEXT, None),
    "comments before the header": ("# hares\n#\n# of 'Hudson, Bay'\n" + TEXT, None),
    "comments between rows": (TEXT.replace("1907,", '# "warm\n1907,'), None),
    "comments of another kind": ("% hares\n" + TEXT, {"comment": "%"}),
    "empty lines": (TEXT.replace("\n", "\n\n  \n"), None),
    "empty rows at the end": (TEXT + ",,\n,,\n", None),
    "lines of Windows": (TEXT.replace("\n", "\r\n"), None),
    "lines of an old Mac": (TEXT.replace("\n", "\r"), None),
    "no end of the last line": (TEXT.rstrip(), None),
    "quotes": (rows(TEXT, lambda line: '"' + line.strip().replace(",", '","') + '"\n'), None),
    "a byte order mark": (b"\xef\xbb\xbf" + TEXT.encode(), None),
    "a delimiter at the end of each line": (TEXT.replace("\n", ",\n"), None),
    "decimals with three digits": (TEXT.replace(".0\n", ".000\n").replace(".5", ".500"), None),
    "several, as Excel has them": (TEXT.replace("\n", ",,,\n"), None),
    "one at the end of each row": (rows(TEXT, lambda line: line.replace("\n", ",\n")), None),
    "a column of row numbers without a name": (hares().to_csv(), None),
    "semicolons": (TEXT.replace(",", ";"), None),
    "tabs": (TEXT.replace(",", "\t"), None),
    "semicolons and names with commas": (WITH_DEGREES.replace(",", ";").replace("Temp °C", '"Temp, °C"'), None),
    "bars": (TEXT.replace(",", "|"), {"delimiter": "|"}),
    "spaces": (TEXT.replace(",", "   "), {"delimiter": " "}),
    "decimal commas": (GERMAN, {"decimal": ","}),
    "decimal commas in quotes": (QUOTED, {"decimal": ","}),
    "decimal commas, all said": (GERMAN.encode("cp1252"), {"delimiter": ";", "decimal": ",", "encoding": "cp1252"}),
    "Unicode text of Excel": (TEXT.replace(",", "\t").encode("utf-16"), {"encoding": "utf-16"}),
    "Windows": (WITH_DEGREES.encode("cp1252"), {"encoding": "cp1252"}),
    "spaces around": (TEXT.replace(",", " , "), None),
}


@pytest.mark.parametrize(("content", "dialect"), MEANT.values(), ids=MEANT)
def test_what_can_be_read_in_one_way_is_read(content, dialect, tmp_path):
    assert read(tmp_path, content, dialect).equals(dataset_of(hares(), ONE_SERIES))


def test_a_compressed_file_is_read(tmp_path):
    packed = gzip.compress(TEXT.encode())
    assert read(tmp_path, packed, name="hare.csv.gz").equals(dataset_of(hares(), ONE_SERIES))
    with pytest.raises(UserError, match=r"hare\.csv\.gz: not a gzip file, or not all of it"):
        read(tmp_path, packed[:-20], name="hare.csv.gz")
    with pytest.raises(UserError, match=r"hare\.csv\.gz: not a gzip file"):
        read(tmp_path, TEXT, name="hare.csv.gz")


def test_the_separator_that_is_taken_is_said(tmp_path, caplog):
    caplog.set_level(logging.INFO, "hybridsam.data.csv_file")
    read(tmp_path, TEXT)
    assert not [record for record in caplog.records if "separated" in record.getMessage()]
    read(tmp_path, TEXT.replace(",", ";"))
    assert f"{tmp_path / 'hare.csv'}: columns are separated by semicolons" in caplog.messages


ASKED = {  # content, dialect, message
    "decimal commas": (
        GERMAN,
        None,
        "row 1, column hare: '0,5' is not a finite number; if the comma is a decimal one, write table.dialect.decimal:",
    ),
    "decimal commas that may be thousands": (
        TEXT.replace(",", ";").replace("1007.0", "1,007"),
        None,
        "row 8, column lynx: '1,007' is not a finite number; if the comma is a decimal one, write "
        "table.dialect.decimal: ',', if it separates thousands remove it",
    ),
    "thousands": (
        TEXT.replace("1007.0", '"1,007.0"'),
        None,
        "row 8, column lynx: '1,007.0' is not a finite number; remove what separates thousands",
    ),
    "thousands with points": (
        GERMAN.replace("1007,0", "1.007,0"),
        {"decimal": ","},
        "row 8, column lynx: '1.007,0' is not a finite number; remove what separates thousands",
    ),
    "a decimal point among decimal commas": (
        GERMAN.replace("1007,0", "1007.0"),
        {"decimal": ","},
        "row 8, column lynx: '1007.0' is not a finite number; table.dialect.decimal is ','",
    ),
    "decimal commas between commas": (
        TEXT.replace("1007.0", "1007,0"),
        None,
        "row 8 has 4 values, the header has 3; a decimal comma cannot stand between columns separated by commas",
    ),
    "commas and semicolons": (
        TEXT.replace("year,", "year;"),
        None,
        "the header 'year;hare,lynx' has commas and semicolons; write what separates the columns as table.dialect.del",
    ),
    "tabs and semicolons": (
        TEXT.replace(",", "\t").replace("hare", "hare; in thousands"),
        None,
        "the header 'year\\thare; in thousands\\tlynx' has semicolons and tabs; write",
    ),
    "spaces": (
        TEXT.replace(",", " "),
        None,
        "the header 'year hare lynx' is one column; allowed are several, separated by commas, semicolons, tabs, or by",
    ),
    "a row of units": (
        TEXT.replace("lynx\n", "lynx\nyear,10^3,10^3\n"),
        None,
        "row 1, column year: 'year' is not a finite number; row 1 looks like units: year, 10^3, 10^3; remove it, units",
    ),
    "a row of units with a gap": (
        TEXT.replace("lynx\n", "lynx\n,m,m\n"),
        None,
        "row 1, column year: no value (1 of 22 rows have none); remove the rows or fill them; row 1 looks like units: ",
    ),
    "a row of units with 1 and -": (
        TEXT.replace("lynx\n", "lynx\n1,-,m\n"),
        None,
        "row 1, column hare: '-' is not a finite number; row 1 looks like units: 1, -, m; remove it, units stand in",
    ),
    "one text in the first row": (
        TEXT.replace("0.5", "many", 1),
        None,
        "row 1, column hare: 'many' is not a finite number",
    ),
    "UTF-16": (
        TEXT.encode("utf-16"),
        None,
        "looks like UTF-16 (Excel's 'Unicode text'); write table.dialect.encoding: utf-16",
    ),
    "UTF-16 without a mark": (TEXT.encode("utf-16-le"), None, "looks like UTF-16"),
    "Windows": (
        TEXT.replace("lynx", "lynx °C").encode("cp1252"),
        None,
        "line 1 is not UTF-8, at the byte 0xb0; write its encoding as table.dialect.encoding, such as cp1252 (of Win",
    ),
    "another encoding than it says": (
        TEXT.replace("lynx", "lynx °C"),
        {"encoding": "ascii"},
        "line 1 is not ascii, at",
    ),
    "gzip without its name": (
        gzip.compress(TEXT.encode()),
        None,
        "not a CSV file: it is compressed by gzip; give it a name that ends in .csv.gz",
    ),
    "a workbook of Excel": (
        b"PK\x03\x04\x14\0",
        None,
        "not a CSV file: it is a zip archive or an Excel workbook; unpack",
    ),
    "a header only": ("year,hare,lynx\n", None, "no rows below the header"),
    "a header that is a comment": (
        "# " + TEXT,
        None,
        "no column year, hare, lynx; there are 1900, 0.5, 1000.0; these are numbers: a header that begins with a ",
    ),
    "blank cells": (TEXT.replace(",5.5,", ",,"), None, "row 6, column hare: no value (1 of 21 rows have none); remove"),
    "comments only": ("# nothing\n\n", None, "empty; expected a CSV file with a header"),
    "values without a name": (TEXT.replace(",1005.0", ",1005.0,7"), None, "row 6 has 4 values, the header has 3"),
    "a row that is too short": (TEXT.replace(",1005.0", ""), None, "row 6 has 2 values, the header has 3"),
    "a quote that is not closed": (TEXT.replace("1005.0", '"1005.0'), None, "not a CSV file: "),
}


@pytest.mark.parametrize(("content", "dialect", "message"), ASKED.values(), ids=ASKED)
def test_what_can_be_read_in_two_ways_is_asked(content, dialect, message, tmp_path):
    assert refusal(tmp_path, content, dialect).startswith(message), refusal(tmp_path, content, dialect)


def test_a_header_that_is_a_comment_is_read_where_comments_are_none(tmp_path):
    text = TEXT.replace("year", "#year")
    table = ONE_SERIES | {"file": str(tmp_path / "hare.csv"), "time": {"column": "#year", "unit": "year"}}
    (tmp_path / "hare.csv").write_text(text)
    assert read_dataset(table | {"dialect": {"comment": ""}})["state"].equals(dataset_of(hares(), ONE_SERIES)["state"])


def lynxes(cells, delimiter=";"):
    """A file with these in the column lynx, again and again."""
    lines = [f"{1900 + n}{delimiter}{n}{delimiter}{cells[n % len(cells)]}\n" for n in range(21)]
    return "".join([delimiter.join(["year", "hare", "lynx\n"]), *lines])


@pytest.mark.parametrize("delimiter", [";", ",", "\t"])
def test_points_that_may_separate_thousands_are_asked(delimiter, tmp_path):
    text = lynxes(["0", "87", "1.147", "987", "-12.034"], delimiter)
    assert refusal(tmp_path, text) == (
        "row 3, column lynx: '1.147' may be 1.147 or 1147, as three digits stand behind every point, and row 4 has "
        "'987'; write table.dialect.decimal: '.' if points are decimal, else remove them, as they separate thousands"
    )
    assert read(tmp_path, text, {"decimal": "."})["state"].values[..., 1].min() == -12.034
    millions = text.replace("-12.034", "1.147.500")
    assert "'1.147.500' is not a finite number; remove what separates thousands" in refusal(tmp_path, millions)


HONEST = {
    "a leading zero": ["0.250", "1.147", "987"],
    "another number of decimals": ["1.147", "987", "2.5"],
    "decimals everywhere": ["1.147", "12.034", "987.000"],
    "thousands without a point": ["1.147", "987", "1147"],
    "an exponent": ["1.147", "987", "1e3"],
    "small whole numbers": ["1.147", "2", "99", "0"],
    "more digits before the point": ["1.147", "987", "1234.500"],
}


@pytest.mark.parametrize("cells", HONEST.values(), ids=HONEST)
def test_points_that_must_be_decimal_are_not_asked(cells, tmp_path):
    assert read(tmp_path, lynxes(cells))["state"].values[0, :3, 1].tolist() == [
        float(cells[n % len(cells)]) for n in range(3)
    ]


def messages(caplog, level):
    return [record.getMessage() for record in caplog.records if record.levelname == level]


def test_comments_that_may_be_rows_are_told_by_their_lines(tmp_path, caplog):
    caplog.set_level("INFO")
    text = TEXT.replace("1903,", "# a frost, they say, in spring\n1903,").replace("\n1920,", "\n#1919.5,1,2\n1920,")
    read(tmp_path, "# hares, 1, 2\n" + text + "#1921,1,2\n# the end\n")
    where = f"{tmp_path / 'hare.csv'}: comments"
    assert [line for line in messages(caplog, "WARNING") if "comments that" in line] == [
        f"{where} that have as many values as a row are left out: line 24, 26 (2 in all); if they are data, write "
        'table.dialect.comment: ""'
    ]
    assert f"{where} below the header are left out: 2 in all" in messages(caplog, "INFO")


def test_other_comments_are_only_counted(tmp_path, caplog):
    caplog.set_level("INFO")
    read(tmp_path, "# hares\n#\n" + TEXT)
    assert "comments below" not in caplog.text
    read(tmp_path, TEXT.replace("1903,", '# "warm\n1903,'))
    assert "comments below the header are left out: 1 in all" in caplog.text
    assert "as many values as a row" not in caplog.text


def test_a_row_of_units_that_are_all_1_is_seen_by_the_other_columns(tmp_path):
    ones = ",".join("1" * law().shape[1])
    text = law().assign(depth=np.arange(8.0), note="ok").to_csv(index=False)
    file = tmp_path / "law.csv"
    for units in ("m,-", "m,", "m s-1,1"):
        file.write_text(text.replace("note\n", f"note\n{ones},{units}\n"))
        assert refused(read_dataset, LAW | {"file": str(file)}) == (
            f"{file}: row 1 looks like units: {ones.replace(',', ', ')}, {units.replace(',', ', ')}; remove it, units "
            "stand in the section table"
        )
    for data in ("-,ok", ",ok", "NA,ok", "1,m", "7,1"):
        file.write_text(text.replace("note\n", f"note\n{ones},{data}\n"))
        assert read_dataset(LAW | {"file": str(file)}).sizes["sample"] == 9


@pytest.mark.parametrize(
    ("dialect", "message"),
    [
        ({"delimiter": ", "}, "table.dialect.delimiter: ', ' is not one character, such as ';' or \"\\t\""),
        ({"delimiter": '"'}, "table.dialect.delimiter: '\"' is not one character"),
        ({"decimal": ";"}, "table.dialect.decimal: ';': allowed are '.' and ',', not the delimiter"),
        ({"decimal": ",", "delimiter": ","}, "table.dialect.decimal: ',': allowed are '.' and ','"),
        ({"encoding": "utf-99"}, "table.dialect.encoding: 'utf-99': allowed are utf-8, utf-16, cp1252"),
        ({"separator": ";"}, "table.dialect.separator: unknown key; allowed are delimiter, decimal, encoding, comment"),
        ("excel", "table.dialect: 'excel' is not a mapping"),
    ],
)
def test_a_dialect_that_is_none_is_refused(dialect, message, tmp_path):
    assert refusal(tmp_path, TEXT, dialect).startswith(message)


def test_a_netcdf_file_has_no_dialect(tmp_path):
    hares().set_index("year")[["hare"]].to_xarray().to_netcdf(tmp_path / "hare.nc")
    with pytest.raises(UserError, match=r"^table\.dialect: a NetCDF file has none; it is for CSV files$"):
        read_dataset(ONE_SERIES | {"file": str(tmp_path / "hare.nc"), "dialect": {"decimal": ","}})


@pytest.mark.slow
@given(st.data())
def test_a_table_is_read_back_from_every_dialect(tmp_path_factory, data):
    delimiter = data.draw(st.sampled_from(";\t|:"))
    decimal = data.draw(st.sampled_from(".,"))
    encoding = data.draw(st.sampled_from(["utf-8", "utf-16", "cp1252", "utf-8-sig"]))
    file = tmp_path_factory.getbasetemp() / "law.csv"
    numbers = st.integers(-(10**12), 10**12).map(lambda number: number / 997)
    values = data.draw(st.lists(numbers, min_size=8, max_size=8, unique=True))
    frame = law().assign(ir=values, Straße=1.0)
    frame.to_csv(file, index=False, sep=delimiter, decimal=decimal, encoding=encoding)
    dialect = {"delimiter": delimiter, "decimal": decimal, "encoding": encoding}
    table = LAW | {"missing": []}
    assert read_dataset(table | {"file": str(file), "dialect": dialect}).equals(dataset_of(frame, table))


# Cells


NUMBERS = {"1": 1, " -1.5 ": -1.5, "+.5e3": 500, "2.": 2, "1E-4": 1e-4, "007": 7, "-0": 0}
NO_NUMBERS = [
    "1_5",
    "inf",
    "Infinity",
    "nan",
    "1e",
    "0x1F",
    "١٢",
    "１２",
    "1 000",
    "1,5",
    "5%",
    "<1",
    "--1",
    "1d3",
    "True",
]


def test_a_number_is_digits_and_nothing_else():
    assert {text: number(text) for text in NUMBERS} == NUMBERS
    assert [text for text in NO_NUMBERS if not np.isnan(number(text))] == []
    assert number("1,5", ",") == 1.5 and np.isnan(number("1.5", ","))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_is_read_as_it_is_printed(value):
    assert number(repr(value)) == number(f" {value:.17e}") == number(repr(value).replace(".", ","), ",") == value


@pytest.mark.parametrize("text", ["1_5", "１２", "Infinity"])
def test_what_python_takes_for_a_number_is_refused(text, tmp_path):
    assert refusal(tmp_path, TEXT.replace("1005.0", text)) == (f"row 6, column lynx: {text!r} is not a finite number")


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        ([1.0, 2.0, np.float32(3)], ["1", "2", "3"]),
        (["1.0", "2.0"], ["1", "2"]),
        ([1, np.int64(2)], ["1", "2"]),
        (["1.0", "1.10"], ["1.0", "1.10"]),
        ([1.5, 2.0], ["1.5", "2"]),
        ([" a", b"b ", np.str_("c")], ["a", "b", "c"]),
        (["001", "1e3", "NO"], ["001", "1e3", "NO"]),
    ],
)
def test_labels_are_what_they_look_like(cells, found):
    assert labels(cells) == found


@pytest.mark.parametrize("kind", ["frame", "CSV", "NetCDF"])
def test_labels_of_whole_numbers_are_the_same_from_everywhere(kind, tmp_path):
    frame = sites().assign(site=lambda own: own["site"].map(dict(zip("abcd", [1.0, 2.0, 3.0, 4.0], strict=True))))
    table = changed(SITES, split={"train": [1, "3"], "validation": [2], "test": [4]})
    frame.to_csv(tmp_path / "sites.csv", index=False)
    frame.set_index(["site", "year"]).to_xarray().to_netcdf(tmp_path / "sites.nc")
    file = str(tmp_path / ("sites.csv" if kind == "CSV" else "sites.nc"))
    dataset = dataset_of(frame, table) if kind == "frame" else read_dataset(table | {"file": file})
    assert dataset["series"].values.tolist() == ["1", "2", "3", "4"]
    assert dataset["split"].values.tolist() == ["train", "validation", "train", "test"]


# What is no table


def test_frames_of_several_levels_and_other_things_are_refused():
    frame = hares()
    frame.columns = pd.MultiIndex.from_product([["a"], frame.columns])
    with pytest.raises(UserError) as caught:
        dataset_of(frame, ONE_SERIES)
    assert str(caught.value).startswith(
        "hare.csv: columns have names of 2 levels, such as ('a', 'year'); give each one name, as by data.columns = ["
    )
    with pytest.raises(UserError, match=r"no column year; there are hare, .*; the index is called so: data\.reset_ind"):
        dataset_of(hares().set_index("year"), ONE_SERIES)
    for thing in (hares()["hare"], hares().to_xarray()["hare"], "hare.csv", {"year": [1]}):
        with pytest.raises(UserError, match=r"^hare\.csv: \w+ is no pandas DataFrame and no xarray Dataset$"):
            dataset_of(thing, ONE_SERIES)


def test_a_value_behind_the_last_name_is_not_left_out(tmp_path):
    """As the decimals of a comma that was taken for the end of a column."""
    header, *lines = TEXT.replace(".0", "").splitlines()
    said = refusal(tmp_path, "\n".join([header + ",", *(line + ",5" for line in lines)]))
    assert said.startswith("row 1 has a value behind the last name of the header, 'lynx'") and "decimal comma" in said
