"""The captions of figures in Snakemake's own report, which is written in reStructuredText: the same as on the pages."""

from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive


class Caption(Directive):
    """``.. caption:: figures/losses.csv``: the caption of the figure that was drawn from this table."""

    required_arguments = 1
    final_argument_whitespace = True  # in the path

    def run(self) -> list[nodes.Node]:
        import pandas as pd  # only now, as every Snakemake registers the directive and few make a report

        from hybridsam.report.captions import caption

        path = Path(self.arguments[0])
        return [nodes.paragraph(text=caption(path.stem, pd.read_csv(path)))]
