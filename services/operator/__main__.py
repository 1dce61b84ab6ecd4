"""`python -m services.operator`: the operator as a process of its own."""

from functools import partial

from fased.alone import run_rowless
from fased.settings import read
from services.operator.service import open_service
from services.operator.settings import Settings

if __name__ == "__main__":
    settings = read(Settings)
    run_rowless("operator", settings, partial(open_service, settings=settings))
