"""The one metadata that all tables belong to. Decides nothing else."""

from sqlalchemy import MetaData

metadata = MetaData()
