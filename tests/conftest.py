"""What tests share: small pendulum data, models and trainings, and projects in which Snakemake runs."""

import contextlib
import fcntl
import io
import os

import pytest
import torch
from helpers.cluster import Cluster, lacks
from helpers.on_cluster import CUBE, OnCluster, copy_undisturbed, copy_with_dataset
from helpers.oscillator import results_of
from helpers.project import FIGURES, Project, copy_repository, copy_with_all_tasks
from hypothesis import settings

from hybridsam.analysis.results import load as load_results
from hybridsam.core.methods import get_method
from hybridsam.figures.registry import write as write_figure
from hybridsam.figures.style import FORMATS
from hybridsam.models.samples import Samples
from hybridsam.tasks import pendulum
from hybridsam.training.compiled import CompiledODE
from hybridsam.training.loop import Training, train
from hybridsam.training.loss import Loss

torch.set_num_threads(1)
settings.register_profile("hybridsam", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("hybridsam")

CONSTANTS = {
    "omega": 1.0472,
    "xi": 0.2,
    "initial_angle": [-1.5708, 1.5708],
    "initial_velocity": [-1.5708, 1.5708],
    "dt": 0.05,
    "subsample": 10,
    "steps": 4,
    "noise": 0.01,
    "train": 4,
    "validation": 3,
    "test": 2,
    "seed": 0,
}
MODEL = {
    "theta": {"omega": {"unit": "rad s-1", "start": 0.5, "transform": "softplus", "lower": 0.0}},
    "hidden": [8, 8],
    "solver": {"method": "rk4", "step": 0.25},
}
TRAINING = {
    "iterations": 20,
    "learning_rate": 1e-3,
    "learning_rate_final": 1e-5,
    "theta_rate_factor": 10.0,
    "clip_norm": 10.0,
    "perturb": "network",
    "record_every": 5,
    "diverged_after": 3,
    "dtype": "float64",
}


@pytest.fixture(scope="session")
def constants():
    """Constants of the small pendulum data, with changes."""
    return lambda **changes: CONSTANTS | changes


@pytest.fixture(scope="session")
def dataset():
    """Four, three and two pendulum trajectories of five times."""
    return pendulum.simulate(CONSTANTS)


@pytest.fixture(scope="session")
def trajectories(dataset, model):
    """The trajectories of one split."""
    return lambda split="train", dtype=torch.float64: model.data(dataset, split, dtype)


@pytest.fixture(scope="session")
def build():
    """The small pendulum model, with changes to its settings."""
    return lambda **changes: pendulum.build(MODEL | changes)


@pytest.fixture(scope="session")
def model(build):
    """The small pendulum model, rk4 and two hidden layers of eight."""
    return build()


@pytest.fixture(scope="session", params=["PyTorch", "compiled"])
def loss_of(request):
    """The loss of a model, by each of two ways to it."""
    compiled = request.param == "compiled"

    def loss(model, dtype=torch.float64):
        return CompiledODE(model, Samples({}, torch.empty(0, dtype=dtype))) if compiled else Loss(model)

    return loss


@pytest.fixture(scope="session")
def loss(loss_of, model):
    """The loss of the small pendulum model, by each of two ways to it."""
    return loss_of(model)


@pytest.fixture(scope="session")
def training():
    """Small settings of a training, with changes."""
    return lambda **changes: Training(**(TRAINING | changes))


@pytest.fixture(scope="session")
def fit(model, loss_of, trajectories, training):
    """Train the small pendulum model (or another); returns the final state."""

    def run(method, rho, seeds, checkpoint=None, model=model, **changes):
        how = training(**changes)
        dtype = getattr(torch, how.dtype)
        splits = trajectories("train", dtype), trajectories("validation", dtype)
        return train(loss_of(model, dtype), get_method(method), rho, seeds, *splits, how, checkpoint)

    return run


@pytest.fixture(scope="session")
def chamber():
    """The simulators of the package causalchamber: wind tunnel and light tunnel. Importing them prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        import causalchamber.simulators.lt as lt
        import causalchamber.simulators.wt.main as wt
    return wt, lt


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The project of config/test.yaml, run from end to end; to be left as it is."""
    return run_once(tmp_path_factory, "a finished project", copy_repository)


@pytest.fixture(scope="session")
def all_tasks(tmp_path_factory):
    """The project with all_tasks.yaml as its config/test.yaml, run from end to end; to be left as it is."""
    return run_once(tmp_path_factory, "a project of all tasks", draw_all_tasks)


def run_once(tmp_path_factory, name, prepare, target="all"):
    """A project that ``prepare`` makes and the workflow finishes, once for all processes of pytest."""
    base = shared(tmp_path_factory)
    project, log = Project(base / name), base / f"{name}.log"
    with open(base / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not log.exists():
            prepare(project.root)
            result = project.snakemake("--cores", "2", target)
            log.write_text(f"{result.stdout}\nexit code {result.returncode}")
    assert log.read_text().endswith("exit code 0"), log.read_text()[-5000:]
    return project


def shared(tmp_path_factory):
    """The folder of all processes of pytest."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def draw_all_tasks(root):
    """A project with all_tasks.yaml as far as its figures, drawn here: to start thirty processes takes longer."""
    copy_with_all_tasks(root)
    project = Project(root)
    result = project.snakemake("--cores", "2", "table", "identification")
    assert result.returncode == 0, result.stdout
    for cube in project.results.glob("*/cube.nc"):
        results = load_results(cube.with_name("dataset.nc"), cube, cube.with_name("selection.csv"), "validation")
        for name in FIGURES:
            write_figure(name, results, [cube.parent / f"figures/{name}{ending}" for ending in (*FORMATS, ".csv")])


@pytest.fixture
def project(finished, tmp_path):
    """A copy of the finished project, to be changed."""
    return finished.copy(tmp_path / "a project")


@pytest.fixture
def unused(tmp_path):
    """A copy of the repository in which nothing has run."""
    project = Project(tmp_path / "a fresh project")
    copy_repository(project.root)
    return project


@pytest.fixture
def fresh(unused, tmp_path_factory):
    """The same, where estimates that others have made are found, which takes seconds of every first dry run."""
    estimates = shared(tmp_path_factory) / "estimates"
    estimates.mkdir(exist_ok=True)
    (unused.root / ".snakemake").mkdir()
    (unused.root / ".snakemake/estimates").symlink_to(estimates)
    return unused


@pytest.fixture(scope="session")
def cluster():
    """A SLURM cluster; one for each process of pytest."""
    if missing := lacks():
        pytest.skip(f"NO SLURM HERE, for want of {', '.join(missing)}")
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """The trainings of on_cluster.py, as a local Snakemake does them."""
    return run_once(tmp_path_factory, "an undisturbed project", copy_undisturbed, CUBE)


@pytest.fixture(scope="session")
def on_cluster(cluster, undisturbed, tmp_path_factory):
    """New projects on the cluster, in which the data are simulated but nothing is trained."""

    def make():
        root = tmp_path_factory.mktemp("on cluster") / "a project"
        copy_with_dataset(root, undisturbed)
        return OnCluster(Project(root), cluster)

    return make


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """name of a case of helpers.oscillator -> its results, made once."""
    made = {}

    def make(case):
        if case not in made:
            made[case] = results_of(case, tmp_path_factory.mktemp(case))
        return made[case]

    return make


def pytest_terminal_summary(terminalreporter):
    """Say loudly which tests were skipped for want of SLURM or a browser."""
    reasons = {report.longrepr[2] for report in terminalreporter.stats.get("skipped", [])}
    for reason in sorted(reason for reason in reasons if " HERE" in reason):
        terminalreporter.write_sep("!", f"not tested: {reason}", red=True, bold=True)
