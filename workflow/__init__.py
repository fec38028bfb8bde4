"""Running it all: Snakemake, and what it cannot do."""
