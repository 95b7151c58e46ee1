"""Dovecot's SASL for a Postfix, and the authorization server that both it and otpd ask.

Dovecot runs its auth service only, in its own folder. It has no users: a login is a token that the
authorization server knows.
"""

import http.server
import json
import pathlib
import secrets
import shutil
import subprocess
import threading
import urllib.parse

from postfix import USER
from waiting import eventually

CLIENT = {"client_id": "otpd", "client_secret": "cl1ent~s3cret&more"}
CONF = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
auth_debug = yes
# Refusals are not delayed, however many there were.
auth_failure_delay = 0
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
protocols =
listen = 127.0.0.1
ssl = no
auth_mechanisms = xoauth2 oauthbearer
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {folder}/oauth2.conf
}}
service auth {{
  unix_listener {folder}/auth {{
    mode = 0666
  }}
}}
"""
OAUTH2 = """
introspection_mode = post
introspection_url = {url}/introspect
username_attribute = username
active_attribute = active
active_value = true
"""


class Tokens(http.server.ThreadingHTTPServer):
    """An authorization server: a token endpoint (RFC 6749) and introspection (RFC 7662)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Endpoint)
        self.reset()
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.settings = {
            "OTP_SMTP__AUTH": "oauth",
            "OTP_SMTP__OAUTH_TOKEN_URL": f"{self.url}/token",
            "OTP_SMTP__OAUTH_CLIENT_ID": CLIENT["client_id"],
            "OTP_SMTP__OAUTH_CLIENT_SECRET": CLIENT["client_secret"],
        }
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def reset(self):
        """Forgets every token, and answers."""
        # Every token that it granted, in this order.
        self.granted = []
        self.active = set()
        self.is_down = False

    def revoke(self):
        """Ends every token that it has granted."""
        self.active.clear()

    def close(self):
        self.shutdown()
        self.server_close()


class Endpoint(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = dict(urllib.parse.parse_qsl(form, strict_parsing=True))
        if self.path == "/introspect":
            is_active = form["token"] in self.server.active
            self._answer(200, {"active": is_active} | ({"username": USER} if is_active else {}))
        elif self.server.is_down:
            self._answer(503, {})
        elif form == {"grant_type": "client_credentials"} | CLIENT:
            # As long as those of providers, so that it does not fit into the AUTH command.
            token = secrets.token_urlsafe(900)
            self.server.granted.append(token)
            self.server.active.add(token)
            self._answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": 3600})
        else:
            self._answer(401, {"error": "invalid_client"})

    def _answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing."""


class Dovecot:
    """Dovecot's auth service for the Postfix that looks for it in this folder."""

    def __init__(self, folder, tokens):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir()
        conf = self.folder / "dovecot.conf"
        conf.write_text(CONF.format(folder=self.folder))
        (self.folder / "oauth2.conf").write_text(OAUTH2.format(url=tokens.url))
        self._process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", "dovecot", "-F", "-c", conf])
        try:
            eventually("Dovecot", self._listens)
        except BaseException:
            self.close()
            raise

    def _listens(self):
        assert self._process.poll() is None, self.log()
        return (self.folder / "auth").is_socket()

    def log(self):
        return (self.folder / "log").read_text(errors="replace")

    def told(self):
        return "Dovecot", self.log().splitlines()

    def close(self):
        self._process.terminate()
        self._process.wait(timeout=30)
        shutil.rmtree(self.folder)
