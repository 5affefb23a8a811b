"""Settings of Sphinx for the site, which has the Markdown pages as they are, and the Python interfaces.

`make docs` builds it, from the root of the repository, so that links to configs and files of results work as well.
"""

from mmcyclemlp.version import __version__

project = 'mmcyclemlp'
release = version = __version__
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx_external_toc']
external_toc_path = 'docs/toc.yml'
include_patterns = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'configs/*/README.md', 'docs/**']
exclude_patterns = ['.venv', 'build', 'data', 'work_dirs']  # not even looked through
myst_heading_anchors = 4
autodoc_typehints = 'none'  # the docstrings have the types, with the shapes of tensors
autodoc_inherit_docstrings = False
nitpicky = True
nitpick_ignore_regex = [('py:class', '.*')]  # the types of docstrings are written for people
html_show_copyright = False
html_theme = 'furo'
html_title = f'mmcyclemlp {__version__}'
html_extra_path = ['index.html']  # which leads to the README


def setup(app):
    """Leave the fields of named tuples out, of which autodoc says that they are numbered."""

    def skip(app, kind, name, member, skipped, options):
        return (getattr(member, '__doc__', None) or '').startswith('Alias for field number') or None

    app.connect('autodoc-skip-member', skip)
