"""`python -m services.scheduler`: the scheduler as a process of its own."""

from functools import partial

from fased.alone import run_service
from fased.settings import read
from services.scheduler.service import open_service
from services.scheduler.settings import Settings

if __name__ == "__main__":
    settings = read(Settings)
    run_service("scheduler", settings, partial(open_service, settings=settings))
