"""An archive through the workflow: fetched, verified, converted, and fetched again only when it is another one."""

import functools
import hashlib
import http.server
import shutil
import threading

import pytest
import yaml
from helpers.project import names, rules, write_light_sensors

from hybridsam.core import records
from hybridsam.core.provenance import fingerprint

pytestmark = pytest.mark.slow

NAME = "lt_interventions_standard_v1"
DATASET = "results/test/light_sensors/dataset.nc"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def published(tmp_path):
    """A zip file with made-up readings, and the address at which it is offered."""
    folder = tmp_path / "published"
    write_light_sensors(tmp_path / "packed" / NAME)
    shutil.make_archive(str(folder / NAME), "zip", tmp_path / "packed")
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder / f"{NAME}.zip", f"http://127.0.0.1:{server.server_port}/{NAME}.zip"
        server.shutdown()
        thread.join()


@pytest.fixture
def project(all_tasks, tmp_path, published, monkeypatch):
    """A copy of the finished project of all tasks, whose light sensors have to be fetched from the address."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    project, (file, url) = all_tasks.copy(tmp_path / "a project"), published
    shutil.rmtree(project.root / "offline")
    describe(project, url=url, bytes=file.stat().st_size, md5=hashlib.md5(file.read_bytes()).hexdigest())
    return project


def describe(project, **changes):
    """Change the archive's entry in the file of archives."""
    path = project.root / "config/archives.yaml"
    archives = yaml.safe_load(path.read_text())
    archives[NAME] |= changes
    path.write_text(yaml.safe_dump(archives))


def fetch(project):
    """Name the task, which as an optional one would be left out, and make its dataset."""
    configuration = project.configure({"optional_tasks": [], "tasks": ["light_sensors"]})
    return project.snakemake("--cores", "1", "--rerun-incomplete", DATASET, configuration=configuration)


def plan(project):
    return project.plan(DATASET, configuration="changed.yaml")


def test_an_archive_is_fetched_once_and_only_again_when_it_is_another(project):
    before = fingerprint(records.read(project.root / DATASET, "dataset"))
    result = fetch(project)
    assert result.returncode == 0, result.stdout
    made = records.read(project.root / DATASET, "dataset")
    assert fingerprint(made) == before  # as from the unpacked folder
    assert made.attrs["synthetic"] == "no"
    assert [path.name for path in (project.root / "resources").iterdir()] == [f"{NAME}.zip"]
    assert plan(project) == []

    describe(project, attribution="Nobody", url="https://elsewhere.example/readings.zip")
    project.append("src/hybridsam/data/chambers.py", "\n# changed\n")
    assert rules(plan(project)) == {"convert"}  # 4.6 GB are not fetched anew for the sake of a name

    describe(project, md5="0" * 32)
    assert names(plan(project), "download") == {f"download {NAME}"}


def test_another_file_at_the_address_is_refused_and_not_kept(project, published):
    published[0].write_bytes(published[0].read_bytes()[:-1] + b"?")
    before = (project.root / DATASET).read_bytes()
    result = fetch(project)
    assert result.returncode != 0
    *_, line = (project.root / f"logs/download/{NAME}.log").read_text().splitlines()
    assert line.startswith(f"hybridsam: {published[1]}: expected MD5 ")
    assert "offline_dir" in line
    assert list(project.root.glob("resources/*")) == []
    assert (project.root / DATASET).read_bytes() == before
