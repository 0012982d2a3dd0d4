"""Captions of figures and tables: what they say of runs and intervals, on pages as in Snakemake's own report."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from docutils import nodes
from docutils.core import publish_doctree, publish_string
from docutils.parsers.rst.directives import register_directive
from jinja2 import Environment, StrictUndefined

from hybridsam.figures import registry
from hybridsam.report import captions
from hybridsam.report.directive import Caption

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_caption_of_one_run_has_the_numbers_of_all(results):
    """n and the diverged are of the same runs, of which the figure shows the first: 2 and 1 of erm, 3 of others."""
    for name in ("predictions", "residuals"):
        text = captions.caption(name, registry.tabulate(name, results("some_diverged")))
        assert "by the first of the runs that did not fail (n = 2 to 3; 1 diverged)" in text and "n = 1" not in text


@pytest.mark.slow
def test_predictions_that_begin_at_the_second_time_say_why(results):
    table = registry.tabulate("predictions", results("normal"))
    given = "The first of the data is the initial state, which the models are given"
    assert given in captions.caption("predictions", table)
    data = table["series"].isin(["data", "truth"])
    everywhere = table[~data | (table["time"] > table["time"].min())]  # as of a law over a window
    assert given not in captions.caption("predictions", everywhere)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "words", "not_said"),
    [
        ("one_seed", ["Dashed line: erm, in the same way."], "thin lines"),
        (
            "two_seeds",
            [
                "bars: none, as an interval of fewer than 3 runs",
                "Dashed line: erm, in the same way; thin lines: its runs.",
            ],
            "band",
        ),
        (
            "normal",  # of three seeds the y-error has an interval, and the θ-error none
            ["Dashed line and band: erm, in the same way; thin lines: its runs, where it has no band."],
            "of 3 runs or more",
        ),
        (
            "twenty_seeds",
            [
                "median of the θ-error, geometric mean of the y-error (test MSE), over the runs that did not fail "
                "(n = 18 to 20 for each ρ)",
                "bars: 95 % interval over seeds (median: by the bootstrap, of 5 seeds or more; geometric mean: Student",
                "Dashed line and band: erm, in the same way.",
            ],
            "thin lines",
        ),
        (
            "some_diverged",
            [
                "Student's t of the logarithms, of 3 runs or more)",
                "Dashed line: erm, in the same way; thin lines: its runs.",
                "Of the runs, 5 diverged (crosses on the upper edge; those of erm: in the legend).",
            ],
            "line and band",
        ),
        ("everything_diverged", ["Every run of erm failed (n = 0), so it has no line."], "Dashed line"),
        (
            "only_erm",
            ["Dashed line and band: erm, median of the θ-error, geometric mean of the y-error", "; 95 % interval over"],
            "markers",
        ),
    ],
)
def test_the_caption_says_what_is_drawn_of_few_runs(case, words, not_said, results):
    text = captions.caption("errors_rho", registry.tabulate("errors_rho", results(case)))
    assert [said for said in words if said not in text] == [] and not_said not in text


@pytest.mark.slow
def test_a_bootstrap_over_datasets_and_seeds_needs_enough_of_either(results):
    table = registry.tabulate("errors_rho", results("twenty_seeds"))
    two = pd.concat([table, table.assign(data_seed=table["data_seed"] + 1)])
    text = captions.caption("errors_rho", two.assign(datasets=2))
    assert "95 % interval over datasets and seeds (median: by the bootstrap, of 5 datasets or seeds or more;" in text


@pytest.mark.slow
def test_residuals_of_a_run_that_failed_are_drawn_and_described(results):
    """Completed, but with errors that are not finite: not the same as no run at all."""
    table = registry.tabulate("residuals", results("infinite_errors"))
    text = captions.caption("residuals", table)
    assert table["value"].notna().all() and "against time, a line for each test sample" in text
    assert "by the first of the runs that did not fail, or else that completed (n = 0; 3 failed)" in text


@pytest.mark.parametrize("table", ["selection", "identifiability"])
def test_tables_have_captions_for_the_snakemake_report(table):
    template = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = (ROOT / f"workflow/report/{table}.rst").read_text()
    for data in ("simulated", "twin"):
        job = SimpleNamespace(wildcards=SimpleNamespace(task="duffing"), params=SimpleNamespace(data=data))
        rendered = template.from_string(text).render(snakemake=job)
        assert rendered.strip().startswith("**SYNTHETIC TWIN**") == (data == "twin") and "Task **duffing**" in rendered
        publish_string(rendered, settings_overrides={"halt_level": 2})


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.FIGURES)
@pytest.mark.parametrize("case", ["some_diverged", "twin"])
def test_figures_have_the_same_caption_in_the_snakemake_report_as_on_the_pages(name, case, results, tmp_path):
    """To the letter, whatever has a meaning in reStructuredText; and it names the task."""
    table = registry.tabulate(name, results(case)).assign(rule="*my_rule_ `|a|", name="*")
    (tmp_path / "my results").mkdir()
    path = tmp_path / "my results" / f"{name}.csv"
    table.to_csv(path, index=False)
    register_directive("caption", Caption)
    template = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        (ROOT / "workflow/report/figure.rst").read_text()
    )
    job = SimpleNamespace(wildcards=SimpleNamespace(task="duffing"), output=SimpleNamespace(csv=str(path)))
    document = publish_doctree(template.render(snakemake=job), settings_overrides={"halt_level": 2})
    first, second = (paragraph.astext() for paragraph in document.findall(nodes.paragraph))
    assert first == captions.caption(name, pd.read_csv(path))
    assert first.startswith("SYNTHETIC TWIN: ") == (case == "twin")
    assert second.startswith("Task duffing. ")
