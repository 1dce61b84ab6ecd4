"""`python -m services.policy`: the policy service as a process of its own."""

from functools import partial

from fased.alone import run_service
from fased.settings import read
from services.policy.service import open_service
from services.policy.settings import Settings

if __name__ == "__main__":
    settings = read(Settings)
    run_service("policy", settings, partial(open_service, settings=settings))
