"""Settings for a course folder: copy this file beside `source/`."""

c = get_config()  # noqa: F821

# Seconds that a cell, or the start of the kernel, may take; nbgrader's own limit of 30 is short for
# the first cells, which import PyTorch and encode the data.
c.ExecutePreprocessor.timeout = 180
c.ExecutePreprocessor.startup_timeout = 180
