"""What every test runs under: no display, no network, and no file outside a temporary folder."""

import os
import signal

os.environ["MPLBACKEND"] = "Agg"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import hypothesis

# Started in the background of a shell, the tests would hand on that interrupts are ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter, config):
    if config.option.markexpr == "browser":
        terminalreporter.write_line("Look at the pictures in .cache/screenshots, too.")


# The same examples every time: a test that fails here fails everywhere.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("steady")
