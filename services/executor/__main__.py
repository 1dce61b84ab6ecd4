"""`python -m services.executor`: the executor as a process of its own."""

from functools import partial

from fased.alone import run_service
from fased.settings import read
from services.executor.service import open_service
from services.executor.settings import Settings

if __name__ == "__main__":
    settings = read(Settings)
    run_service("executor", settings, partial(open_service, settings=settings))
