"""The measurements of results.json as the Markdown tables of the documentation: ``python benchmarks/tables.py``."""

import argparse
import json
from pathlib import Path

RESULTS = Path(__file__).with_name("results.json")
TITLES = {
    "ours": "hybridsam",
    "ours_pytorch": "hybridsam, plain PyTorch",
    "torch": "PyTorch by hand",
    "torch_dopri5": "PyTorch by hand, dopri5",
    "torch_channels_last": "PyTorch by hand, channels last",
    "jax": "JAX",
    "diffrax": "JAX with diffrax",
}
HEADER = ("", "members", "member-iterations/s", "ratio", "least–most", "of the bound", "first iteration s", "peak MB")


def of_task(task: str, measured: dict) -> str:
    """The table of one task."""
    bound = measured["machine"][f"{measured['bound']}_gigaflops"]
    several = any("processes" in variant for variant in measured["variants"].values())
    rows = []
    for label, variant in measured["variants"].items():
        ratio, rate = variant.get("ratio"), variant["member_iterations_per_second"]
        row = [
            TITLES[label.split(" x")[0]],
            str(variant["members"]),
            f"{rate:.3g}",
            f"{ratio['median']:.2f}" if ratio else "",
            f"{ratio['least']:.2f}–{ratio['most']:.2f}" if ratio else "",
            f"{rate * measured['gigaflops'] / bound:.0%}",
            f"{variant['compile_seconds'] + variant['first_seconds']:.2g}",
            f"{variant['peak_megabytes']:.0f}",
        ]
        if several:
            gain = variant["processes_ratio"]
            row.append(f"{gain['median']:.2f} ({gain['least']:.2f}–{gain['most']:.2f})")
        rows.append(row)
    header = [*HEADER, *(["all processes to one"] if several else [])]
    title = task.replace("_", " ").capitalize()
    work = f"{measured['gigaflops']:.3g} GFLOP a member-iteration; bound: {measured['bound']}, {bound:.0f} GFLOP/s."
    lines = [f"### {title}", "", work, "", _line(header), _line(["---", *["--:"] * (len(header) - 1)])]
    lines += map(_line, rows)
    lines += [f"\nLeft out: {label}: {reason}." for label, reason in measured["failed"].items()]
    return "\n".join(lines) + "\n"


def agreement(section: dict[str, dict]) -> str:
    """How far the variants are from hybridsam in plain PyTorch, relatively."""
    rows = [
        [task.replace("_", " "), TITLES[name], *(f"{found[key]:.0e}" for key in ("loss", "gradient", "losses"))]
        for task, measured in section.items()
        for name, found in measured["agreement"].items()
        if name != "ours_pytorch"
    ]
    header = ["task", "", "loss", "gradient", "losses of the first iterations"]
    return "\n".join(map(_line, [header, ["---", "---", "--:", "--:", "--:"], *rows])) + "\n"


def machine(measured: dict) -> str:
    """What a task was measured on."""
    m = measured["machine"]
    flags = ", ".join(m["flags"])
    rates = f"sgemm {m['sgemm_gigaflops']:.0f}, convolution {m['convolution_gigaflops']:.0f} GFLOP/s on one thread"
    versions = ", ".join(f"{name} {version}" for name, version in measured["versions"].items())
    gpu = f"{m['gpu']}; " if "gpu" in m else ""
    return f"{gpu}{m['processor']} ({flags}), {m['cores']} cores, {rates}; {versions}.\n"


def page(results: dict[str, dict]) -> str:
    """All tables, the machine first."""
    parts = []
    for name, section in results.items():
        parts += [f"## {name}\n", machine(next(iter(section.values())))]
        parts += [of_task(task, measured) for task, measured in section.items()]
        parts += ["### Agreement\n", agreement(section)]
    return "\n".join(parts)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS, help="file of compare.py (%(default)s)")
    print(page(json.loads(parser.parse_args().results.read_text(encoding="utf-8"))), end="")


if __name__ == "__main__":
    main()
