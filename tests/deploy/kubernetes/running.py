"""Runs what can run without a cluster: kubectl, the commands of the document, otpd and Redis."""

import base64
import json
import os
import re
import shutil
import socket
import socketserver
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from itertools import takewhile
from pathlib import Path

import yaml
from bundle import Bundle

KUBECTL = Path(sys.executable).parent / "kubectl"
OTPD = Path(os.environ["OTPD_BIN"])
DOCUMENT = Path("docs/kubernetes.md")
TIMEOUT = 30.0

# Stands for kubectl in the commands of the document: writes the Secret that would be created, and
# does nothing else.
SHIM = """\
#!/bin/sh
case " $* " in
*" create secret "*) "$REAL_KUBECTL" "$@" --dry-run=client -o yaml >>"$CREATED" && echo --- >>"$CREATED" ;;
esac
"""

Data = dict[str, dict[str, bytes]]


class Failed(Exception):
    """What was run did not do what it must."""


def render(folder: Path) -> list[dict]:
    """Renders an overlay, which must cause no warning."""
    done = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True)
    if done.returncode or done.stderr.strip():
        raise Failed(f"kubectl kustomize {folder}:\n{done.stderr}")
    return [thing for thing in yaml.safe_load_all(done.stdout) if thing]


def documented_secrets(place: Path) -> Data:
    """Runs the commands of the document that create Secrets, and returns the keys and values."""
    blocks = re.findall(
        r"^( *)```sh\n(.*?)^\1```$", DOCUMENT.read_text(), flags=re.MULTILINE | re.DOTALL
    )
    commands = [textwrap.dedent(block) for _, block in blocks if "create secret" in block]
    tools, work, created = place / "bin", place / "work", place / "created.yaml"
    shutil.rmtree(place, ignore_errors=True)
    tools.mkdir(parents=True)
    work.mkdir()
    created.touch()
    (tools / "kubectl").write_text(SHIM)
    (tools / "editor").write_text("#!/bin/sh\necho 'what the operator typed' >\"$1\"\n")
    (tools / "otpd").symlink_to(OTPD)
    for name in ("kubectl", "editor"):
        (tools / name).chmod(0o755)
    write_certificate(work)
    environment = {
        "PATH": f"{tools.resolve()}:{os.environ['PATH']}",
        "EDITOR": str((tools / "editor").resolve()),
        "REAL_KUBECTL": str(KUBECTL.absolute()),
        "CREATED": str(created.resolve()),
        "KUBECONFIG": "/dev/null",
        "HOME": str(work.resolve()),
    }
    script = "set -eu\n" + "\n".join(commands)
    done = subprocess.run(
        ["bash", "-c", script], cwd=work, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise Failed(f"the commands in {DOCUMENT} that create Secrets:\n{done.stderr}")
    found: Data = {}
    for secret in yaml.safe_load_all(created.read_text()):
        if secret:
            values = {key: base64.b64decode(value) for key, value in secret["data"].items()}
            found.setdefault(secret["metadata"]["name"], {}).update(values)
    return found


def write_certificate(folder: Path) -> None:
    """Writes the certificate of the Ingress with its key, which the operator has."""
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-subj", "/CN=otp.example.com", "-out", "fullchain.pem", "-keyout", "privkey.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def lay_out(
    bundle: Bundle, pod: dict, container: dict, secrets: Data, root: Path
) -> Callable[[str], str]:
    """Writes the files that a container finds below its mounts to a folder. Returns what replaces
    their paths in a text."""
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
    mounts = {
        mount["mountPath"]: volumes.get(mount["name"], {})
        for mount in container.get("volumeMounts", [])
    }
    for path, volume in mounts.items():
        folder = root / path.lstrip("/")
        folder.mkdir(parents=True, mode=0o700)
        if "secret" in volume:
            values = secrets[volume["secret"]["secretName"]]
            items = volume["secret"].get("items", [{"key": key, "path": key} for key in values])
            content = {item["path"]: values[item["key"]] for item in items}
        elif "configMap" in volume:
            data = bundle.find("ConfigMap", volume["configMap"]["name"])["data"]
            content = {key: text.encode() for key, text in data.items()}
        else:
            content = {}
        for name, value in content.items():
            (folder / name).write_bytes(value)

    def placed(text: str) -> str:
        return re.sub(
            rf"(?<![\w/])({'|'.join(map(re.escape, mounts))})(?=/|\s|$)", rf"{root}\1", text
        )

    return placed


def otpd_environment(bundle: Bundle, secrets: Data, root: Path) -> dict[str, str]:
    """Returns the environment of otpd with its files below a folder."""
    shutil.rmtree(root, ignore_errors=True)
    pod, container = bundle.otpd()
    placed = lay_out(bundle, pod, container, secrets, root)
    return {name: placed(value) for name, value in bundle.settings().items()}


def accepts(bundle: Bundle, secrets: Data, root: Path) -> None:
    """otpd accepts the settings, and has no warning."""
    environment = otpd_environment(bundle, secrets, root)
    # A folder without `.env`.
    command = [OTPD, "reload", "--check"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode or "warning" in done.stdout + done.stderr:
        raise Failed(f"otpd reload --check:\n{done.stdout}{done.stderr}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def running(command: list, log: Path, **options) -> Iterator[subprocess.Popen]:
    """Runs a program until the block ends."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, log: Path) -> None:
    """Waits until something holds, or the program ends."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"{process.args[0]} is not ready:\n{log.read_text()}")
        time.sleep(0.05)


def answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def status(url: str, body: dict | None = None) -> int | None:
    """Returns the status of the answer to GET, or to POST of a body; None if there is none."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return opener.open(request, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


class Mailbox(socketserver.ThreadingTCPServer):
    """A relay on loopback that keeps what it is given."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Dialogue)
        self.emails: list[bytes] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        super().__exit__(*exception)

    def code(self) -> str:
        """Returns the code of the last email."""
        email = message_from_bytes(self.emails[-1], policy=policy.default)
        return re.search(r"^(\d{6})\s*$", email.get_body(("plain",)).get_content(), re.MULTILINE)[1]


class Dialogue(socketserver.StreamRequestHandler):
    """One connection to the mailbox."""

    def handle(self) -> None:
        self.wfile.write(b"220 mailbox\r\n")
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                email = takewhile(lambda line: line != b".\r\n", self.rfile)
                self.server.emails.append(b"".join(email))
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 mailbox\r\n")
            if verb == b"QUIT":
                return


@contextmanager
def serving(
    bundle: Bundle, secrets: Data, root: Path, amend: Callable[[str], str] = lambda conf: conf
) -> Iterator[tuple[str, Mailbox]]:
    """Runs `otpd serve` with the settings of the overlay, a Redis with the rendered configuration
    and a mailbox as its relay. `amend` changes the configuration of Redis."""
    environment = otpd_environment(bundle, secrets, root)
    pod = bundle.find("StatefulSet", "otpd-redis")["spec"]["template"]
    container = pod["spec"]["containers"][0]
    placed = lay_out(bundle, pod, container, secrets, root / "redis")
    program, conf = (placed(word) for word in container["command"])
    port, api = free_port(), free_port()
    text = placed(amend(Path(conf).read_text()))
    own = f"tls-port {port}\nbind 127.0.0.1"
    Path(conf).write_text(re.sub(r"^tls-port .*$", own, text, flags=re.MULTILINE))
    redis_log, otpd_log = root / "redis.log", root / "otpd.log"
    with running([program, conf], redis_log) as redis, Mailbox() as mailbox:
        wait_for(lambda: answers(port), redis, redis_log)
        environment |= {
            # The certificate is also valid for localhost.
            "REDIS_HOST": "localhost",
            "REDIS_PORT": str(port),
            "SMTP_SERVER": "127.0.0.1",
            "SMTP_PORT": str(mailbox.server_address[1]),
            "OTP_SMTP__TLS": "none",
            "OTP_SMTP__AUTH": "none",
            "EMAIL_PASSWORD_FILE": "",
            "OTP_HTTP__LISTEN": f"127.0.0.1:{api}",
            "OTP_ADMIN__LISTEN": "off",
            "OTP_HTTP__SHUTDOWN_DELAY": "0s",
        }
        with running([OTPD, "serve"], otpd_log, cwd=root, env=environment) as otpd:
            origin = f"http://127.0.0.1:{api}"
            wait_for(lambda: status(f"{origin}/livez") == 200, otpd, otpd_log)
            yield origin, mailbox


def mails_a_code(bundle: Bundle, secrets: Data, root: Path) -> None:
    """A code that is mailed can be verified, once."""
    with serving(bundle, secrets, root) as (origin, mailbox):
        expect(status(f"{origin}/readyz"), 200, "/readyz")
        address = "you@example.com"
        expect(status(f"{origin}/send-otp", {"email": address}), 200, "/send-otp")
        guess = {"email": address, "otp": mailbox.code()}
        expect(status(f"{origin}/verify-otp", guess), 200, "/verify-otp")
        expect(status(f"{origin}/verify-otp", guess), 400, "/verify-otp a second time")


def refuses_to_evict(bundle: Bundle, secrets: Data, root: Path) -> None:
    """otpd is not ready with a Redis that may evict."""
    with serving(bundle, secrets, root, lambda conf: conf.replace("noeviction", "allkeys-lru")) as (
        origin,
        _,
    ):
        expect(status(f"{origin}/readyz"), 503, "/readyz")


def expect(found: int | None, wanted: int, what: str) -> None:
    if found != wanted:
        raise Failed(f"{what} answers {found} and not {wanted}")
