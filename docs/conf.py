"""The build of the guide: `make docs`. Sphinx reads this file."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_extensions"), str(HERE.parent)]  # the extensions, and the packages that autodoc reads

import faal_core  # noqa: E402 - after the path

project = "FAAL"
version = release = faal_core.__version__
language = "en"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated_pages", "files_for_inline"]
exclude_patterns = ["reference/generated/*"]
nitpicky = True
# Annotations name types of torch, numpy and pydantic, whose pages are not here.
nitpick_ignore_regex = [("py:.*", ".*")]
linkcheck_ignore = [r"http://(localhost|127\.0\.0\.1)"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # the command line's page begins below the second level

default_role = "literal"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_class_signature = "separated"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Columns", "params_style")]

html_theme = "furo"
html_theme_options = {  # the colours of the service's pages
    "light_css_variables": {"color-brand-primary": "#1f5fa8", "color-brand-content": "#1f5fa8"},
    "dark_css_variables": {"color-brand-primary": "#86b8f0", "color-brand-content": "#86b8f0"},
}
html_title = "FAAL guide"
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
html_favicon = "../api/pages/static/icon.svg"
html_static_path = ["_static"]
html_css_files = ["guide.css"]
