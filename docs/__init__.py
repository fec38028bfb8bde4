"""The results page, and the website of the notebooks."""
