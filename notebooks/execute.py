"""Execute a notebook by papermill, and make a page of it by nbconvert: python execute.py IN OUT.ipynb NAME=VALUE …

The page lies beside OUT.ipynb. Both in one process, since to start and import takes as long as to make a page.
"""

import os
import sys
from pathlib import Path

sys.modules["rfc3987_syntax"] = None  # checks of addresses, of which a notebook has none: jsonschema loads them for 2 s
import papermill
from nbconvert import HTMLExporter

HERE = Path(__file__).parent

if __name__ == "__main__":
    notebook, executed, *parameters = sys.argv[1:]
    # The kernel is this Python, whatever python3 stands for in an environment or a module of a cluster: by Jupyter,
    # "python" in the kernel.json that is found first is the Python that looks for it.
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(HERE / "kernel"), os.environ.get("JUPYTER_PATH")]))
    values = dict(text.split("=", 1) for text in parameters)
    papermill.execute_notebook(notebook, executed, values, progress_bar=False)
    exporter = HTMLExporter(template_name="page", extra_template_basedirs=[str(HERE / "templates")])
    page, _ = exporter.from_filename(executed)
    Path(executed).with_suffix(".html").write_text(page, encoding="utf-8")
