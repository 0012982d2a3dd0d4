"""Verdicts on theta: which kind, by which numbers, in words that hold them."""

import json
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from helpers.project import ROOT

import hybridsam
from hybridsam.analysis.thresholds import Thresholds
from hybridsam.analysis.trust import verdicts, with_verdicts
from hybridsam.core.errors import UserError
from hybridsam.core.settings import typed


def identification(slope=0.05, not_arrived=None, allowed=None, **assumptions):
    """Of one parameter and six runs: title -> theta, spread_ratio; intervals, also of the slope, are 0.1 wide."""
    theta, ratio = np.array(list(assumptions.values())).T if assumptions else np.empty((2, 0))
    titles = [title.replace("_", " ") for title in assumptions]
    late = {} if not_arrived is None else {"not_arrived": ("parameter", [not_arrived])}
    ends = zip(("allowed_low", "allowed_high"), allowed or (), strict=False)
    return xr.Dataset(
        late
        | {name: ("parameter", [value]) for name, value in ends}
        | {
            "trained": (("member", "parameter"), np.ones((6, 1))),
            "theta": (("assumption", "parameter"), theta[:, None]),
            "low": (("assumption", "parameter"), theta[:, None] - 0.05),
            "high": (("assumption", "parameter"), theta[:, None] + 0.05),
            "spread_ratio": ("assumption", ratio),
            "slope": (("end", "parameter"), np.array([[slope], [slope - 0.05], [slope + 0.05]])),
        },
        coords={"assumption": titles, "parameter": ["k"], "parameter_units": ("parameter", ["s-1"])},
    )


def verdict(tolerance="5 %", told=True, **options):
    [found] = verdicts(identification(**options), [told], tolerance)
    return found


AGREE = {"small": (1.0, 9.0), "straight": (1.01, 1.1), "depends_on_velocity": (1.02, 0.9)}
NOTHING = {"straight": (np.nan, 1.0), "depends_on_position": (np.nan, 30.0)}
CASES = {
    "assumptions that agree": ({**AGREE}, "fixed by an assumption"),
    "one that is far from the others": ({**AGREE, "straight": (1.4, 1.1)}, "depends on the assumption"),
    "one that is far, but rejected": ({**AGREE, "straight": (1.4, 2.1)}, "fixed by an assumption"),
    "small, which nothing can reject, is far": ({**AGREE, "small": (1.4, 99.0)}, "depends on the assumption"),
    "small alone, which nothing can test": ({"small": (1.0, 9.0), **NOTHING}, "undecided"),
    "small, and another that is rejected": ({"small": (1.0, 9.0), "straight": (1.0, 9.0)}, "undecided"),
    "none that says anything": (NOTHING, "undecided"),
    "none that fits": ({"straight": (1.0, 5.0)}, "undecided"),
    "none that can be asked": ({}, "undecided"),
    "starts that stay": ({**AGREE, "slope": 0.31}, "follows its start"),
    "starts that may stay or not": ({**AGREE, "slope": 0.29}, "fixed by an assumption"),
    "all start at the same place": ({**AGREE, "slope": np.nan}, "fixed by an assumption"),
    "starts that stay and nothing else": ({"slope": 1.0}, "follows its start"),
    "nothing said, and most runs on their way": ({"not_arrived": 4}, "undecided: has not arrived"),
    "nothing said, and few runs on their way": ({"not_arrived": 3}, "undecided"),
    "a profile of few values": ({**AGREE, "allowed": (0.99, 1.03)}, "fixed by the data"),
    "a profile of few values, by starts that stay": ({"slope": 1.0, "allowed": (0.99, 1.03)}, "fixed by the data"),
    "a profile of many values": ({**AGREE, "allowed": (0.5, 1.5)}, "fixed by an assumption"),
    "a profile that ends on one side": ({**AGREE, "allowed": (-np.inf, 1.0)}, "fixed by an assumption"),
    "a profile that ends on the other": ({**AGREE, "allowed": (1.0, np.inf)}, "fixed by an assumption"),
    "a profile that ends nowhere": ({"allowed": (-np.inf, np.inf)}, "undecided"),
    "a profile without a refitting": ({"allowed": (np.nan, np.nan)}, "undecided"),
    "a science that does not tell it, by a profile": ({"told": False, "allowed": (1.0, 1.01)}, "structurally not"),
    "a science that does not tell it": ({**AGREE, "told": False, "slope": 1.0}, "structurally not"),
}


@pytest.mark.parametrize(("options", "kind"), CASES.values(), ids=CASES)
def test_kinds(options, kind):
    found = verdict(**options)
    assert (found.parameter, found.kind) == ("k", kind)
    assert found.sentence.startswith("k ")
    assert found.sentence.endswith(".") and "nan" not in found.sentence and "  " not in found.sentence


def test_the_sentence_has_the_numbers_their_unit_and_what_they_rest_on():
    assert verdict(**AGREE).sentence == (
        "k is 1 s-1 (0.95 to 1.05) if what the science lacks is small, 1.01 s-1 (0.96 to 1.06) if it is straight, and "
        "1.02 s-1 (0.97 to 1.07) if it depends on velocity."
    )
    far = verdict(**AGREE | {"straight": (1.4, 1.1)}).sentence
    assert far.startswith("k is anything from 1 s-1 to 1.4 s-1: 1 s-1 (")
    assert verdict(**AGREE | {"straight": (1.4, 2.1)}).sentence.endswith(" Rejected by the data: straight.")
    assert verdict(small=(1.0, 9.0)).sentence == (
        "k is not known: nothing but 1 s-1 (0.95 to 1.05) if what the science lacks is small, which nothing can test."
    )
    assert "(slope 0.31, 0.26 to 0.36): training does not fix it; 1 s-1" in verdict(slope=0.31, **AGREE).sentence


@pytest.mark.parametrize(
    ("allowed", "says"),
    [
        ((0.5, 1.5), "allow values above 0.5 s-1 and below 1.5 s-1."),
        ((0.5, np.inf), "allow values above 0.5 s-1."),
        ((-np.inf, 1.5), "allow values below 1.5 s-1."),
        ((-np.inf, np.inf), "allow every value that was tried."),
    ],
)
def test_what_the_data_allow_whatever_is_assumed_is_said_beside_any_verdict(allowed, says):
    for options in ({**AGREE}, {}, {"slope": 1.0}):
        assert verdict(allowed=allowed, **options).sentence.endswith(says)


def test_runs_that_have_not_arrived_are_counted_in_the_sentence():
    assert (
        "in 4 of 6 runs it has not arrived, so longer training may; 1 s-1"
        in verdict(slope=0.31, not_arrived=4, **AGREE).sentence
    )
    assert "arrived" not in verdict(slope=0.31, not_arrived=0, **AGREE).sentence


def test_thresholds_are_for_the_user_to_say():
    [found] = verdicts(identification(slope=0.31, **AGREE), [True], thresholds=Thresholds(follows=0.4))
    assert found.kind == "fixed by an assumption"
    [found] = verdicts(identification(straight=(1.0, 5.0)), [True], thresholds=Thresholds(rejected=6))
    assert found.kind == "fixed by an assumption"


@pytest.mark.parametrize("given", [{"follows": 0}, {"blind": -1}, {"rejected": float("nan")}, {"other": 1}])
def test_a_threshold_that_is_none_is_refused(given):
    with pytest.raises(UserError, match=rf"thresholds\.{next(iter(given))}: "):
        typed(Thresholds, given, "thresholds")


@pytest.mark.parametrize(
    ("tolerance", "kind"), [("5 %", "fixed"), ("1%", "depends"), (0.03, "fixed"), (0.01, "depends")]
)
def test_what_counts_as_one_value_is_for_the_user_to_say(tolerance, kind):
    assert verdict(tolerance, **AGREE).kind.startswith(kind)
    assert verdict({"k": tolerance}, **AGREE).kind.startswith(kind)
    assert verdict({}, **AGREE).kind.startswith("fixed")


@pytest.mark.parametrize("tolerance", [0, -1, "much", "0 %", "-3 %", True, None, float("inf")])
def test_a_tolerance_that_is_none_is_refused(tolerance):
    with pytest.raises(UserError, match=r"tolerance\.k: .* is not a number above 0"):
        verdict(tolerance, **AGREE)


def test_a_tolerance_of_another_parameter_is_refused():
    with pytest.raises(UserError, match=r"tolerance\.m: not a parameter; there are k"):
        verdict({"m": 0.1}, **AGREE)


def test_the_dataset_holds_both():
    found = with_verdicts(identification(**AGREE), np.array([True]))
    assert found["verdict"].sel(parameter="k").item() == "fixed by an assumption"
    assert found["sentence"].dims == ("parameter",)


def test_fit_says_whether_theta_may_be_believed_and_so_does_the_table_of_parameters(model, dataset, training):
    """From three runs of erm on, by what identify finds; fewer say nothing."""
    how = {"iterations": 20, "device": "cpu", "progress": False}
    runs = hybridsam.fit(model, dataset, {"erm": [0], "sam": [0.05]}, seeds=3, **how)
    found = hybridsam.identify(model, runs.drop_vars(["verdict", "sentence"]), dataset)
    for name in ("verdict", "sentence"):
        assert runs[name].values.tolist() == found[name].values.tolist()
    [row] = hybridsam.parameter_table(model, runs.sel(training_method="sam", rho=0.05)).to_dict("records")
    assert row["verdict"] == found["verdict"].item() and row["sentence"] == found["sentence"].item()
    assert "verdict" not in hybridsam.fit(model, dataset, {"erm": [0]}, seeds=2, **how)
    assert "verdict" not in hybridsam.fit(model, dataset, {"sam": [0.05]}, seeds=3, **how)


def test_runs_that_are_trained_are_not_lost_where_no_verdict_can_be_found(model, dataset, monkeypatch, caplog):
    def broken(*arguments):
        raise ValueError("what nobody expected")

    monkeypatch.setattr("hybridsam.api.identify", broken)
    runs = hybridsam.fit(model, dataset, {"erm": [0]}, seeds=3, iterations=2, device="cpu", progress=False)
    assert (runs["status"] == "completed").all() and "verdict" not in runs
    assert "no verdict on theta: what nobody expected" in caplog.text


def test_runs_on_their_way_are_counted_from_what_they_say_of_theta(model, dataset):
    runs = hybridsam.fit(model, dataset, {"erm": [0]}, seeds=4, iterations=20, device="cpu", progress=False)
    late = [0.0, 0.0, 1.0, -1.0]  # as much training again would move theta by this
    moved = runs.assign(theta_drift=(runs["theta_drift"].dims, np.reshape(late, runs["theta_drift"].shape)))
    found = hybridsam.identify(model, moved, dataset, ["small"])
    assert found["not_arrived"].values.tolist() == [2]


@pytest.mark.slow
def test_the_notebook_says_what_may_be_believed_of_theta(tmp_path):
    """examples/identify.ipynb, by Jupyter, with few iterations: every cell comes to its end and shows something."""
    executed = tmp_path / "identify.ipynb"
    command = [sys.executable, "notebooks/execute.py", "examples/identify.ipynb", executed, "iterations=60"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    cells = [cell for cell in json.loads(executed.read_text())["cells"] if cell["cell_type"] == "code"]
    shown = [text for cell in cells if (text := "".join(map(str, cell["outputs"])))]
    expected = ["omega is", "spread_ratio", "image/png", "compatible", "Whatever is assumed"]
    for words, said in zip(expected, shown, strict=True):
        assert words in said


def test_a_profile_of_other_parameters_is_refused(model, dataset):
    runs = hybridsam.fit(model, dataset, {"erm": [0]}, seeds=3, iterations=2, device="cpu", progress=False)
    other = xr.Dataset(coords={"parameter": ["other"]})
    with pytest.raises(UserError, match="profile: of other, and the model has omega"):
        hybridsam.identify(model, runs, dataset, profile=other)
