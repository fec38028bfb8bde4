"""Sphinx's configuration of the website (`docs.site`)."""

extensions = ["myst_nb", "docs.site"]
project = html_title = "The modality gap, reproduced"
language = "en"

html_theme = "furo"
html_static_path = ["static"]
html_favicon = "static/icon.svg"
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_copy_source = html_show_sourcelink = html_show_copyright = False
html_math_renderer = "mathml"
exclude_patterns = ["_files"]
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

nb_execution_mode = "off"
nb_render_markdown_format = "myst"  # formulas in outputs, too
nb_ipywidgets_js = {}
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_dmath_double_inline = True
myst_heading_anchors = 3
myst_update_mathjax = False
