"""`python -m services.channels`: the channels service as a process of its own."""

from functools import partial

from fased.alone import run_service
from fased.settings import read
from services.channels.service import open_service
from services.channels.settings import Settings

if __name__ == "__main__":
    settings = read(Settings)
    run_service("channels", settings, partial(open_service, settings=settings))
