"""The definitions of the custom resources, as the chart has them. Decides nothing about them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

_FOLDER = Path(__file__).parents[2] / "charts" / "fased" / "templates" / "crds"

Schema = Mapping[str, Any]


def texts() -> Iterator[str]:
    """Each definition as Helm renders it: without the condition around it."""
    for path in sorted(_FOLDER.glob("*.yaml")):
        lines = path.read_text().splitlines(keepends=True)
        yield "".join(line for line in lines if not line.startswith("{{"))


def definitions() -> dict[str, Any]:
    """The definitions by kind."""
    loaded = [yaml.safe_load(text) for text in texts()]
    return {each["spec"]["names"]["kind"]: each for each in loaded}


def schema(definition: Mapping[str, Any]) -> Schema:
    """The schema of its one version."""
    (version,) = definition["spec"]["versions"]
    found: Schema = version["schema"]["openAPIV3Schema"]
    return found


def schemas_in(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """A schema and those in it, each with its path; `[]` is a list's item."""
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from schemas_in(part, f"{path}.{name}")
    if "items" in schema:
        yield from schemas_in(schema["items"], f"{path}[]")
