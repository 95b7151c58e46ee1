"""A Postfix that shares nothing with one of the system: it has its own files, ports and users.

It delivers every message into one Maildir, whatever the domain, so no email can leave the machine.
"""

import os
import pathlib
import pwd
import random
import re
import shutil
import signal
import socket
import socketserver
import stat
import subprocess
import threading

from waiting import eventually

USER, PASSWORD = "codes@sender.example", "Rel4y-p4ssw0rd"
# Recipients that Postfix refuses and defers.
REFUSED, DEFERRED = "refused@example.com", "deferred@example.com"
# Logins are checked by Dovecot, if it runs (dovecot.py).
DOVECOT = "-o smtpd_sasl_type=dovecot -o smtpd_sasl_path={folder}/dovecot/auth "
# The services, each on its own port, and how they differ from the first.
SERVICES = {
    # Like port 587 of a provider: STARTTLS first, then a login, then messages.
    "submission": "",
    # Like port 465.
    "implicit": "-o smtpd_tls_wrappermode=yes",
    # What is left if an attacker strips STARTTLS: a login is still offered.
    "plaintext": "-o smtpd_tls_security_level=none -o smtpd_tls_auth_only=no",
    # Takes two seconds to answer a message.
    "slow": "-o { smtpd_end_of_data_restrictions = sleep 2 }",
    # Allows as many connections per client as Postfix does by default.
    "crowded": "-o smtpd_client_connection_count_limit=50",
    # Take tokens only, by one mechanism each.
    "xoauth2": DOVECOT + "-o smtpd_sasl_mechanism_filter=xoauth2",
    "oauthbearer": DOVECOT + "-o smtpd_sasl_mechanism_filter=oauthbearer",
    # Defers each recipient once, as greylisting relays do.
    "greylisting": "-o { smtpd_recipient_restrictions = check_policy_service unix:{folder}/policy, $logged_in }",
}
MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
myhostname = relay.example
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks =
smtpd_peername_lookup = no
disable_dns_lookups = yes
fast_flush_domains =
default_process_limit = 200
in_flow_delay = 0
# A message whose delivery was interrupted is soon retried.
queue_run_delay = 1
minimal_backoff_time = 1
maximal_backoff_time = 1
transport_retry_time = 1
smtpd_client_connection_count_limit = 0

smtpd_tls_security_level = encrypt
smtpd_tls_auth_only = yes
smtpd_tls_cert_file = {folder}/relay.pem
smtpd_tls_key_file = {folder}/relay.key
smtpd_tls_received_header = yes
smtpd_tls_loglevel = 1

smtpd_sasl_auth_enable = yes
smtpd_sasl_type = cyrus
smtpd_sasl_path = smtpd
cyrus_sasl_config_path = {folder}/conf/sasl
smtpd_sasl_authenticated_header = yes
logged_in = permit_sasl_authenticated, reject
recipients = inline:{{ {{ {refused} = 550 5.1.1 no such user }}, {{ {deferred} = 450 4.2.1 not now }} }}
smtpd_relay_restrictions = $logged_in
smtpd_recipient_restrictions = check_recipient_access $recipients, $logged_in

# Messages are delivered as they were sent: no header is added or removed.
local_header_rewrite_clients =
message_drop_headers =

mydestination =
local_recipient_maps =
alias_maps =
alias_database =
virtual_mailbox_domains = static:all
virtual_mailbox_base = {folder}
virtual_mailbox_maps = static:inbox/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
"""
# No smtp and no local: the Maildir is the only destination.
MASTER = """
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
retry unix - - n - - error
error unix - - n - - error
anvil unix - - n - 1 anvil
virtual unix - n n - - virtual
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """A relay in a new folder; `ports` has a port for each of SERVICES, `ca` is its certificate
    authority.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.conf = self.folder / "conf"
        self.ca = self.folder / "ca.pem"
        self._inbox = self.folder / "inbox"
        for name in ("conf/sasl", "queue", "data"):
            (self.folder / name).mkdir(parents=True)
        owner, reader = pwd.getpwnam("postfix"), pwd.getpwnam("nobody")
        os.chown(self.folder / "data", owner.pw_uid, owner.pw_gid)
        make_authority(self.ca)
        make_certificate(self.folder / "relay.pem", self.ca)

        users = self.folder / "users"
        name, realm = USER.split("@")
        run(["saslpasswd2", "-p", "-c", "-f", users, "-u", realm, name], input=PASSWORD)
        os.chown(users, owner.pw_uid, owner.pw_gid)
        (self.conf / "sasl/smtpd.conf").write_text(
            f"pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\nsasldb_path: {users}\n"
        )
        for name in ("tmp", "new", "cur"):
            (self._inbox / name).mkdir(parents=True)
            os.chown(self._inbox / name, reader.pw_uid, reader.pw_gid)
        text = MAIN.format(folder=self.folder, refused=REFUSED, deferred=DEFERRED, uid=reader.pw_uid, gid=reader.pw_gid)
        (self.conf / "main.cf").write_text(text)
        self._settle_on_ports()

    def _settle_on_ports(self):
        """Starts on free ports. Tries more than one set, because another run may take them."""
        for _ in range(10):
            self.ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
            services = (f"127.0.0.1:{self.ports[name]} inet n - n - - smtpd {how}" for name, how in SERVICES.items())
            text = "\n".join(services).replace("{folder}", str(self.folder))
            (self.conf / "master.cf").write_text(text + MASTER)
            if self._call("start").returncode == 0:
                return
        raise AssertionError(f"Postfix does not start: {self.log()[-2000:]}")

    def _call(self, word):
        return subprocess.run(["postfix", "-c", self.conf, word], capture_output=True, text=True, timeout=60)

    def runs(self):
        return self._call("status").returncode == 0

    def start(self):
        # Fails until the last process of the previous instance has freed its ports.
        eventually("Postfix", self._starts)

    def _starts(self):
        # Skips the initial check of all files, which is slow and fails on files half written at a
        # crash.
        (self.folder / "queue/quick-start").touch()
        return self._call("start").returncode == 0

    def stop(self):
        """Ends all of its processes, and with them the open connections."""
        assert self._call("stop").returncode == 0

    def crash(self):
        """Does the same at once (SIGKILL), which interrupts everything in progress."""
        group = int((self.folder / "queue/pid/master.pid").read_text())
        os.killpg(group, signal.SIGKILL)
        # Until then they hold their sockets, and a new instance can listen beside them.
        eventually("the end of Postfix", lambda: not runs_any(group))

    def close(self):
        if self.runs():
            self.stop()
        shutil.rmtree(self.folder)

    def log(self, start=0):
        """Returns what it logged, starting at this byte."""
        with (self.folder / "log").open("rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")

    def settle(self):
        """Waits until every message that it accepted is delivered."""
        # In the order in which a message passes through them, so that none is missed.
        queues = [self.folder / "queue" / name for name in ("deferred", "incoming", "active")]
        eventually("an empty queue", lambda: not any(is_taken(path) for queue in queues for path in queue.rglob("*")))

    def mails(self):
        """Returns all emails as they were delivered, in no particular order."""
        self.settle()
        return [path.read_bytes() for path in (self._inbox / "new").iterdir()]

    def empty(self):
        self.settle()
        for path in (self._inbox / "new").iterdir():
            path.unlink()


class Greylist(socketserver.ThreadingUnixStreamServer):
    """Tells Postfix to defer each recipient that is new; `postponed` has all of them."""

    daemon_threads = True

    def __init__(self, postfix):
        self.postponed = []
        self._socket = postfix.folder / "policy"
        super().__init__(str(self._socket), Asked)
        self._socket.chmod(0o666)

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()
        self._socket.unlink()


class Asked(socketserver.StreamRequestHandler):
    """Postfix's policy protocol: lines of `name=value`, then an empty one."""

    def handle(self):
        for line in self.rfile:
            name, _, value = line.decode().strip().partition("=")
            if name == "recipient":
                recipient = value
            elif not name:
                is_new = recipient not in self.server.postponed
                if is_new:
                    self.server.postponed.append(recipient)
                self.wfile.write(b"action=%s\n\n" % (b"450 4.7.1 greylisted" if is_new else b"dunno"))


class LogMark:
    """What a Postfix logs from now on."""

    def __init__(self, postfix):
        self._postfix = postfix
        self._start = (postfix.folder / "log").stat().st_size

    def text(self):
        return self._postfix.log(self._start)

    def told(self):
        return "Postfix", self.text().splitlines()

    def count(self, pattern):
        return len(re.findall(pattern, self.text()))


def is_taken(path):
    """Returns whether a file of a queue is a message that Postfix has accepted: it is executable,
    and one still being received is not.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        # It has moved to the next queue or was delivered; the next check will tell.
        return True
    return stat.S_ISREG(mode) and bool(mode & stat.S_IXUSR)


def runs_any(group):
    """Returns whether a process of this group has not ended."""
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            # What follows the name: the state, the parent and the group.
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_group) == group and state not in "ZX":
            return True
    return False


def free_ports(count):
    """Returns ports that nobody listens on. The system does not use them for outgoing connections,
    so they stay free while Postfix is down.
    """
    found = []
    while len(found) < count:
        port = random.randrange(20000, 30000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def run(words, **options):
    subprocess.run(words, check=True, capture_output=True, text=True, timeout=60, **options)


def make_authority(certificate):
    """Makes a new certificate authority; its key is stored next to its certificate."""
    make(certificate, "authority.example", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")


def make_certificate(certificate, authority):
    """Makes a certificate for localhost that this authority issues."""
    vouching = ["-CA", authority, "-CAkey", authority.with_suffix(".key")]
    make(certificate, "localhost", "basicConstraints=critical,CA:FALSE", "subjectAltName=DNS:localhost", words=vouching)


def make(certificate, name, *extensions, words=()):
    words = ["openssl", "req", "-x509", "-config", os.devnull, "-days", "2", "-subj", f"/CN={name}", *words]
    words += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for extension in extensions:
        words += ["-addext", extension]
    run([*words, "-out", certificate, "-keyout", certificate.with_suffix(".key")])
