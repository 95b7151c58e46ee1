"""Faults that are made on purpose. Each must be found, and named by the text that is given."""

from collections.abc import Callable

from bundle import Bundle

Change = Callable[[Bundle], None]


def spec(bundle: Bundle, kind: str, name: str) -> dict:
    return bundle.find(kind, name)["spec"]


def pod_spec(bundle: Bundle) -> dict:
    return bundle.otpd()[0]["spec"]


def container(bundle: Bundle) -> dict:
    return bundle.otpd()[1]


def settings(bundle: Bundle) -> dict:
    return bundle.find("ConfigMap", container(bundle)["envFrom"][0]["configMapRef"]["name"])["data"]


def put(place: Callable[[Bundle], dict | list], key: str | int, value: object) -> Change:
    """Sets a member. `None` removes it."""

    def change(bundle: Bundle) -> None:
        target = place(bundle)
        if value is None:
            del target[key]
        else:
            target[key] = value

    return change


def of(kind: str, name: str = "otpd", *path: str | int) -> Callable[[Bundle], dict | list]:
    """Returns what finds a part of the spec of an object."""

    def find(bundle: Bundle) -> dict | list:
        part = spec(bundle, kind, name)
        for step in path:
            part = part[step]
        return part

    return find


def inside(find: Callable[[Bundle], dict], *path: str | int) -> Callable[[Bundle], dict | list]:
    def deeper(bundle: Bundle) -> dict | list:
        part = find(bundle)
        for step in path:
            part = part[step]
        return part

    return deeper


# (the overlay, what is done to it, the change, what the fault says)
MUTATIONS: tuple[tuple[str, str, Change, str], ...] = (
    (
        "try",
        "a field that is misspelt",
        put(pod_spec, "terminationGracePeriod", 45),
        "'terminationGracePeriod' was unexpected",
    ),
    (
        "try",
        "a number that is a text",
        put(of("StatefulSet", "otpd-redis"), "replicas", "one"),
        "'one' is not of type",
    ),
    (
        "production",
        "a port that is no number",
        put(inside(container, "ports", 0), "containerPort", "http"),
        "containerPort",
    ),
    (
        "production",
        "a wrong API version",
        lambda b: b.find("HorizontalPodAutoscaler", "otpd").update(
            apiVersion="autoscaling/v2beta2"
        ),
        "schema",
    ),
    (
        "production",
        "a field that PodMonitors lack",
        put(of("PodMonitor"), "endpoints", []),
        "'endpoints' was unexpected",
    ),
    (
        "try",
        "a selector of no pod",
        put(of("Service", "otpd", "selector"), "app.kubernetes.io/name", "opt"),
        "Service otpd: the selector matches 0",
    ),
    (
        "try",
        "labels that the Deployment's selector lacks",
        put(
            of("Deployment", "otpd", "template", "metadata", "labels"),
            "app.kubernetes.io/name",
            "opt",
        ),
        "Deployment otpd: the selector does not match",
    ),
    (
        "try",
        "a port that the pods lack",
        put(of("Service", "otpd", "ports", 0), "targetPort", "web"),
        "the pods have no port web",
    ),
    (
        "production",
        "a backend that is not there",
        put(
            of("Ingress", "otpd", "rules", 0, "http", "paths", 0, "backend", "service"),
            "name",
            "otp",
        ),
        "there is no Service otp",
    ),
    (
        "production",
        "an autoscaler of nothing",
        put(of("HorizontalPodAutoscaler", "otpd", "scaleTargetRef"), "name", "otp"),
        "there is no Deployment otp",
    ),
    (
        "production",
        "replicas beside an autoscaler",
        put(of("Deployment"), "replicas", 3),
        "either an autoscaler or `replicas`",
    ),
    (
        "production",
        "a budget for no pod",
        put(
            of("PodDisruptionBudget", "otpd", "selector", "matchLabels"),
            "app.kubernetes.io/name",
            "opt",
        ),
        "PodDisruptionBudget otpd: the selector matches 0",
    ),
    (
        "try",
        "a setting that does not exist",
        lambda b: settings(b).update(OTP_HTTP__LISTENER="0.0.0.0:5000"),
        "OTP_HTTP__LISTENER is not a setting",
    ),
    (
        "try",
        "a secret as a plain setting",
        lambda b: settings(b).update(EMAIL_PASSWORD="hunter2"),
        "EMAIL_PASSWORD is a secret",
    ),
    (
        "try",
        "a protection that is off",
        lambda b: settings(b).update(OTP_DANGEROUS__PLAINTEXT_REDIS="true"),
        "OTP_DANGEROUS__PLAINTEXT_REDIS is set",
    ),
    (
        "try",
        "another port to listen on",
        lambda b: settings(b).update(OTP_HTTP__LISTEN="0.0.0.0:8080"),
        "OTP_HTTP__LISTEN is 0.0.0.0:8080",
    ),
    (
        "try",
        "a loopback address to listen on",
        lambda b: settings(b).update(OTP_HTTP__LISTEN="127.0.0.1:5000"),
        "which nothing outside the pod can reach",
    ),
    (
        "production",
        "metrics on another port",
        put(inside(container, "env", 1), "value", "$(POD_IP):9090"),
        "OTP_ADMIN__LISTEN is 192.168.0.9:9090",
    ),
    (
        "production",
        "an address that is not there",
        put(inside(container, "env", 1), "value", "$(POD):5001"),
        "its variable is not there",
    ),
    (
        "try",
        "a file that no Secret has",
        lambda b: settings(b).update(OTP_SECRETS__PEPPERS_FILE="/etc/otpd/secrets/pepper"),
        "OTP_SECRETS__PEPPERS_FILE is /etc/otpd/secrets/pepper",
    ),
    (
        "try",
        "a key that no Secret has",
        put(inside(pod_spec, "volumes", 0, "secret", "items", 0), "key", "ca.crt"),
        "does not create the key ca.crt",
    ),
    (
        "try",
        "a Secret that the document lacks",
        put(inside(pod_spec, "volumes", 1, "secret"), "secretName", "otp"),
        "does not create the Secret otp",
    ),
    (
        "try",
        "a ConfigMap that is not there",
        put(inside(container, "envFrom", 0, "configMapRef"), "name", "otp"),
        "the ConfigMap otp is not there",
    ),
    (
        "try",
        "a mount inside another",
        put(inside(container, "volumeMounts", 0), "mountPath", "/etc/otpd/secrets/redis"),
        "is inside /etc/otpd/secrets",
    ),
    (
        "try",
        "a Secret in the manifests",
        lambda b: b.objects.append(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "otpd", "namespace": "otpd"},
            }
        ),
        "Secret otpd is in the manifests",
    ),
    (
        "try",
        "a probe of a path that is not served",
        put(inside(container, "livenessProbe", "httpGet"), "path", "/healthz"),
        "/healthz, which is not in openapi",
    ),
    (
        "try",
        "liveness that depends on Redis",
        put(inside(container, "livenessProbe", "httpGet"), "path", "/readyz"),
        "asks /readyz and not /livez",
    ),
    (
        "try",
        "a probe of a port that is not there",
        put(inside(container, "readinessProbe", "httpGet"), "port", 5002),
        "asks the port 5002, which is not there",
    ),
    ("try", "no startup probe", put(container, "startupProbe", None), "has no startupProbe"),
    (
        "try",
        "a container that may be root",
        put(inside(pod_spec, "securityContext"), "runAsNonRoot", False),
        "may run as root",
    ),
    (
        "try",
        "a root file system that can be written",
        put(inside(container, "securityContext"), "readOnlyRootFilesystem", False),
        "readOnlyRootFilesystem is not true",
    ),
    (
        "try",
        "capabilities that are kept",
        put(inside(container, "securityContext", "capabilities"), "drop", ["KILL"]),
        "capabilities are not dropped",
    ),
    (
        "try",
        "no seccomp profile",
        put(inside(pod_spec, "securityContext"), "seccompProfile", None),
        "has no seccomp profile",
    ),
    (
        "try",
        "a way to more privileges",
        put(inside(container, "securityContext"), "allowPrivilegeEscalation", None),
        "allowPrivilegeEscalation is not false",
    ),
    (
        "try",
        "a token of the API",
        put(pod_spec, "automountServiceAccountToken", True),
        "automountServiceAccountToken is not false",
    ),
    (
        "try",
        "a folder of the host",
        lambda b: pod_spec(b)["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
        "the volume host is of the type hostPath",
    ),
    (
        "try",
        "an image without a tag",
        put(container, "image", "registry.example.com:5000/otpd"),
        "has no tag",
    ),
    (
        "try",
        "no limit of memory",
        put(inside(container, "resources", "limits"), "memory", None),
        "has no memory in limits",
    ),
    (
        "try",
        "half a core",
        put(inside(container, "resources", "limits"), "cpu", "1500m"),
        "is not a whole number",
    ),
    (
        "try",
        "a short grace period",
        put(pod_spec, "terminationGracePeriodSeconds", 43),
        "terminationGracePeriodSeconds is 43",
    ),
    (
        "production",
        "a delay that outlasts the grace period",
        lambda b: settings(b).update(OTP_HTTP__SHUTDOWN_DELAY="30s"),
        "a shutdown takes up to 68 s",
    ),
    (
        "try",
        "a relay that the policy forbids",
        lambda b: settings(b).update(SMTP_PORT="2525"),
        "reach SMTP_PORT, port 2525",
    ),
    (
        "try",
        "a Redis that the policy forbids",
        lambda b: settings(b).update(REDIS_PORT="6380"),
        "reach REDIS_PORT, port 6380",
    ),
    ("try", "no DNS", put(of("NetworkPolicy", "otpd", "egress"), 0, None), "reach DNS, port 53"),
    (
        "sentinels",
        "no way to the sentinels",
        put(of("NetworkPolicy", "otpd-sentinels", "egress", 0, "ports", 0), "port", 26380),
        "reach sentinels, port 26379",
    ),
    (
        "try",
        "no way to a provider",
        lambda b: settings(b).update(OTP_SENDER="resend"),
        "reach HTTPS, port 443",
    ),
    (
        "sentinels",
        "no way to a token endpoint",
        lambda b: (
            settings(b).update(OTP_SMTP__AUTH="oauth"),
            put(of("NetworkPolicy", "otpd-https", "egress", 0, "ports", 0), "port", 444)(b),
        ),
        "reach HTTPS, port 443",
    ),
    (
        "try",
        "a policy that admits everybody",
        put(of("NetworkPolicy", "otpd", "ingress", 0), "from", None),
        "a NetworkPolicy admits everybody",
    ),
    (
        "try",
        "a policy for a port that is not there",
        put(of("NetworkPolicy", "otpd-redis", "ingress", 0, "ports", 0), "port", 6380),
        "opens the port 6380, which is not there",
    ),
    (
        "try",
        "Redis without a policy",
        lambda b: b.objects.remove(b.find("NetworkPolicy", "otpd-redis")),
        "no NetworkPolicy limits its Egress",
    ),
    (
        "production",
        "an alert of another threshold",
        put(of("PrometheusRule", "otpd", "groups", 0, "rules", 0), "for", "2m"),
        "differ from those in deploy/prometheus/alerts.yml",
    ),
    (
        "production",
        "a monitor of a port that is not there",
        put(of("PodMonitor", "otpd", "podMetricsEndpoints", 0), "port", "admin"),
        "the pods have no port admin",
    ),
    (
        "try",
        "another namespace",
        lambda b: b.find("Service", "otpd")["metadata"].update(namespace="default"),
        "in the namespace default, which is not there",
    ),
    (
        "try",
        "a namespace without a standard",
        lambda b: b.find("Namespace", "otpd")["metadata"].update(labels={}),
        "does not enforce the Pod Security Standard",
    ),
)
