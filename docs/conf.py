"""The documentation site: `nox -s docs` builds it, with every warning an error.

Sphinx, because MkDocs' and Material's makers have ended them, and because autodoc imports the library:
it sees twins and inherited methods as a user's `help()` does. The pages stay plain Markdown (MyST),
which reads well where the source is browsed.
"""

import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = str(ROOT)  # for the kernels of the notebooks

import zarr_core  # noqa: E402 - of this tree, whatever is installed

project = "zarr_core"
author = copyright = "zarr_core contributors"
release = version = zarr_core.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "myst_nb"]
exclude_patterns = ["conf.py"]
default_role = "py:obj"

# --- pages ---------------------------------------------------------------------------------------

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
myst_url_schemes = ["http", "https"]
suppress_warnings = ["ref.python"]  # `array` is what several names end in
PAPERS = ("CHANGELOG", "CODE_OF_CONDUCT", "CONTRIBUTING", "SECURITY")

# --- notebooks: Python files with cells, executed anew in every build ----------------------------------

nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_execution_timeout = 60
nb_merge_streams = True

# --- reference -----------------------------------------------------------------------------------

autodoc_default_options = {"members": True, "inherited-members": "object,MutableMapping,tuple"}
autodoc_member_order = "groupwise"
autodoc_typehints = "none"  # the signature has them
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

# --- looks ---------------------------------------------------------------------------------------

html_baseurl = "https://zarr-core.readthedocs.io/en/latest/"  # README.md has links to it
html_theme = "pydata_sphinx_theme"
html_title = "zarr_core"
html_static_path = ["assets"]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
copybutton_exclude = ".linenos, .gp, .go"


def paper(app: Any, name: str, source: list[str]) -> None:
    """Fill the pages of the papers, which stand at the root, where hosts look for them."""
    if name in PAPERS:
        source[0] = (ROOT / f"{name}.md").read_text("utf-8").replace("](docs/", "](")


def no_twins(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the awaitable twins: each is its method once more."""
    return True if name.endswith("_async") else None


def setup(app: Any) -> None:
    app.connect("source-read", paper)
    app.connect("autodoc-skip-member", no_twins)
