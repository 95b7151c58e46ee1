"""Validates objects against the schemas of several versions of Kubernetes."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import jsonschema
import kubernetes_validate.utils
from bundle import shown
from referencing import Registry, Resource

# The oldest version that the manifests support; the newest is that of the package.
OLDEST = 27
FOLDER = Path(__file__).parent / "schemas"
# Kinds of the Prometheus Operator, whose own schemas are not at hand.
PARTIAL = ("PodMonitor", "PrometheusRule")


def versions() -> list[str]:
    """Returns the versions to validate against, oldest first."""
    numbers = sorted(
        {int(version.split(".")[1]) for version in kubernetes_validate.utils.all_versions()}
    )
    found = [f"1.{number}" for number in numbers if number >= OLDEST]
    assert found[0] == f"1.{OLDEST}" and len(found) > 1, found
    return found


@cache
def partial(kind: str) -> jsonschema.Draft202012Validator:
    common = Resource.from_contents(json.loads((FOLDER / "metadata.json").read_text()))
    schema = json.loads((FOLDER / f"{kind.lower()}.json").read_text())
    return jsonschema.Draft202012Validator(schema, registry=common @ Registry())


def faults(thing: dict, version: str) -> Iterator[str]:
    """Yields what a schema of this version refuses in an object."""
    if thing.get("kind") in PARTIAL:
        for error in partial(thing["kind"]).iter_errors(thing):
            yield f"{shown(thing)}: {where(error)}: {error.message}"
        return
    try:
        kubernetes_validate.validate(thing, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{shown(thing)}: Kubernetes {version}: {where(error)}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield f"{shown(thing)}: {error.message}"


def where(error: jsonschema.ValidationError) -> str:
    return ".".join(str(part) for part in error.path) or "the object"
