"""The workflow as a module of another one, in a repository that holds only the user's own files."""

import pytest
import yaml
from helpers import small
from helpers.project import ROOT, Project

pytestmark = pytest.mark.slow

SNAKEFILE = """
configfile: "config/config.yaml"

module hybridsam:
    snakefile: {snakefile!r}
    config: config
    prefix: "hybrid"

use rule * from hybridsam as hybridsam_*

rule conclude:
    default_target: True
    input:
        table="hybrid/results/mine/table.csv",
        page="hybrid/results/mine/report/lynx.html",
    output:
        "conclusion.csv",
    shell:
        "cp {{input.table}} {{output}}"
"""


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A repository with a Snakefile, an experiment, and the science and the constants of one task; run to its end."""
    project = Project(tmp_path_factory.mktemp("theirs") / "a repository")
    (project.root / "config/tasks").mkdir(parents=True)
    template = {name: (ROOT / f"src/hybridsam/template/task.{name}").read_text() for name in ("py", "yaml")}
    (project.root / "lynx.py").write_text(template["py"].replace("NAME", "lynx"))
    settings = template["yaml"].replace("NAME", "lynx").replace("hybridsam.tasks.lynx", "lynx.py")
    (project.root / "config/tasks/lynx.yaml").write_text(settings)
    experiment = yaml.safe_load((ROOT / "config/test.yaml").read_text())
    overrides = {"all": experiment["overrides"]["all"]}
    few = {"experiment": "mine", "tasks": ["lynx"], "methods": ["erm"], "overrides": overrides}
    (project.root / "config/config.yaml").write_text(yaml.safe_dump(experiment | few))
    (project.root / "Snakefile").write_text(SNAKEFILE.format(snakefile=str(small.ROOT / "workflow/Snakefile")))
    result = run(project, "--cores", "2")
    assert result.returncode == 0, result.stdout
    return project


def run(project, *arguments):
    """Snakemake as its users call it, on the library as it is installed."""
    environment = {name: value for name, value in project.environment.items() if name != "PYTHONPATH"}
    return project.snakemake(*arguments, configuration="config/config.yaml", env=environment)


def test_results_and_logs_lie_under_the_prefix(theirs):
    made = {path.parts[0] for path in (path.relative_to(theirs.root) for path in theirs.root.rglob("*"))}
    assert made == {"Snakefile", "config", "lynx.py", "hybrid", "conclusion.csv", ".snakemake", "__pycache__"} & made
    assert {"hybrid", "conclusion.csv"} <= made
    assert (theirs.root / "hybrid/logs/mine/lynx/erm/rho=0/seeds=0-1.log").is_file()
    assert not list(theirs.root.rglob("checkpoints"))


def test_the_page_of_the_task_is_there(theirs):
    assert "lynx" in (theirs.root / "hybrid/results/mine/report/lynx.html").read_text()


def test_a_second_run_has_nothing_to_do_and_a_changed_science_runs_again(theirs, tmp_path):
    assert "Nothing to be done" in run(theirs, "-n").stdout
    project = theirs.copy(tmp_path / "copy")
    project.edit("lynx.py", "1 - population / theta", "1.0 - population / theta")
    planned = run(project, "-n").stdout
    assert "rule hybridsam_train:" in planned and "lynx.py" in planned
