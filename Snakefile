"""The workflow: models -> embeddings -> notebooks -> report. ./run_all.sh starts it.

A step runs when its request file is newer than its results; `lib.state` rewrites the request files
of those steps whose sources changed, by content. By hand: snakemake --cores 2 --rerun-triggers mtime
"""

import os
import sys

from lib import execute, items, paths, profile, state

PROFILE = profile.load(config.get("profile", "mini"))
NAME = PROFILE.name
ITEMS = items.load()
READY = [name for name, item in ITEMS.items() if item.status(NAME) == "ready"]
SELECTED = (config["items"] or "").split() if "items" in config else READY
STEP = [sys.executable, "-m", "lib.execute"]

if "items" not in config:  # started by hand: lib.run has done this already
    state.refresh(
        PROFILE, [*(f"embeddings/{role}" for role in PROFILE.models), *READY, "report"]
    )
execute.stop_with_runner(lambda: os._exit(1))


def model_of(role):
    """The model's weights, if they are made here; their date says nothing, their content counts."""
    model = PROFILE.models.get(role, "")
    return [ancient(state.weights(model))] if state.trained_here(model) else []


def embeddings_of(item):
    """Made first; a notebook whose own sources did not change need not run again for them."""
    roles = [role for role in ITEMS[item].models if role in PROFILE.models]
    return [ancient(state.record_file(NAME, f"embeddings/{role}")) for role in roles]


def compared_in(item):
    """Weights of the models that the notebook encodes itself."""
    return [weights for role in ITEMS[item].compares for weights in model_of(role)]


rule report:
    input:
        state.request_file(NAME, "report"),
        [state.figures(NAME, item) for item in SELECTED],
    output:
        state.report_files(NAME),
    shell:
        "{STEP:q} report --profile {NAME}"


rule model:
    output:
        f"{paths.MODELS}/{{name}}/{state.weights('').name}",
    threads: workflow.cores
    shell:
        "{STEP:q} models/{wildcards.name} --profile {NAME}"


rule embeddings:
    input:
        state.request_file(NAME, "embeddings/{role}"),
        lambda wildcards: model_of(wildcards.role),
    output:
        state.record_file(NAME, "embeddings/{role}"),
    wildcard_constraints:
        role=r"\w+",
    shell:
        "{STEP:q} embeddings/{wildcards.role} --profile {NAME}"


rule notebook:
    input:
        state.request_file(NAME, "{item}"),
        lambda wildcards: embeddings_of(wildcards.item),
        lambda wildcards: compared_in(wildcards.item),
    output:
        state.figures(NAME, "{item}"),
    log:
        state.executed_file(NAME, "{item}"),
    wildcard_constraints:
        item="|".join(ITEMS),
    threads: 1
    shell:
        "{STEP:q} {wildcards.item} --profile {NAME}"
