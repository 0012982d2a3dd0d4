"""Truths that are drawn at random, and how often what is said of them is right: hand-made tables, and once through."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.project import ROOT, names

from hybridsam.analysis import calibration, reliability
from hybridsam.analysis.calibration import SCIENCES, TERMS, Truth, drawn, from_fields, trajectories, truths
from hybridsam.cli.main import main
from hybridsam.report.calibration_page import as_page


def many(science, n=400):
    rng = np.random.default_rng(0)
    return [drawn(science, rng) for _ in range(n)]


@pytest.mark.parametrize("science", SCIENCES)
def test_truths_are_drawn_within_their_ends(science):
    made = many(science)
    known = SCIENCES[science]
    theta = np.array([truth.theta for truth in made])
    assert known.between[0] <= theta.min() and theta.max() <= known.between[1] and np.ptp(theta) > 0
    assert {len(truth.missing) for truth in made} == {1, 2}
    assert set().union(*(truth.missing for truth in made)) == set(TERMS)
    signs = {np.sign(size) for truth in made for size in truth.missing.values()}
    assert signs == {-1, 1}
    imitated = np.mean([truth.is_imitated for truth in made])
    assert imitated == pytest.approx(1.5 / len(TERMS), abs=0.06), "1.5 terms of 8, on average"


def test_the_missing_part_is_as_large_as_it_says():
    rng = np.random.default_rng(1)
    states = rng.uniform(-1.5, 1.5, (2, 20_000))
    for truth in many("pendulum", 20):
        own = truth.theta * np.sqrt(np.square(truth.known.term(np, *states)).mean())
        for name, size in truth.missing.items():
            share = np.sqrt(np.square(size * TERMS[name](np, *states)).mean()) / own
            assert 0.09 < share < 0.55


def test_the_field_of_a_truth_is_its_equation():
    truth = Truth("pendulum", 1.3, {"p|p|": -0.2, "1": 0.5})
    q, p = 0.7, -1.1
    found = truth.field(torch.tensor([[q, p]], dtype=torch.float64))[0]
    np.testing.assert_allclose(found, [p, -1.3 * np.sin(q) - 0.2 * p * abs(p) + 0.5])


def test_an_assumption_holds_for_what_it_allows():
    missing = {"p": 0.1, "1": 0.1}
    assert Truth("pendulum", 1, missing).allows("straight") and Truth("pendulum", 1, missing).allows("small")
    assert Truth("pendulum", 1, missing).allows("depends on velocity")
    assert not Truth("pendulum", 1, missing).allows("depends on position")
    assert not Truth("pendulum", 1, {"q p": 0.1}).allows("straight")
    assert Truth("pendulum", 1, {"sin q": 0.1}).is_imitated and not Truth("spring", 1, {"sin q": 0.1}).is_imitated


def test_the_same_seed_draws_the_same_truths_and_none_runs_away():
    (first, data), (second, _) = truths("spring", 2)
    [(again, same)] = truths("spring", 1)
    assert again == first != second
    assert data.identical(same)
    assert float(abs(data["state_true"]).max()) < calibration.FAR
    assert trajectories(Truth("spring", 0.1, {"q": 5.0}), 0) is None, "which grows as exp(2.2 t)"
    assert trajectories(Truth("spring", 0.1, {"q^3": 5.0}), 0) is None, "which is infinite after a finite time"


@pytest.mark.parametrize(
    ("truth", "right"),
    [
        (Truth("pendulum", 1.2, {"p": -0.3}), ["straight", "depends on velocity"]),
        (Truth("damper", 0.3, {"q^3": -0.3}), ["depends on position"]),
        (Truth("pendulum", 1.2, {"sin q": -0.4}), []),
    ],
    ids=["damping", "hardening", "imitated"],
)
def test_what_is_said_of_a_known_field_is_right_where_the_assumption_is_and_of_an_imitated_one_never(truth, right):
    dataset = trajectories(truth, 0)
    found = from_fields(truth, dataset, 0)
    value = found["theta"].isel(parameter=0).to_series()
    for title in right:
        assert value[title] == pytest.approx(truth.theta, rel=0.02)
    if truth.is_imitated:
        assert (value.dropna() > 1.5).all() and found["verdict"].item() == "fixed by an assumption"
    errors = found["theta_of_members"].sel(assumption="small").values
    assert np.ptp(errors) > 0, "members differ"


def table(**changes):
    """Two truths of each science; straight holds for the first and is right, and is rejected for the second."""
    rows = []
    for science in SCIENCES:
        for number, holds in enumerate((True, False)):
            same = {"science": science, "source": "fields", "truth": number, "missing": "", "imitated": False}
            same |= {"theta_true": 1.0, "verdict": "fixed by an assumption" if holds else "undecided"}
            of = {"information": 1.0, "low": 0.9, "high": 1.1}
            rows.append(same | of | {"assumption": "small", "holds": True, "theta": 1.3, "spread_ratio": 9.0})
            other = {"theta": 1.01, "spread_ratio": 1.0} if holds else {"theta": 2.0, "spread_ratio": 4.0}
            rows.append(same | of | {"assumption": "straight", "holds": holds} | other)
    return pd.DataFrame(rows).assign(**changes)


def test_shares_have_the_interval_of_wilson():
    hits = pd.Series([True] * 8 + [False] * 2)
    rate, low, high = reliability.share(hits)
    z, n = 1.959963984540054, 10
    centre, half = (0.8 + z**2 / (2 * n)) / (1 + z**2 / n), z * (0.16 / n + z**2 / (4 * n**2)) ** 0.5 / (1 + z**2 / n)
    assert (rate, low, high) == pytest.approx((0.8, centre - half, centre + half))
    assert np.isnan(reliability.share(hits[:0])).all()


def test_verdicts_are_right_whose_median_is_near_and_hold_whose_range_does():
    rows = reliability.of_verdicts(table()).set_index("verdict")
    fixed = rows.loc["fixed by an assumption"]
    assert (fixed["n"], fixed["imitated"]) == (4, False)
    assert fixed["right"] == 0.0, "the median of 1.3 and 1.01"
    assert (fixed["holds"], fixed["tested"], fixed["tested_n"]) == (1.0, 1.0, 4)
    undecided = rows.loc["undecided"]
    assert (undecided["right"], undecided["holds"], undecided["tested_n"]) == (0.0, 0.0, 0)
    near = reliability.of_verdicts(table(theta=1.04)).set_index("verdict")
    assert near.loc["fixed by an assumption", "right"] == 1.0


def test_imitated_truths_are_counted_apart():
    rows = table()
    rows["imitated"] = rows["science"] == "damper"
    found = reliability.of_verdicts(rows).set_index(["verdict", "imitated"])["n"]
    assert found["undecided"].to_dict() == {False: 3, True: 1}


def test_assumptions_that_hold_should_be_kept_and_cover_the_truth():
    rows = reliability.of_assumptions(table()).set_index(["assumption", "holds"])
    assert rows.loc[("straight", True), ["n", "rejected", "right", "covered"]].tolist() == [4, 0, 1, 1]
    wrong = rows.loc[("straight", False)]
    assert wrong["rejected"] == 1 and wrong["right_n"] == 0 and np.isnan(wrong["right"])
    assert np.isnan(rows.loc[("small", True), "rejected"])
    gone = reliability.of_assumptions(table(low=1.05)).set_index(["assumption", "holds"])
    assert gone.loc[("straight", True), "covered"] == 0
    blind = table()
    blind.loc[blind["assumption"] == "straight", "theta"] = np.nan
    assert "straight" not in set(reliability.of_assumptions(blind)["assumption"])


def test_the_threshold_of_a_science_is_chosen_by_the_others():
    rows = table()
    rows.loc[(rows["science"] == "damper") & (rows["assumption"] == "straight"), "spread_ratio"] = 5.5
    found = reliability.of_thresholds(rows).set_index("science")
    assert found.loc["damper", "threshold"] < 4, "of the others those that hold have 1, and those that do not 4"
    assert found.loc["damper", ["kept", "caught"]].tolist() == [0, 1]
    assert found.loc["pendulum", ["kept", "caught"]].tolist() == [1, 1]


def test_there_is_no_threshold_where_the_others_have_nothing_to_catch():
    rows = table()
    found = reliability.of_thresholds(rows[rows["holds"]])
    assert found["threshold"].isna().all() and found["kept"].isna().all()
    assert "nan" not in as_page(rows[rows["holds"]], "me")


def test_the_page_says_how_many_truths_there_were_and_has_every_table():
    rows = pd.concat([table(), table(source="training", imitated=True)])
    page = as_page(rows, "snakemake docs/calibration.md")
    assert "8 truths from known fields, of which 0 imitated; 8 truths from training, of which 8 imitated." in page
    for heading in ("## Verdicts", "## Assumptions and their intervals", "## Threshold"):
        assert heading in page
    cells = "known fields | straight | yes | 4 | 0.00 [0.00, 0.49] of 4 | 1.00 [0.51, 1.00] of 4 | 1.00 [0.51"
    assert cells in re.sub(" +", " ", page)
    assert "nan" not in page


def test_the_chain_runs_through_training_by_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "TRAINING", replace(calibration.TRAINING, iterations=20, record_every=10))
    output = tmp_path / "damper.csv"
    main(["calibrate", "damper", "--fields", "1", "--trained", "1", "--output", str(output)])
    made = pd.read_csv(output)
    assert made["source"].drop_duplicates().tolist() == ["fields", "training"]
    assert made.groupby("source")["theta_true"].first().nunique() == 1, "the same truth both ways"
    page = tmp_path / "page.md"
    main(["calibration", str(output), "--made-by", "me", "--output", str(page)])
    assert "1 truths from training" in page.read_text()


def test_a_science_that_is_none_is_refused(capsys, tmp_path):
    arguments = ["calibrate", "pendulun", "--fields", "1", "--trained", "0", "--output", str(tmp_path / "x.csv")]
    assert main(arguments) == 2
    assert "science: 'pendulun' is not one of pendulum, spring" in capsys.readouterr().err


def test_the_workflow_has_the_sciences_of_the_library():
    rules = (ROOT / "workflow/rules/calibrate.smk").read_text()
    assert re.findall(r'"(\w+)"', re.search(r"SCIENCES = \[(.*)\]", rules)[1]) == list(SCIENCES)


@pytest.mark.slow
def test_the_page_is_made_from_a_table_of_each_science(fresh):
    few = fresh.configure({"calibration": {"fields": 3, "trained": 1}})
    jobs = fresh.plan("docs/calibration.md", configuration=few)
    assert names(jobs, "calibrate") == {f"calibrate {science}" for science in SCIENCES}
    assert {job.rule for job in jobs} == {"calibrate", "calibration"}
    assert all("--fields 3 --trained 1" in job.command for job in jobs if job.rule == "calibrate")
