# Gets codes from otpd by its hook and sends each as an SMS: python sms.py
# HOOK_SECRET is the value of otpd's OTP_HOOK__SECRET; PORT is where to listen (9000). PHONES, if set,
# is a JSON object with the telephone number of each email address.
import base64
import hashlib
import hmac
import json
import os
import sys
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = base64.b64decode(os.environ["HOOK_SECRET"].removeprefix("whsec_"))
PHONES = json.loads(os.environ.get("PHONES", "null"))
# Ids of the last messages; a request that comes twice is not sent twice.
sent = deque(maxlen=1000)


def is_signed(headers, body):
    """Returns whether otpd signed this request within the last five minutes (Standard Webhooks)."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > 300:
        return False
    signed = f"{message_id}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    given = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(f"v1,{signature}".encode(), one.encode()) for one in given)


def send_sms(email, text):
    """Put your gateway here; raise an error if it does not accept the message."""
    phone = PHONES[email] if PHONES is not None else f"the phone of {email}"
    print(f"to {phone}: {text}", flush=True)


class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if not is_signed(self.headers, body):
            self.send_error(401)
            return
        code = json.loads(body)
        if code["id"] not in sent:
            try:
                send_sms(code["to"], f"{code['code']} is your code for {code['brand']}")
            except Exception as error:
                print(f"not sent: {type(error).__name__}", file=sys.stderr, flush=True)
                # Refused: nobody has the code, and otpd uses its next transport. If the gateway may
                # have sent the message all the same, answer 500.
                self.send_error(400)
                return
            sent.append(code["id"])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        """Logs nothing, because the request contains a code."""


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "9000"))), Hook)
print(f"listening on port {server.server_port}", flush=True)
server.serve_forever()
