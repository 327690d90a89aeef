"""Sphinx's settings for the pages that build.py makes. Neither building nor reading needs the network."""

import os
from pathlib import Path

HERE, MADE = Path(__file__).resolve().parent, Path(os.environ["SITE_PAGES"]) / "made"
project = html_title = "UNSIR, reproduced"
root_doc = "index"
extensions = ["myst_nb", "sphinx.ext.mathjax", "sphinx.ext.githubpages"]
add_module_names = False
exclude_patterns = ["linked", "made"]

html_theme = "furo"
html_static_path = [str(HERE / "static"), str(MADE / "static")]
html_extra_path = [str(MADE / "extra")]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = html_show_sphinx = html_show_copyright = False
mathjax_path = "mathjax/tex-chtml.js"  # a copy of the site's own

nb_execution_mode = "off"
nb_render_markdown_format = "myst"
nb_ipywidgets_js: dict = {}
myst_enable_extensions = ["dollarmath", "attrs_block", "colon_fence", "html_image"]
myst_heading_anchors = 4


def in_the_order(app, page, template, context, doctree):
    """Another copy of a notebook has the previous and next page of the one that is in the order."""
    relations, name = app.builder.relations, page.rpartition("/")[2]
    if page in relations or name not in relations:
        return
    for what, there in zip(("prev", "next"), relations[name][1:], strict=True):
        if there:
            title = app.builder.render_partial(app.env.titles[there])["title"]
            context[what] = {"link": app.builder.get_relative_uri(page, there), "title": title}


def setup(app):
    app.connect("html-page-context", in_the_order)
