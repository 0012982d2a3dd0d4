"""NetCDF files: round trips, refusal of what is not ours, writing whole or not at all."""

import json

import numpy as np
import pytest
import xarray as xr

from hybridsam.core import records
from hybridsam.core.errors import UserError
from hybridsam.core.files import write_whole
from hybridsam.core.provenance import fingerprint
from hybridsam.core.records import RUN, read, read_numbers, write


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "dataset.nc"


@pytest.fixture
def written(dataset, path):
    write(dataset, path, "dataset", "A small pendulum")
    return path


def folder(path):
    return sorted(file.name for file in path.parent.iterdir())


# Round trip


def test_a_dataset_is_read_as_it_was_written(dataset, written):
    found = read(written, "dataset")
    xr.testing.assert_equal(found, dataset)
    assert fingerprint(found) == fingerprint(dataset)
    for name, variable in dataset.variables.items():
        assert found[name].attrs == variable.attrs
        assert found[name].dtype.kind == variable.dtype.kind or variable.dtype.kind in "OU"


def test_attributes_hold_kind_title_and_provenance(dataset, written):
    attributes = read(written, "dataset").attrs
    assert attributes["hybridsam_kind"] == "dataset"
    assert attributes["title"] == "A small pendulum"
    assert attributes["Conventions"].startswith("CF-")
    assert set(json.loads(attributes["versions"])) >= {"python", "torch", "numpy"}
    assert {"history", "references", "git_commit"} <= set(attributes)
    assert dataset.attrs.items() <= attributes.items()


def test_a_file_that_is_written_again_as_another_kind_has_that_kind(written, tmp_path):
    found = read(written, "dataset")
    runs = xr.Dataset({name: (dims, np.zeros((1,) * len(dims))) for name, dims in records.REQUIRED["runs"].items()})
    write(runs.assign_attrs(found.attrs), tmp_path / "runs.nc", "runs", "Runs")
    attributes = read(tmp_path / "runs.nc", "runs").attrs
    assert attributes["title"] == "Runs"


def test_writing_again_replaces_the_file(dataset, written):
    write(dataset.isel(sample=[0]), written, "dataset", "One sample")
    assert read(written, "dataset").sizes["sample"] == 1


def test_nothing_but_the_file_is_left(written):
    assert folder(written) == ["dataset.nc"]


# Numbers of run files


@pytest.fixture
def run_file(tmp_path):
    """A run file of two methods, rhos and seeds."""
    path = tmp_path / "runs.nc"
    runs = xr.Dataset(
        {
            name: (dims, np.random.default_rng(0).random([2] * len(dims)))
            for name, dims in records.REQUIRED["runs"].items()
        },
        coords={"training_method": ["erm", "sam"], "rho": [0.0, 0.1], "seed": [3, 4], "parameter": ["a", "b"]},
        attrs={"seconds": 1.5, "device": "cpu"},
    )
    runs["status"] = RUN, np.array(["completed", "diverged"] * 4, dtype=object).reshape(2, 2, 2)
    runs["theta"] = runs["theta"].astype(np.float32)
    runs["skipped_updates"] = RUN, np.arange(8).reshape(2, 2, 2)
    runs["y_error"][0, 0, 0] = np.nan
    runs["prediction"] = (*RUN, "example"), np.ones((2, 2, 2, 5))
    runs["learning_rate"] = "step", [1.0, 0.5]
    write(runs, path, "runs", "Runs")
    return path


def test_numbers_are_those_that_xarray_reads(run_file):
    whole, found = read(run_file, "runs"), read_numbers(run_file)
    assert set(found.variables) == {*RUN, *records.REQUIRED["runs"], "skipped_updates"}
    for name, values in found.variables.items():
        np.testing.assert_array_equal(values, whole[name].values)
        assert not np.ma.isMaskedArray(values)
        assert values.dtype == whole[name].dtype or whole[name].dtype.kind in "OU"
    assert found.attrs == whole.attrs


def test_a_file_of_an_older_version_has_the_axis_of_today(run_file):
    """Which was called method, by which xarray's sel does not select."""
    expected, numbers = read(run_file, "runs"), read_numbers(run_file)
    old = expected.rename(training_method="method")
    write(old, run_file, "runs", "Old")
    assert read(run_file, "runs").equals(expected)
    assert read_numbers(run_file).variables.keys() == numbers.variables.keys()
    assert expected.sel(training_method="sam", seed=4)["theta"].dims == ("rho", "parameter")


# Refusals


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.95, 0.999])
def test_a_truncated_file_is_refused_with_its_path(written, share):
    whole = written.read_bytes()
    written.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match="not a readable NetCDF file") as refused:
        read(written, "dataset")
    assert str(written) in str(refused.value)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.95, 0.999])
def test_of_a_truncated_run_file_no_numbers_are_read(run_file, share):
    whole = run_file.read_bytes()
    run_file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match="not a readable NetCDF file") as refused:
        read_numbers(run_file)
    assert str(run_file) in str(refused.value)


def test_what_a_file_may_lack_has_its_dimensions_where_it_is_there(run_file):
    runs = read(run_file, "runs")
    runs["validation_errors"] = (*RUN, "validation_sample"), np.ones((2, 2, 2, 5))
    write(runs, run_file, "runs", "With it")
    assert "validation_errors" in read(run_file, "runs") and "validation_errors" in read_numbers(run_file).variables
    write(runs.rename(validation_sample="sample"), run_file, "runs", "Changed")
    for reading in (lambda: read(run_file, "runs"), lambda: read_numbers(run_file)):
        with pytest.raises(UserError, match=r"validation_errors\(.*, validation_sample\) is .* other dimensions"):
            reading()


def test_of_other_files_no_numbers_are_read(run_file, written):
    with pytest.raises(UserError, match=r"dataset\.nc: expected a hybridsam runs file, found dataset"):
        read_numbers(written)
    write(read(run_file, "runs").drop_vars("status"), run_file, "runs", "Changed")
    with pytest.raises(UserError, match=r"the variable status\(training_method, rho, seed\) is missing") as refused:
        read_numbers(run_file)
    assert str(run_file) in str(refused.value)


@pytest.mark.parametrize("content", [b"time,angle\n0,1\n", b"\x00" * 1000, b"\x89HDF\r\n\x1a\n", b"CDF\x01"])
def test_a_file_that_is_no_netcdf_is_refused_with_its_path(tmp_path, content):
    path = tmp_path / "table.nc"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a readable NetCDF file") as refused:
        read(path, "dataset")
    assert str(path) in str(refused.value)


def test_a_missing_file_and_a_folder_are_refused_with_their_path(tmp_path):
    for path in (tmp_path / "missing.nc", tmp_path):
        with pytest.raises(UserError, match="no such file") as refused:
            read(path, "dataset")
        assert str(path) in str(refused.value)


def test_a_foreign_netcdf_file_is_refused_with_its_path(dataset, tmp_path):
    path = tmp_path / "foreign.nc"
    dataset.to_netcdf(path, engine="netcdf4")
    with pytest.raises(UserError, match="expected a hybridsam dataset file, found some other NetCDF file") as refused:
        read(path, "dataset")
    assert str(path) in str(refused.value)


def test_another_kind_is_refused_with_the_path_and_both_kinds(written):
    with pytest.raises(UserError, match="expected a hybridsam cube file, found dataset") as refused:
        read(written, "cube")
    assert str(written) in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda dataset: dataset.drop_vars("split"),
        lambda dataset: dataset.drop_vars("split").assign_coords(split=("time", ["train"] * 5)),
    ],
    ids=["missing", "other dimensions"],
)
def test_a_variable_that_is_missing_or_has_other_dimensions_is_named_with_the_path(dataset, path, change):
    write(change(dataset), path, "dataset", "Changed")
    with pytest.raises(UserError, match=r"the variable split\(sample\) is missing or has other dimensions") as refused:
        read(path, "dataset")
    assert str(path) in str(refused.value)


# Whole or not at all


def fail(part):
    part.write_bytes(b"half of it")
    raise OSError("no space left on device")


def interrupt(part):
    part.write_bytes(b"half of it")
    raise KeyboardInterrupt


@pytest.mark.parametrize(("writer", "error"), [(fail, OSError), (interrupt, KeyboardInterrupt)])
def test_a_failing_write_leaves_no_file(path, writer, error):
    with pytest.raises(error):
        write_whole(path, writer)
    assert folder(path) == []


@pytest.mark.parametrize(("writer", "error"), [(fail, OSError), (interrupt, KeyboardInterrupt)])
def test_a_failing_write_leaves_an_earlier_file_as_it_was(written, writer, error):
    before = written.read_bytes()
    with pytest.raises(error):
        write_whole(written, writer)
    assert written.read_bytes() == before
    assert folder(written) == ["dataset.nc"]


def test_a_dataset_that_netcdf_cannot_hold_leaves_an_earlier_file_as_it_was(dataset, written):
    before = written.read_bytes()
    with pytest.raises(TypeError):
        write(dataset.assign_attrs(truth={"omega": 1.0}), written, "dataset", "Not possible")
    assert written.read_bytes() == before
    assert folder(written) == ["dataset.nc"]


def test_the_file_appears_only_when_it_is_whole(path):
    def look(part):
        part.write_text("whole")
        assert part.parent == path.parent
        assert not path.exists()

    write_whole(path, look)
    assert path.read_text() == "whole"
