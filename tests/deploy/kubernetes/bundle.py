"""The objects of one rendered overlay, and what the repository says about otpd."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

# Kinds with a pod template.
WORKLOADS = ("Deployment", "StatefulSet")
# Kinds that belong to no namespace.
CLUSTER_KINDS = ("Namespace",)


class Facts:
    """What the repository says about otpd, and the keys of the Secrets of the document."""

    def __init__(self, secrets: dict[str, set[str]]) -> None:
        self.secrets = secrets
        page = Path("docs/settings.md").read_text()
        sections = re.split(r"^### `([A-Z0-9_]+)`$", page, flags=re.MULTILINE)[1:]
        texts = dict(zip(sections[::2], sections[1::2], strict=True))
        self.settings = set(texts)
        self.secret_settings = {
            name for name, text in texts.items() if re.search(r"\bSecret\.", text)
        }
        assert (
            len(self.settings) > 50 and len(self.secret_settings) >= 8
        ), "docs/settings.md has another form"
        self.default_delay = seconds(
            re.search(r"Default: `(.+?)`", texts["OTP_HTTP__SHUTDOWN_DELAY"])[1]
        )
        operations = " ".join(Path("docs/operations.md").read_text().split())
        takes = re.search(r"That takes (\d+) seconds at most", operations)
        assert takes, "docs/operations.md does not say how many seconds a shutdown takes at most"
        self.drain = int(takes[1])
        self.paths = set(json.loads(Path("openapi/openapi.json").read_text())["paths"])
        self.alerts = yaml.safe_load(Path("deploy/prometheus/alerts.yml").read_text())["groups"]


def seconds(text: str) -> int:
    """Reads a duration with one unit, such as 15s."""
    number, unit = re.fullmatch(r"(\d+)(s|m|h)", text).groups()
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]


class Bundle:
    """The objects of one rendered overlay."""

    def __init__(self, objects: list[dict]) -> None:
        self.objects = objects

    def of(self, *kinds: str) -> Iterator[dict]:
        return (thing for thing in self.objects if thing.get("kind") in kinds)

    def find(self, kind: str, name: str) -> dict | None:
        return next((thing for thing in self.of(kind) if thing["metadata"]["name"] == name), None)

    def pods(self) -> Iterator[tuple[str, dict]]:
        """Yields each pod template with the name of what it belongs to."""
        for thing in self.of(*WORKLOADS):
            yield shown(thing), thing["spec"]["template"]

    def selected(self, selector: dict) -> list[dict]:
        """Returns the pod templates that a selector matches. An empty selector matches all."""
        labels = selector.get("matchLabels", {})
        return [
            pod
            for _, pod in self.pods()
            if labels.items() <= pod["metadata"].get("labels", {}).items()
        ]

    def otpd(self) -> tuple[dict, dict]:
        """Returns the pod template of otpd and its container."""
        pod = self.find("Deployment", "otpd")["spec"]["template"]
        return pod, next(c for c in pod["spec"]["containers"] if c["name"] == "otpd")

    def settings(self, addresses: dict[str, str] | None = None) -> dict[str, str]:
        """Returns the environment of otpd's container. `addresses` has the values of fields of the
        pod."""
        _, container = self.otpd()
        values: dict[str, str] = {}
        for source in container.get("envFrom", []):
            found = self.find("ConfigMap", source["configMapRef"]["name"])
            values |= found["data"] if found else {}
        for entry in container.get("env", []):
            if "value" in entry:
                text = re.sub(
                    r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)",
                    lambda m: values.get(m[1], m[0]),
                    entry["value"],
                )
            else:
                text = (addresses or {}).get(
                    entry["valueFrom"]["fieldRef"]["fieldPath"], "192.168.0.9"
                )
            values[entry["name"]] = text
        return values


def shown(thing: dict) -> str:
    return f"{thing.get('kind')} {thing.get('metadata', {}).get('name')}"


def all_containers(pod: dict) -> list[dict]:
    return pod["spec"].get("initContainers", []) + pod["spec"]["containers"]


def port_numbers(pod: dict) -> dict[str, int]:
    """Returns the ports of a pod by name."""
    return {p["name"]: p["containerPort"] for c in all_containers(pod) for p in c.get("ports", [])}


def has_port(pod: dict, port: str | int) -> bool:
    ports = port_numbers(pod)
    return port in ports or port in ports.values()
