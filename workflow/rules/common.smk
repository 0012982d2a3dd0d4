"""What all files here share: the checked configuration, the list of runs, settings of tasks as files."""

import io
import json
import re
import shlex
import subprocess
import sys
import tokenize
from functools import cache
from os.path import relpath
from pathlib import Path

sys.modules["rfc3987_syntax"] = None  # checks of addresses, which no schema here has: they take jsonschema 3 s to load
import jsonschema
import yaml

del sys.modules["rfc3987_syntax"]

from hybridsam.core.blocks import blocks_of, canonical, seed_ranges
from hybridsam.core.errors import UserError
from hybridsam.core.files import TWIN_MARK, write_whole
from hybridsam.core.methods import BASELINE, get_method
from hybridsam.core.modules import source
from hybridsam.core.provenance import closure
from hybridsam.core.settings import differences, digest, merge, numbers, parse_yaml, without_sources, yaml_fault

# Jobs use the Python that runs Snakemake, also when its environment is not activated.
shell.prefix(f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; ")


def logged(command):
    """A shell command with its messages in the log; the last one stands on the terminal too, if the command fails.

    A signal ends it without a word. The exit status is that of the command.
    """
    failed = "status=$?; [ $status -gt 127 ] || tail -n 1 {log:q} >&2; exit $status;"
    return f"{command} 2> {{log:q}} || {{{{ {failed} }}}}"


# Where the workflow is a module of another one, paths that belong to neither its results nor its logs are absolute: a
# prefix is put before all others.
ALONE = workflow.modifier.is_main_snakefile()


def shipped(path):
    """A file that comes with the workflow, by its path in this repository."""
    root = Path(workflow.current_basedir).parents[1]
    return path if ALONE and root == Path.cwd() else str(root / path)


def given(path):
    """A file of the user's, by its path seen from where Snakemake runs."""
    return path if ALONE else str(Path.cwd() / path)


def check(values, schema, where):
    """Values with the schema's defaults; stops with one line for each mistake, naming key, value and what is allowed."""
    schema = parse_yaml(Path(workflow.source_path(f"../schemas/{schema}.schema.yaml")).read_text())
    defaults = {key: entry["default"] for key, entry in schema["properties"].items() if "default" in entry}
    values = defaults | values
    errors = sorted(jsonschema.Draft202012Validator(schema).iter_errors(values), key=lambda e: list(map(str, e.path)))
    if errors:
        sys.exit("\n".join(f"{where}: {explain(error)}" for error in errors))
    return values


@cache
def content_of(path):
    """What is in a YAML file, which is read once."""
    return parse_yaml(Path(path).read_text(encoding="utf-8"))


def read_yaml(path, where="", otherwise=sys.exit):
    """The content of a YAML file; stops with one line if it is not there or no YAML, or returns otherwise(that line)."""
    try:
        return content_of(path)
    except OSError as error:
        return otherwise(f"{where}{path}: {error.strerror}")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return otherwise(f"{where}{path}: not valid YAML: {yaml_fault(error)}")


def leave_out(fault):
    """Say that a task file is not used, which the experiment does not name either."""
    if workflow.is_main_process:
        print(f"Left out, as no experiment can use it: {fault}", file=sys.stderr)
    return False


def check_brackets(path):
    """Stop with one line if a file of rules has a bracket without its partner: Snakemake names another line."""
    waiting = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
            if token.type == tokenize.OP and token.string in "([{":
                waiting.append(token)
            elif token.type == tokenize.OP and token.string in ")]}":
                opened = waiting.pop().string if waiting else ""
                if opened + token.string not in ("()", "[]", "{}"):
                    sys.exit(f"{path}: line {token.start[0]}: {token.string!r} closes no bracket of its kind")
    except tokenize.TokenError:
        if waiting:
            sys.exit(f"{path}: line {waiting[-1].start[0]}: {waiting[-1].string!r} was never closed")


def explain(error):
    """One line for a schema error: where, what, and what is allowed instead."""
    key = ".".join(map(str, error.absolute_path)) or "top level"
    if error.validator == "additionalProperties":
        return f"{key}: {error.message}; allowed are {', '.join(error.schema['properties'])}"
    meaning = error.schema.get("description")
    return f"{key}: {error.message}" + (f" ({meaning})" if meaning else "")


for file in workflow.configfiles:  # of a key that stands twice, Snakemake itself takes the last
    read_yaml(file)
if "strengths" in config:
    sys.exit("experiment configuration: strengths: this key is called rho now")
experiment = check(numbers(config), "experiment", "experiment configuration")
METHODS = experiment["methods"]
WANTED = [*experiment["tasks"], *experiment["optional_tasks"]]
TASK_FILES = {
    path.stem: path
    for path in sorted(Path(experiment["task_files"]).glob("*.yaml"))
    if path.stem in WANTED or read_yaml(path, otherwise=leave_out) is not False
}
if "archives" not in config:
    experiment["archives"] = shipped(experiment["archives"])
ARCHIVES = read_yaml(experiment["archives"], "experiment configuration: archives: ")
named = {name: experiment[name] for name in ("tasks", "optional_tasks")}
for section in ("overrides", "seeds", "data_seeds", "seeds_per_job"):
    named[section] = set(experiment[section]) - {"all"} if isinstance(experiment[section], dict) else ()
for section, names in named.items():
    for name in names:
        if name not in TASK_FILES:
            known = ", ".join(TASK_FILES) or f"(no file {experiment['task_files']}/*.yaml)"
            sys.exit(f"experiment configuration: {section}: {name!r} is not one of {known}")


@cache
def task_settings(task):
    """The task file with the experiment's overrides, checked, without the keys that only document."""
    path = TASK_FILES[task]
    settings = read_yaml(path)
    for name in ("all", task):
        override = experiment["overrides"].get(name, {})
        for key in override.get("model", {}):
            if key not in settings["model"]:  # the schema leaves these keys to the tasks
                known = ", ".join(settings["model"])
                sys.exit(f"experiment configuration: overrides.{name}.model.{key}: not in {path}, which has {known}")
        settings = merge(settings, override)
    where = f"{path} with the overrides of the experiment"
    settings = without_sources(check(settings, "task", where))
    if not (code := source(settings["module"])) or not code.is_file():
        sys.exit(f"{where}: module: {settings['module']!r} is no module of hybridsam and no Python file")
    if settings.get("archive", next(iter(ARCHIVES))) not in ARCHIVES:
        sys.exit(f"{where}: archive: {settings['archive']!r} is not one of {', '.join(ARCHIVES)}")
    if "table" in settings:
        if others := [key for key in ("archive", "data") if key in settings]:
            sys.exit(f"{where}: {others[0]}: there is a table too, and the data of a task come from one of them")
        if not Path(settings["table"]["file"]).is_file():
            sys.exit(f"{where}: table.file: {settings['table']['file']!r}: no such file")
    final, first = settings["training"]["learning_rate_final"], settings["training"]["learning_rate"]
    if final > first:
        sys.exit(f"{where}: training.learning_rate_final: {final} is larger than training.learning_rate, {first}")
    return settings


def written(content):
    """A file with this content, as JSON. Its name says what is in it, so that a change reruns what has it in params.

    Also a change of the order alone, which is that of parameters and columns. Settings reach jobs as files: a table of
    thousands of columns is longer than an argument may be.
    """
    text = json.dumps(content, indent=1) + "\n"
    path = Path(f".snakemake/settings/{digest(text)}.json")
    if not path.exists():
        write_whole(path, lambda part: part.write_text(text))
    return str(path)


@cache
def settings_of_data(task, seed):
    """The task's settings with this seed of the data, and of their twin."""
    sections = [name for name in ("data", "twin") if "seed" in task_settings(task).get(name, {})]
    if "data" not in sections:
        sys.exit(
            f"experiment configuration: data_seeds: {TASK_FILES[task]} has no data.seed, so {task} has one dataset"
        )
    return merge(task_settings(task), {name: {"seed": {"value": seed}} for name in sections})


def settings_for(wildcards):
    """The task's settings; where there is a wildcard for the dataset, those of that one."""
    if folder := dict(wildcards.items()).get("data"):
        return settings_of_data(wildcards.task, int(folder.removeprefix("data=").rstrip("/")))
    return task_settings(wildcards.task)


def settings(*sections):
    """A params function: a file with these sections of the task's settings."""
    return lambda wildcards: written({key: settings_for(wildcards)[key] for key in ("module", *sections)})


def settings_and_changes(*sections):
    """As settings, with what the experiment changes in the task file: key -> [value there, value here]."""

    def both(wildcards):
        chosen = task_settings(wildcards.task)
        file = without_sources(read_yaml(TASK_FILES[wildcards.task]))
        sizes = {section: file[section] for section in ("data", "table", "model", "training") if section in file}
        return written({key: chosen[key] for key in ("module", *sections)} | {"changes": differences(sizes, chosen)})

    return both


def archive_at_hand(archive):
    """The archive, packed or unpacked, if it lies in the folder for people without network, else None."""
    folder = Path(experiment["offline_dir"])
    if (folder / archive / TWIN_MARK).exists():
        sys.exit(f"experiment configuration: offline_dir: {folder / archive} is a SYNTHETIC TWIN, not measurements")
    return next((str(path) for path in (folder / f"{archive}.zip", folder / archive) if path.exists()), None)


@cache
def data_of(task):
    """Where a task's data come from: simulated, twin (a stand-in for measurements), measured or own (a table).

    By the file alone, unchecked: what the experiment overrides may not suit a task that it does not name.
    """
    chosen = read_yaml(TASK_FILES[task]) or {}
    if "table" in chosen:
        return "own"
    if "archive" not in chosen:
        return "simulated"
    return "twin" if "twin_module" in chosen and experiment.get("data") == "twin" else "measured"


def twins_of(tasks):
    """Those of the tasks whose data are a synthetic twin."""
    return [task for task in tasks if data_of(task) == "twin"]


def tasks_with(*origins):
    """Pattern of the tasks whose data have one of these origins; it matches nothing where there is none."""
    return "|".join(re.escape(task) for task in TASK_FILES if data_of(task) in origins) or "(?!)"


def archive_of(wildcards):
    """The archive that a task's data are in: a twin, one that is at hand, or one to be downloaded."""
    archive = task_settings(wildcards.task)["archive"]
    if data_of(wildcards.task) == "twin":
        return f"results/{wildcards.experiment}/{wildcards.task}/{wildcards.data}twin/{archive}"
    return archive_at_hand(archive) or f"resources/{archive}.zip"


def archive_entry(archive):
    """A file with the archive's entry in the table of archives."""
    return written({archive: ARCHIVES[archive]})


def left_out(task):
    """Whether an optional task cannot run, for want of measurements."""
    if data_of(task) != "measured":
        return False
    archive = task_settings(task)["archive"]
    return not (archive_at_hand(archive) or Path(f"resources/{archive}.zip").exists())


def rhos_of(method):
    """The values of rho of a method, as they stand in paths; one without any has the one value 0."""
    if not get_method(method).has_rho:
        return ["0"]
    if method not in experiment["rho"]:
        sys.exit(f"experiment configuration: rho.{method}: missing, though methods lists {method}")
    try:
        return [canonical(rho) for rho in experiment["rho"][method]]
    except UserError as error:
        sys.exit(f"experiment configuration: rho.{method}: {error}")


def of_task(key, task):
    """What the experiment says of a task under a key: for every task, or by task, with `all` for the others."""
    value = experiment[key]
    return value.get(task, value.get("all")) if isinstance(value, dict) else value


def seeds_of(task):
    """The seeds of a task's runs."""
    if not (seeds := of_task("seeds", task)):
        sys.exit(
            f"experiment configuration: seeds: none for {task}; allowed is a list of them under {task}, or under all, "
            "for the tasks that are not named"
        )
    return seeds


def seed_ranges_of(task):
    """The same as <first>-<last>, as few as can be."""
    return seed_ranges(seeds_of(task), len(seeds_of(task)))


def seeds_per_job(task):
    """How many seeds of a task one job trains together."""
    return of_task("seeds_per_job", task) or 1


def members_of(task):
    """How many runs the ensemble of a task has."""
    return task_settings(task)["ensemble"].get("members", 6)


def held_of(task):
    """How many runs the profile of a task has."""
    own = task_settings(task)
    return own["profile"].get("values", 9) * len(own["model"]["theta"])


@cache
def datasets_of(task):
    """The folders of a task's datasets in its own, by seed; that of the task file's own seed is the task's: ""."""
    seeds, by_task = of_task("data_seeds", task), isinstance(experiment["data_seeds"], dict)
    if data_of(task) in ("simulated", "twin"):
        own = task_settings(task)
        seeds = sorted(seeds or [])
        return [f"data={seed}/" if settings_of_data(task, seed) != own else "" for seed in seeds] or [""]
    if by_task and task in experiment["data_seeds"]:
        sys.exit(
            f"experiment configuration: data_seeds.{task}: its data are measured, so there is one dataset; leave out "
            f"{task}, which `all` does not change"
        )
    return [""]


def folders_of(wildcards):
    """The folders of a task's datasets."""
    folder = f"results/{wildcards.experiment}/{wildcards.task}"
    return [f"{folder}/{data}" for data in datasets_of(wildcards.task)]


def all_data(wildcards):
    """All datasets of a task, by seed."""
    return [f"{folder}dataset.nc" for folder in folders_of(wildcards)]


def first_data(wildcards):
    """The dataset of a task whose samples are shown: of the lowest seed, if there are several."""
    return all_data(wildcards)[0]


def runs_in(folders, wildcards):
    """All run files in these folders of datasets; where there is a wildcard for the method, those of that method."""
    methods = [wildcards.method] if "method" in wildcards.keys() else METHODS
    grid = {method: GRID[method] for method in methods}
    blocks = blocks_of(grid, seeds_of(wildcards.task), seeds_per_job(wildcards.task))
    return [f"{folder}runs/{block.path}" for folder in folders for block in blocks]


def all_runs(wildcards):
    """All run files of a task."""
    return runs_in(folders_of(wildcards), wildcards)


def first_runs(wildcards):
    """Those on the dataset whose samples are shown."""
    return runs_in(folders_of(wildcards)[:1], wildcards)


def methods_that(hold_theta):
    """Pattern of the methods that hold theta, or train it; with the latter comes erm, from which the others begin."""
    own = {method for method in METHODS if get_method(method).holds == hold_theta}
    return "|".join(own if hold_theta else own | {BASELINE}) or "(?!)"


GRID = {method: rhos_of(method) for method in METHODS}


def results(*patterns, **wildcards):
    """Paths under the results of this experiment, with wildcards filled in where given."""
    return expand([f"results/{experiment['experiment']}/{pattern}" for pattern in patterns], **wildcards)


@cache
def library(*modules):
    """The files that these modules consist of, imports included: inputs of the rules that run them.

    Snakemake does not see a change in an imported module; with its file as an input it does.
    """
    here = Path.cwd()
    try:
        files = closure(*modules)
    except UserError as error:
        sys.exit(str(error))
    files = [here / file for file in files]
    return sorted(str(file.relative_to(here) if ALONE and here in file.parents else file) for file in files)


@cache
def estimates(*tasks):
    """What the trainings of tasks take on this machine, and a line that says so; see `hybridsam estimate`."""
    study = ["--settings", *(written(task_settings(task)) for task in tasks)]
    study += ["--dataset", *results("{task}/dataset.nc", task=tasks)]
    study += ["--datasets", *(str(len(datasets_of(task))) for task in tasks)]
    study += ["--grid", json.dumps(GRID), "--cache", ".snakemake/estimates"]
    study += ["--seeds", *(",".join(seed_ranges_of(task)) for task in tasks)]
    study += ["--seeds-per-job", *(str(seeds_per_job(task)) for task in tasks)]
    command = [sys.executable, "-m", "hybridsam", "estimate", *study]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode != 0:
        return {"tasks": [{}] * len(tasks), "summary": "Training: no estimate of the time"}
    return json.loads(found.stdout)


def need_of_training(wildcards, runs):
    """Estimated `seconds` and `megabytes` of a job that trains; runs: of the ensemble or the profile, or None.

    On the safe side where there is no estimate.

    Only the Snakemake that submits jobs asks; the one in a job would estimate for another machine, for nothing.
    """
    together = TASKS if wildcards.task in TASKS else [wildcards.task]
    task = estimates(*together)["tasks"][together.index(wildcards.task)] if workflow.is_main_process else {}
    need = task.get("jobs", {}).get(wildcards.get("method", BASELINE)) or {"seconds": 8 * 3600, "megabytes": 2000}
    share = max(1, runs / seeds_per_job(wildcards.task)) if runs else 1
    return {name: value * share for name, value in need.items()}


def memory_of_training(wildcards, attempt, runs=None):
    """Megabytes to ask for: half as much again as estimated, and for two Snakemakes and a compiler; more at a retry."""
    return attempt * round(1.5 * need_of_training(wildcards, runs)["megabytes"] + 700)


def runtime_of_training(wildcards, attempt, runs=None):
    """Minutes to ask for: thrice the estimate, as nodes differ, and more at a retry, but a day at most.

    A training that reaches its limit goes on in the retry, and what few clusters allow would wait for ever.
    """
    return min(24 * 60, attempt * round(10 + 3 * need_of_training(wildcards, runs)["seconds"] / 60))


LEFT_OUT = [task for task in experiment["optional_tasks"] if left_out(task)]
TASKS = list(
    dict.fromkeys(experiment["tasks"] + [task for task in experiment["optional_tasks"] if task not in LEFT_OUT])
)
if LEFT_OUT and workflow.is_main_process:
    missing = ", ".join(f"{task} (needs {task_settings(task)['archive']})" for task in LEFT_OUT)
    print(f"Left out, as their measured data are not in {experiment['offline_dir']}: {missing}", file=sys.stderr)
for task in TASKS:
    seeds_of(task)
    datasets_of(task)
# A mistake in a task file stops everything before anything runs.
with_twin = [task for task in TASKS if "twin_module" in task_settings(task)]
if with_twin and "data" not in experiment:
    sys.exit(
        f"experiment configuration: data: missing, though {', '.join(with_twin)} need it; allowed are real (measurements,"
        " downloaded unless they lie in offline_dir) and twin (SYNTHETIC stand-ins)"
    )

# What is measured and what stands in for measurements do not go into one table.
TABLES = {"table": TASKS}
measured = [task for task in TASKS if data_of(task) in ("measured", "own")]
if measured and twins_of(TASKS):
    TABLES = {"table": [task for task in TASKS if task not in measured], "table_measured": measured}


def table_of(task):
    """Name of the table in which a task stands: one of its own, if it is no task of the experiment."""
    return next((name for name, tasks in TABLES.items() if task in tasks), f"table_{task}")


def tasks_in(table):
    """The tasks that stand in a table."""
    return TABLES.get(table) or [table.removeprefix("table_")]


wildcard_constraints:
    experiment=re.escape(experiment["experiment"]),
    task="|".join(map(re.escape, TASK_FILES)),
    table="|".join({re.escape(table_of(task)) for task in TASK_FILES} | set(TABLES)),
    method="|".join(METHODS),
    data=r"(data=\d+/)?",
    rho="[^/]+",
    seeds=r"\d+-\d+",


if workflow.is_main_process and workflow.output_settings.dryrun:
    found = zip(TASKS, estimates(*TASKS)["tasks"])
    if mistakes := [f"{TASK_FILES[task]}: {of['mistake']}" for task, of in found if "mistake" in of]:
        sys.exit("\n".join(mistakes))
    print(estimates(*TASKS)["summary"], file=sys.stderr)
