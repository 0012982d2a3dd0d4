"""Fields of the user's own, on a grid: a NetCDF file becomes a dataset, trains, and is refused where it is wrong."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.fields import TABLE, sea

import hybridsam
from hybridsam.core import modules, settings
from hybridsam.core.errors import UserError
from hybridsam.core.scales import units_of
from hybridsam.data.table import dataset_of, read_dataset

ROOT = Path(__file__).resolve().parents[1]
BY_TIME = {"split": {"by": "time", "train": 4, "validation": 2, "test": 2}, "window": 2, "series": ""}


def test_fields_become_samples_whatever_the_order_of_their_dimensions():
    dataset = dataset_of(sea(), TABLE)
    assert dataset["state"].dims == ("sample", "time", "y", "x", "component")
    assert dataset["state"].shape == (4, 3, 3, 5, 2)
    assert dataset["series"].values.tolist() == list("abcd")
    assert dataset["split"].values.tolist() == ["train", "train", "validation", "test"]
    assert dataset["state"][2, 1, 2, 4].values.tolist() == [2124.0, -2124.0]
    assert dataset["y"].values.tolist() == [50, 55, 60]
    assert dataset["y"].attrs == {"long_name": "lat", "units": "degrees_north"}
    assert dataset["x"].values.tolist() == [0, 1, 2, 3, 4] and dataset["x"].attrs["units"] == "1"
    assert units_of(dataset["state"]) == {"sst": "degC", "ice": "1"}


def test_one_series_of_fields_is_split_by_time():
    dataset = dataset_of(sea(np.arange(8.0)).isel(basin=0, drop=True), TABLE | BY_TIME)
    assert dataset["state"].shape == (4, 2, 3, 5, 2)
    assert dataset["split"].values.tolist() == ["train", "train", "validation", "test"]
    assert dataset["start"].values.tolist() == [0, 2, 4, 6]
    assert (dataset["state"][:, :, 0, 0, 0] == [[0, 100], [200, 300], [400, 500], [600, 700]]).all()


@pytest.mark.slow
def test_fields_from_a_file_train_as_those_that_were_simulated(tmp_path):
    """The data of the example of a stream, written as somebody's NetCDF file."""
    task = settings.load(str(ROOT / "examples/stream.yaml"))
    module = modules.load(str(ROOT / "examples/stream.py"))
    small = {"points": 6, "steps": 3, "train": 3, "validation": 2, "test": 2}
    simulated = module.simulate(settings.values_of(task["data"]) | small)
    theirs = simulated["state"].isel(component=0, drop=True).rename(sample="run").drop_vars("split")
    theirs.transpose("x", "time", "run", "y").to_dataset(name="c").assign_coords(run=np.arange(7)).to_netcdf(
        tmp_path / "stream.nc"
    )
    table = {
        "file": str(tmp_path / "stream.nc"),
        "time": {"column": "time", "unit": "s"},
        "series": "run",
        "state": {"c": "1"},
        "axes": ["y", "x"],
        "split": {"by": "series", "train": [0, 1, 2], "validation": [3, 4], "test": [5, 6]},
    }
    own = read_dataset(table)
    assert np.array_equal(own["state"], simulated["state"])
    model = module.build(task["model"] | {"channels": [3]})
    runs = [
        hybridsam.fit(model, data, {"sam": [0.05]}, 1, "cpu", progress=False, iterations=2, record_every=1)
        for data in (own, simulated)
    ]
    assert np.array_equal(runs[0]["theta"], runs[1]["theta"])
    assert "theta_error" not in runs[0]
    assert model.data(own, "test", torch.float32).inputs["states"].shape == (1, 2, 4, 6, 6, 1)


def hole(data):
    data["sst"][{"lon": 1, "day": 2, "basin": 3, "lat": 0}] = np.nan
    return data


@pytest.mark.parametrize(
    ("change", "table", "message"),
    [
        (
            hole,
            {},
            "sea.nc: the variable sst has no value at basin d, day 2.0, lat 50.0, lon 1 (1 of 180 have none); cut",
        ),
        (lambda data: data, {"state": {"sss": "1"}}, "sea.nc: no variable sss; there are sst, ice, depth"),
        (lambda data: data, {"state": {"depth": "m"}}, "depth(lat) has other dimensions than basin, day, lat, lon"),
        (
            lambda data: data,
            {"axes": ["lat", "x"]},
            "sst(lon, day, basin, lat) has other dimensions than basin, day, lat, x",
        ),
        (lambda data: data.assign_coords(day=[0.0, 2, 1]), {}, "1 does not come after 2"),
        (
            lambda data: data.astype("datetime64[s]"),
            {},
            "the variable sst is datetime64[s]; it must consist of numbers",
        ),
        (lambda data: data.to_dataframe(), {}, "a table has no grid; table.axes needs a NetCDF file"),
        (lambda data: data, {"axes": ["lat"]}, "table.axes: ['lat'] is not a list of two dimensions"),
        (lambda data: data, {"axes": ["lat", "lat"]}, "table.axes: ['lat', 'lat'] is not a list of two dimensions"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(change, table, message):
    with pytest.raises(UserError) as error:
        dataset_of(change(sea()), TABLE | table)
    assert message in str(error.value) and len(str(error.value).splitlines()) == 1
