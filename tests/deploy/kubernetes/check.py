"""Renders and checks the overlays: see `run`. `check.py FOLDER [--self-test]` writes to FOLDER."""

import copy
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import running
import schemas
import yaml
from bundle import Bundle, Facts
from mutations import MUTATIONS
from mutations import settings as settings_of
from rules import RULES

MANIFESTS = Path("deploy/kubernetes")


class Report:
    """Counts the checks and shows their faults."""

    def __init__(self) -> None:
        self.passed = self.failed = self.faults = 0

    def check(self, name: str, faults: Iterable[str]) -> bool:
        found = list(faults)
        print(f"{'FAILED' if found else 'ok':8}{name}")
        for fault in found:
            print("".join(f"        {line}\n" for line in fault.splitlines()), end="")
        self.faults += len(found)
        self.failed += bool(found)
        self.passed += not found
        return not found


def faults_of(act: Callable[[], object]) -> list[str]:
    """Returns the fault of something that is run."""
    try:
        act()
    except running.Failed as error:
        return [str(error)]
    return []


def overlays(state: Path) -> dict[str, Path]:
    """Returns the folders to render: every overlay, and one with each component that none uses."""
    found = {folder.name: folder for folder in sorted((MANIFESTS / "overlays").iterdir())}
    sentinels = state / "overlays" / "sentinels"
    sentinels.mkdir(parents=True, exist_ok=True)
    root = "/".join([".."] * len(sentinels.parts))
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "otpd",
        "resources": [f"{root}/{MANIFESTS}/overlays/production"],
        "components": [f"{root}/{MANIFESTS}/components/{name}" for name in ("sentinels", "https")],
    }
    (sentinels / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return found | {"sentinels": sentinels}


def unused(folders: Iterable[Path]) -> list[str]:
    """Returns each component that no overlay uses."""
    texts = [(folder / "kustomization.yaml").read_text() for folder in folders]
    names = [folder.name for folder in (MANIFESTS / "components").iterdir()]
    return [
        f"{name} is in no overlay"
        for name in names
        if not any(f"components/{name}" in text for text in texts)
    ]


def all_faults(bundle: Bundle, facts: Facts) -> list[str]:
    """Returns all faults of an overlay. The rules read only what the newest schema accepts."""
    newest = schemas.versions()[-1]
    found = [fault for thing in bundle.objects for fault in schemas.faults(thing, newest)]
    return found or [fault for rule in RULES for fault in rule(bundle, facts)]


def self_test(
    report: Report, bundles: dict[str, Bundle], facts: Facts, secrets: running.Data, state: Path
) -> None:
    """Makes faults on purpose, which must be found."""
    print("\n== self-test: faults that are made on purpose")
    for overlay, name, change, text in MUTATIONS:
        bundle = copy.deepcopy(bundles[overlay])
        change(bundle)
        found = all_faults(bundle, facts)
        missed = (
            [] if any(text in fault for fault in found) else [f"no fault says {text!r}:", *found]
        )
        report.check(f"{overlay}: {name}", missed)

    bundle = copy.deepcopy(bundles["try"])
    settings = settings_of(bundle)
    settings["OTP_LOG__LEVEL"] = "loud"
    refused = faults_of(lambda: running.accepts(bundle, secrets, root(state)))
    named = any("OTP_LOG__LEVEL" in fault for fault in refused)
    report.check(
        "try: a value that otpd refuses", [] if named else ["otpd reload --check accepts it"]
    )
    evicts = faults_of(lambda: running.refuses_to_evict(bundles["try"], secrets, root(state)))
    report.check("try: a Redis that evicts", evicts)


def root(state: Path) -> Path:
    """Returns the folder that stands for the file system of a pod."""
    return (state / "pod").resolve()


def main() -> int:
    state, only_self_test = Path(sys.argv[1]), "--self-test" in sys.argv[2:]
    report = Report()
    folders = overlays(state)
    secrets: running.Data = {}
    bundles: dict[str, Bundle] = {}

    print("== rendering")
    commands = faults_of(lambda: secrets.update(running.documented_secrets(state / "document")))
    good = report.check("the commands that create Secrets run", commands)
    for name, folder in folders.items():
        faults = faults_of(lambda: bundles.update({name: Bundle(running.render(folder))}))
        good &= report.check(f"{name}: kubectl kustomize", faults)
    report.check("every component is in an overlay", unused(folders.values()))
    objects = sum(len(bundle.objects) for bundle in bundles.values())
    if good:
        facts = Facts({name: set(values) for name, values in secrets.items()})
        if not only_self_test:
            check(report, bundles, facts, secrets, state)
        if report.failed:
            print("\n== self-test: not run, because it needs manifests without a fault")
        else:
            self_test(report, bundles, facts, secrets, state)
    for kind in schemas.PARTIAL:
        print(
            f"note: {kind} is checked against a schema of the fields used here, not the operator's"
        )
    print("\n== summary")
    print(f"kubernetes: {report.passed} passed, {report.failed} failed")
    valid = "" if report.faults or only_self_test else " valid"
    plural = "" if report.faults == 1 else "s"
    print(f"kubernetes: {objects} objects{valid}, {report.faults} fault{plural}")
    return 1 if report.failed else 0


def check(
    report: Report, bundles: dict[str, Bundle], facts: Facts, secrets: running.Data, state: Path
) -> None:
    """Checks each overlay."""
    for name, bundle in bundles.items():
        print(f"\n== {name}")
        valid = True
        for version in schemas.versions():
            faults = [fault for thing in bundle.objects for fault in schemas.faults(thing, version)]
            valid &= report.check(
                f"{len(bundle.objects)} objects are valid in Kubernetes {version}", faults
            )
        if not valid:
            print("        the other checks need valid objects")
            continue
        sound = True
        for rule in RULES:
            sound &= report.check(" ".join(rule.__doc__.split()), rule(bundle, facts))
        if sound:
            accepted = faults_of(lambda: running.accepts(bundle, secrets, root(state)))
            report.check("otpd accepts the settings, and has no warning", accepted)
    mailed = faults_of(lambda: running.mails_a_code(bundles["try"], secrets, root(state)))
    report.check("otpd serve with the Redis of try mails a code and verifies it once", mailed)


if __name__ == "__main__":
    sys.exit(main())
