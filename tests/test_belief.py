"""What pages say of whether theta may be believed."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.known import ASKED, K, Known, members, oscillator, states, with_missing

from hybridsam.analysis.identification import as_table
from hybridsam.analysis.trust import with_verdicts
from hybridsam.core import records
from hybridsam.report import belief


def written(folder, assume=ASKED, model=None):
    """The files of a task whose science lacks a damping."""
    from hybridsam.analysis.identification import identify

    model = model or Known([with_missing(lambda x: -0.3 * x[..., 1])] * 4, oscillator, K)
    found = with_verdicts(identify(model, members(4), states(), assume), [True])
    folder.mkdir(parents=True, exist_ok=True)
    records.write(found, folder / "identification.nc", "identification", "theta")
    as_table(found).to_csv(folder / "identification.csv", index=False)
    words = pd.DataFrame(
        {"parameter": ["k"], "unit": ["s-1"], **{name: found[name].values for name in ("verdict", "sentence")}}
    )
    words.to_csv(folder / "verdict.csv", index=False)
    return found


def test_a_task_has_its_verdict_and_a_row_for_each_assumption(tmp_path):
    found = written(tmp_path / "mine")
    page = belief.of_task(tmp_path / "mine")
    assert page.startswith("<ul><li><strong>")
    assert f"<strong>{found['verdict'].item()}</strong>: k ends where it began" in page
    for title in found["assumption"].values:
        assert f"<th>{title}</th>" in page
    assert "an ensemble of 4 runs of plain erm" in page
    assert "whose θ started between 0.4 and 2 s" in page
    assert "<td>–</td>" in page, "the assumption that is blind has no theta"
    assert "<td>&lt; 0.001</td>" in page
    assert "nan" not in page.lower()


def test_the_entry_page_has_a_line_for_each_parameter_of_each_task(tmp_path):
    for task in ("one", "other"):
        written(tmp_path / task)
    page = belief.of_experiment(tmp_path, ["one", "other"])
    assert page.count("<li>") == 2
    assert "<a href='other.html'>other</a>: <strong>" in page


def test_many_parameters_with_the_same_verdict_share_a_line_of_the_entry_page(tmp_path):
    rows = [(name, "undecided", f"{name} is not known.") for name in "abcd"]
    rows += [(name, "depends on the assumption", f"{name} is anything.") for name in "ef"]
    (tmp_path / "mine").mkdir()
    pd.DataFrame(rows, columns=["parameter", "verdict", "sentence"]).to_csv(tmp_path / "mine/verdict.csv", index=False)
    page = belief.of_experiment(tmp_path, ["mine"])
    assert "<strong>undecided</strong>: a, b, c, d.</li>" in page
    for name in "ef":
        assert f"<strong>depends on the assumption</strong>: {name} is anything.</li>" in page


def test_results_of_an_older_version_say_that_nothing_is_known(tmp_path):
    assert "no verdict.csv" in belief.of_task(tmp_path)
    assert "no verdict.csv" in belief.of_experiment(tmp_path, ["mine"])


def test_a_model_that_cannot_be_asked_says_why(tmp_path):
    model = Known([with_missing(lambda x: torch.zeros_like(x[..., 0]))] * 4, oscillator, K)
    model.comparison = lambda data: None
    found = written(tmp_path, model=model)
    assert found["verdict"].item() in ("undecided", "follows its start")
    assert "no assumption can be asked" in belief.of_task(tmp_path)


def test_too_few_runs_that_fit_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr("hybridsam.analysis.ensemble.FEWEST", 5)
    found = written(tmp_path)
    assert found["verdict"].item() == "undecided"
    page = belief.of_task(tmp_path)
    assert page.count("4 of 4 runs of erm fit the validation data better than their mean would") == 2


@pytest.mark.parametrize("kind", ["identification"])
def test_the_file_is_read_back_as_it_was(tmp_path, kind):
    found = written(tmp_path)
    read = records.read(tmp_path / "identification.nc", kind)
    np.testing.assert_array_equal(read["theta"], found["theta"])
    assert read["verdict"].values.tolist() == found["verdict"].values.tolist()


def test_units_are_printed_as_figures_print_them_and_no_line_ends_in_them(tmp_path):
    written(tmp_path / "mine")
    for page in (belief.of_task(tmp_path / "mine"), belief.of_experiment(tmp_path, ["mine"])):
        said = page.split("</li>")[0]
        assert "\N{NO-BREAK SPACE}s⁻¹ (" in said and "s-1" not in said
