"""What must hold in a rendered overlay and no schema can say. Each rule yields a text for each
fault."""

import posixpath
import re
from collections import Counter
from collections.abc import Iterator

from bundle import (
    CLUSTER_KINDS,
    WORKLOADS,
    Bundle,
    Facts,
    all_containers,
    has_port,
    port_numbers,
    seconds,
    shown,
)

Faults = Iterator[str]


def names_and_namespaces(bundle: Bundle, facts: Facts) -> Faults:
    """Each object has a name of its own and the namespace of the overlay, which enforces
    `restricted`."""
    for name, count in Counter(shown(thing) for thing in bundle.objects).items():
        if count > 1:
            yield f"{name} occurs {count} times"
    namespaces = {thing["metadata"]["name"]: thing for thing in bundle.of("Namespace")}
    for name, thing in namespaces.items():
        if (
            thing["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce")
            != "restricted"
        ):
            yield f"Namespace {name} does not enforce the Pod Security Standard restricted"
    for thing in bundle.objects:
        if (
            thing["kind"] not in CLUSTER_KINDS
            and thing["metadata"].get("namespace") not in namespaces
        ):
            yield f"{shown(thing)} is in the namespace {thing['metadata'].get('namespace')}, which is not there"


def no_secrets(bundle: Bundle, facts: Facts) -> Faults:
    """No object holds a secret: Secrets are created by hand, and their values come from files."""
    for thing in bundle.of("Secret"):
        yield f"{shown(thing)} is in the manifests"
    for name in bundle.settings():
        if name in facts.secret_settings:
            yield f"{name} is a secret: set {name}_FILE"


def images(bundle: Bundle, facts: Facts) -> Faults:
    """Each image has a tag that does not move, or a digest."""
    for owner, pod in bundle.pods():
        for container in all_containers(pod):
            name, _, tag = container["image"].rpartition("/")[2].partition(":")
            if "@sha256:" not in container["image"] and tag in ("", "latest"):
                yield f"{owner}: the image {container['image']} has no tag"


# https://kubernetes.io/docs/concepts/security/pod-security-standards/
VOLUME_TYPES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SECCOMP_TYPES = {"RuntimeDefault", "Localhost"}


def restricted(bundle: Bundle, facts: Facts) -> Faults:
    """Each pod meets the Pod Security Standard `restricted`, has a read-only root file system and
    no token."""
    for owner, pod in bundle.pods():
        spec, common = pod["spec"], pod["spec"].get("securityContext", {})
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(field):
                yield f"{owner}: {field} is set"
        if common.get("sysctls"):
            yield f"{owner}: sysctls are set"
        for volume in spec.get("volumes", []):
            for kind in volume.keys() - {"name"} - VOLUME_TYPES:
                yield f"{owner}: the volume {volume['name']} is of the type {kind}"
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{owner}: automountServiceAccountToken is not false"
        if spec.get("enableServiceLinks") is not False:
            yield f"{owner}: enableServiceLinks is not false"
        for container in all_containers(pod):
            where, own = f"{owner}, {container['name']}", container.get("securityContext", {})
            both = {**common, **own}
            if own.get("privileged") or own.get("procMount", "Default") != "Default":
                yield f"{where}: privileged, or another procMount"
            if own.get("allowPrivilegeEscalation") is not False:
                yield f"{where}: allowPrivilegeEscalation is not false"
            if own.get("readOnlyRootFilesystem") is not True:
                yield f"{where}: readOnlyRootFilesystem is not true"
            capabilities = own.get("capabilities", {})
            if "ALL" not in capabilities.get("drop", []):
                yield f"{where}: capabilities are not dropped"
            if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
                yield f"{where}: capabilities are added"
            if both.get("runAsNonRoot") is not True or both.get("runAsUser") in (0, None):
                yield f"{where}: may run as root"
            if both.get("seccompProfile", {}).get("type") not in SECCOMP_TYPES:
                yield f"{where}: has no seccomp profile"
            if any(port.get("hostPort") for port in container.get("ports", [])):
                yield f"{where}: has a port of the host"
            for probe, handler in probes(container):
                if handler.get("host"):
                    yield f"{where}: the {probe} names a host"
    if bundle.otpd()[0]["spec"]["securityContext"].get("runAsUser") != 65532:
        yield "Deployment otpd: the user is not that of the image, 65532"


def resources(bundle: Bundle, facts: Facts) -> Faults:
    """Each container requests CPU and memory, and has a limit of memory; otpd has one of whole
    cores."""
    for owner, pod in bundle.pods():
        for container in all_containers(pod):
            figures = container.get("resources", {})
            for kind, name in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
                if name not in figures.get(kind, {}):
                    yield f"{owner}, {container['name']}: has no {name} in {kind}"
    cores = str(bundle.otpd()[1]["resources"].get("limits", {}).get("cpu"))
    if not cores.isdecimal():
        yield f"Deployment otpd: the limit of {cores} cores is not a whole number"


def probes(container: dict) -> Iterator[tuple[str, dict]]:
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        for kind in ("httpGet", "tcpSocket"):
            if kind in container.get(probe, {}):
                yield probe, container[probe][kind]


# The path that each probe of otpd must ask: liveness must not depend on Redis.
PROBED = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}


def probed(bundle: Bundle, facts: Facts) -> Faults:
    """Each container has all probes, at ports that it has. Those of otpd ask paths of the OpenAPI
    document at the port of the API."""
    for owner, pod in bundle.pods():
        for container in all_containers(pod):
            there = dict(probes(container))
            for probe in PROBED:
                if probe not in there:
                    yield f"{owner}, {container['name']}: has no {probe}"
            for probe, handler in there.items():
                if not has_port({"spec": {"containers": [container]}}, handler["port"]):
                    yield f"{owner}, {container['name']}: the {probe} asks the port {handler['port']}, which is not there"
    pod, container = bundle.otpd()
    listens = port_of(bundle.settings().get("OTP_HTTP__LISTEN", ""))
    for probe, handler in probes(container):
        path = handler.get("path")
        if path not in facts.paths:
            yield f"Deployment otpd: the {probe} asks {path}, which is not in openapi/openapi.json"
        elif path != PROBED[probe]:
            yield f"Deployment otpd: the {probe} asks {path} and not {PROBED[probe]}"
        if port_numbers(pod).get(handler["port"], handler["port"]) != listens:
            yield f"Deployment otpd: the {probe} asks another port than {listens} of OTP_HTTP__LISTEN"


def port_of(address: str) -> int | None:
    match = re.search(r":(\d+)$", address)
    return int(match[1]) if match else None


def settings(bundle: Bundle, facts: Facts) -> Faults:
    """Each variable of otpd's container is a setting, or used by one; addresses have the ports of
    the container."""
    pod, container = bundle.otpd()
    values = bundle.settings()
    known = facts.settings | {f"{name}_FILE" for name in facts.secret_settings}
    used = set(
        re.findall(
            r"\$\((\w+)\)", " ".join(entry.get("value", "") for entry in container.get("env", []))
        )
    )
    for name, value in values.items():
        if name not in known | used:
            yield f"{name} is not a setting in docs/settings.md"
        if name.startswith("OTP_DANGEROUS__"):
            yield f"{name} is set"
        if "$(" in value:
            yield f"{name} is {value}: its variable is not there"
    for name, port in (("OTP_HTTP__LISTEN", "http"), ("OTP_ADMIN__LISTEN", "metrics")):
        address = values.get(name)
        if address is None:
            if port in port_numbers(pod):
                yield f"the port {port} is there, but {name} is not"
        elif port_of(address) != port_numbers(pod).get(port):
            yield f"{name} is {address}, and the port {port} of the container is {port_numbers(pod).get(port)}"
        elif address.startswith(("127.", "localhost", "[::1]")):
            yield f"{name} is {address}, which nothing outside the pod can reach"
    if "OTP_HTTP__LISTEN" not in values:
        yield "OTP_HTTP__LISTEN is not set: its default is a loopback address"


def volumes(bundle: Bundle, facts: Facts) -> Faults:
    """Mounts have volumes and the other way round, no mount is inside another, and all ConfigMaps,
    Secrets and keys are there."""
    for owner, pod in bundle.pods():
        there = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        claims = {
            claim["metadata"]["name"]
            for thing in bundle.of("StatefulSet")
            if shown(thing) == owner
            for claim in thing["spec"].get("volumeClaimTemplates", [])
        }
        mounted: set[str] = set()
        for container in all_containers(pod):
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            for mount in container.get("volumeMounts", []):
                mounted.add(mount["name"])
                if mount["name"] not in there.keys() | claims:
                    yield f"{owner}: the volume {mount['name']} of {mount['mountPath']} is not there"
                if mount["name"] not in claims and not mount.get("readOnly"):
                    yield f"{owner}: {mount['mountPath']} can be written"
                for path in paths:
                    if path != mount["mountPath"] and path.startswith(
                        mount["mountPath"].rstrip("/") + "/"
                    ):
                        yield f"{owner}: {path} is inside {mount['mountPath']}, which is read-only"
            for source in container.get("envFrom", []):
                yield from missing_map(bundle, owner, source["configMapRef"]["name"])
        for name in there.keys() - mounted:
            yield f"{owner}: the volume {name} is not mounted"
        for volume in there.values():
            if "configMap" in volume:
                yield from missing_map(bundle, owner, volume["configMap"]["name"])
            if "secret" in volume:
                name = volume["secret"]["secretName"]
                if name not in facts.secrets:
                    yield f"{owner}: docs/kubernetes.md does not create the Secret {name}"
                for item in volume["secret"].get("items", []):
                    if item["key"] not in facts.secrets.get(name, ()):
                        yield f"{owner}: docs/kubernetes.md does not create the key {item['key']} of the Secret {name}"
        name = pod["spec"].get("serviceAccountName")
        if name and not bundle.find("ServiceAccount", name):
            yield f"{owner}: the ServiceAccount {name} is not there"
    for thing in bundle.of("Ingress"):
        for tls in thing["spec"].get("tls", []):
            if tls["secretName"] not in facts.secrets:
                yield f"{shown(thing)}: docs/kubernetes.md does not create the Secret {tls['secretName']}"


def missing_map(bundle: Bundle, owner: str, name: str) -> Faults:
    if not bundle.find("ConfigMap", name):
        yield f"{owner}: the ConfigMap {name} is not there"


def files(bundle: Bundle, facts: Facts) -> Faults:
    """Each file that a setting of otpd names is a key of a Secret that is mounted there."""
    pod, container = bundle.otpd()
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
    found: set[str] = set()
    for mount in container.get("volumeMounts", []):
        secret = volumes.get(mount["name"], {}).get("secret")
        if secret:
            keys = facts.secrets.get(secret["secretName"], set())
            names = {item["path"] for item in secret["items"]} if "items" in secret else keys
            found |= {posixpath.join(mount["mountPath"], name) for name in names}
    for name, path in bundle.settings().items():
        if name.endswith("_FILE") and path and path not in found:
            yield f"{name} is {path}, which is not a key of a mounted Secret in docs/kubernetes.md"


def labels(bundle: Bundle, facts: Facts) -> Faults:
    """Each selector matches pods that are there; that of a workload matches its own."""
    for thing in bundle.objects:
        kind, spec = thing["kind"], thing.get("spec", {})
        if kind in WORKLOADS:
            own = spec["template"]["metadata"].get("labels", {})
            if not spec["selector"]["matchLabels"].items() <= own.items():
                yield f"{shown(thing)}: the selector does not match the labels of its pods"
            for spread in spec["template"]["spec"].get("topologySpreadConstraints", []):
                if not spread["labelSelector"]["matchLabels"].items() <= own.items():
                    yield f"{shown(thing)}: a topology spread does not match the labels of its pods"
            continue
        selector = {
            "Service": lambda: {"matchLabels": spec["selector"]},
            "PodDisruptionBudget": lambda: spec["selector"],
            "NetworkPolicy": lambda: spec["podSelector"],
            "PodMonitor": lambda: spec["selector"],
        }.get(kind, lambda: None)()
        if selector is None:
            continue
        if set(selector) != {"matchLabels"}:
            yield f"{shown(thing)}: the selector has another form than matchLabels"
        elif len(bundle.selected(selector)) != 1:
            yield f"{shown(thing)}: the selector matches {len(bundle.selected(selector))} workloads and not one"


def targets(bundle: Bundle, facts: Facts) -> Faults:
    """Ports of Services, backends of Ingresses, targets of autoscalers, Services of StatefulSets
    and endpoints of PodMonitors are there."""
    for service in bundle.of("Service"):
        for pod in bundle.selected({"matchLabels": service["spec"]["selector"]}):
            for port in service["spec"]["ports"]:
                if not has_port(pod, port.get("targetPort", port["port"])):
                    yield f"{shown(service)}: the pods have no port {port.get('targetPort', port['port'])}"
    for ingress in bundle.of("Ingress"):
        for rule in ingress["spec"]["rules"]:
            if rule["host"] not in {
                host for tls in ingress["spec"].get("tls", []) for host in tls["hosts"]
            }:
                yield f"{shown(ingress)}: {rule['host']} has no TLS"
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                service = bundle.find("Service", backend["name"])
                ports = service["spec"]["ports"] if service else []
                if not any(
                    backend["port"] in ({"name": p.get("name")}, {"number": p["port"]})
                    for p in ports
                ):
                    yield f"{shown(ingress)}: there is no Service {backend['name']} with the port {backend['port']}"
    scaled = set()
    for scaler in bundle.of("HorizontalPodAutoscaler"):
        spec = scaler["spec"]
        target = spec["scaleTargetRef"]
        scaled.add(f"{target['kind']} {target['name']}")
        if not bundle.find(target["kind"], target["name"]):
            yield f"{shown(scaler)}: there is no {target['kind']} {target['name']}"
        if not 1 <= spec.get("minReplicas", 1) <= spec["maxReplicas"]:
            yield f"{shown(scaler)}: minReplicas is not between 1 and maxReplicas"
    for thing in bundle.of(*WORKLOADS):
        if (shown(thing) in scaled) == ("replicas" in thing["spec"]):
            yield f"{shown(thing)}: either an autoscaler or `replicas` sets the number of pods"
    for thing in bundle.of("StatefulSet"):
        if not bundle.find("Service", thing["spec"]["serviceName"]):
            yield f"{shown(thing)}: there is no Service {thing['spec']['serviceName']}"
    for monitor in bundle.of("PodMonitor"):
        for pod in bundle.selected(monitor["spec"]["selector"]):
            for endpoint in monitor["spec"]["podMetricsEndpoints"]:
                if endpoint["port"] not in port_numbers(pod):
                    yield f"{shown(monitor)}: the pods have no port {endpoint['port']}"
            if pod["metadata"]["labels"].get(monitor["spec"]["jobLabel"]) != "otpd":
                yield f"{shown(monitor)}: the job is not otpd, which the alert OtpdDown expects"


def disruption(bundle: Bundle, facts: Facts) -> Faults:
    """A budget lets one pod be evicted, and rolling updates take no pod away before there is
    another."""
    for budget in bundle.of("PodDisruptionBudget"):
        if budget["spec"].get("maxUnavailable") != 1:
            yield f"{shown(budget)}: maxUnavailable is not 1"
    deployment = bundle.find("Deployment", "otpd")
    if deployment["spec"]["strategy"].get("rollingUpdate", {}).get("maxUnavailable") != 0:
        yield "Deployment otpd: a rolling update may leave fewer pods"


def grace(bundle: Bundle, facts: Facts) -> Faults:
    """The grace period is longer than a shutdown takes with the configured delay."""
    delay = seconds(bundle.settings().get("OTP_HTTP__SHUTDOWN_DELAY", f"{facts.default_delay}s"))
    takes = facts.drain - facts.default_delay + delay
    period = bundle.otpd()[0]["spec"].get("terminationGracePeriodSeconds", 30)
    if period <= takes:
        yield f"Deployment otpd: terminationGracePeriodSeconds is {period}, and a shutdown takes up to {takes} s"


def network(bundle: Bundle, facts: Facts) -> Faults:
    """Each pod has policies for both directions, and these allow what otpd needs and no port that
    is not there."""
    policies = list(bundle.of("NetworkPolicy"))
    for owner, pod in bundle.pods():
        own = [p["spec"] for p in policies if pod in bundle.selected(p["spec"]["podSelector"])]
        for direction in ("Ingress", "Egress"):
            if not any(direction in spec["policyTypes"] for spec in own):
                yield f"{owner}: no NetworkPolicy limits its {direction}"
        for spec in own:
            for rule in spec.get("ingress", []):
                if not rule.get("from"):
                    yield f"{owner}: a NetworkPolicy admits everybody"
                for source in rule.get("from", []):
                    if "podSelector" in source and not bundle.selected(source["podSelector"]):
                        yield f"{owner}: a NetworkPolicy admits pods that are not there"
                for port in rule["ports"]:
                    if not has_port(pod, port["port"]):
                        yield f"{owner}: a NetworkPolicy opens the port {port['port']}, which is not there"
        if owner == "Deployment otpd":
            yield from reaches(bundle, own)


def reaches(bundle: Bundle, policies: list[dict]) -> Faults:
    values = bundle.settings()
    needed = {("DNS", 53, "UDP"), ("DNS", 53, "TCP")}
    needed |= {
        (name, int(values[name]), "TCP") for name in ("REDIS_PORT", "SMTP_PORT") if values.get(name)
    }
    if values.get("OTP_REDIS__SENTINEL_PASSWORD_FILE"):
        needed |= {("sentinels", 26379, "TCP"), ("Redis", 6379, "TCP")}
    if values.get("OTP_SENDER", "smtp") != "smtp" or values.get("OTP_SMTP__AUTH") == "oauth":
        needed |= {("HTTPS", 443, "TCP")}
    open_ports = {
        (port["port"], port.get("protocol", "TCP"))
        for spec in policies
        for rule in spec.get("egress", [])
        for port in rule["ports"]
    }
    for name, port, protocol in sorted(needed):
        if (port, protocol) not in open_ports:
            yield f"Deployment otpd: no NetworkPolicy lets it reach {name}, port {port} ({protocol})"
    redis = bundle.find("Service", values.get("REDIS_HOST", ""))
    if redis and int(values["REDIS_PORT"]) not in {port["port"] for port in redis["spec"]["ports"]}:
        yield f"REDIS_PORT is {values['REDIS_PORT']}, which {shown(redis)} does not have"


def alerts(bundle: Bundle, facts: Facts) -> Faults:
    """The rules of a PrometheusRule are those of deploy/prometheus/alerts.yml."""
    for rule in bundle.of("PrometheusRule"):
        if rule["spec"]["groups"] != facts.alerts:
            yield f"{shown(rule)}: the groups differ from those in deploy/prometheus/alerts.yml: copy them"


RULES = (
    names_and_namespaces,
    no_secrets,
    images,
    restricted,
    resources,
    probed,
    settings,
    volumes,
    files,
    labels,
    targets,
    disruption,
    grace,
    network,
    alerts,
)
