"""The science behind the notebooks; nothing here knows how notebooks are run."""
