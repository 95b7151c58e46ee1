"""otpd with Amazon SES: what arrives, and what is refused."""

import base64
import contextlib
import email
import email.policy
import http.server
import json
import re
import threading

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.loaders
import botocore.model
import botocore.serialize

from amazon import REGION, SENDER
from service import BRAND

TO = "a@example.com"


def parsed(raw):
    return email.message_from_bytes(raw, policy=email.policy.default)


def code_in(text):
    [code] = [line for line in text.splitlines() if re.fullmatch(r"\d{6}", line)]
    return code


def test_a_message_arrives_whole(amazon, start):
    otpd = start()
    assert otpd.send(TO)[0] == 200
    [message] = amazon.messages()
    assert message.source == SENDER and set(message.destinations) == {TO}
    mail = parsed(message.raw_data.encode())
    assert mail["To"] == TO and mail["Subject"] == f"Your code for {BRAND}"
    [sender] = mail["From"].addresses
    assert (sender.display_name, sender.addr_spec) == (BRAND, SENDER)
    assert mail["Auto-Submitted"] == "auto-generated" and mail["Content-Language"] == "en"
    assert mail["Message-ID"] == f"<{mail['X-Entity-Ref-ID']}@sender.example>"
    text, html = (mail.get_body([kind]).get_content() for kind in ("plain", "html"))
    code = code_in(text)
    assert html.count(code) == 1 and "<html" in html
    assert otpd.verify(TO, code)[0] == 200


def test_each_email_of_v1_is_a_message_of_its_own(amazon, start):
    otpd = start()
    for number in (1, 2):
        status, created = otpd.create(TO)
        assert status == 201
        mail = parsed(amazon.messages()[number - 1].raw_data.encode())
        assert created["reference"] in mail["Subject"]
        assert otpd.check(created["id"], code_in(mail.get_body(["plain"]).get_content()))[0] == 200
    assert len({message.id for message in amazon.messages()}) == 2


def refused(amazon, otpd):
    """Returns the log of a send that is refused."""
    assert otpd.send(TO)[0] == 500
    status, problem = otpd.create(TO)
    assert status == 502 and "id" not in problem
    assert amazon.messages() == []
    log = otpd.whole_log()
    assert TO not in log
    return log


def test_a_wrong_secret_sends_nothing(amazon, start):
    log = refused(amazon, start(OTP_SES__SECRET_ACCESS_KEY="wrong"))
    assert "refused with status 403" in log


def test_an_unknown_key_sends_nothing(amazon, start):
    log = refused(amazon, start(OTP_SES__ACCESS_KEY_ID="AKIAUNKNOWN"))
    assert "refused with status 403" in log


def test_a_region_without_the_sender_sends_nothing(amazon, start):
    log = refused(amazon, start(OTP_SES__REGION="us-east-1"))
    assert "refused with status 400 (MessageRejected)" in log


@contextlib.contextmanager
def recorder():
    """A server that accepts everything, and the requests that it gets."""
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.append((self.path, self.headers, body))
            answer = b'{"MessageId":"recorded"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()


def test_the_request_is_the_one_that_amazons_own_library_makes(amazon, start):
    model = botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model("sesv2", "service-2"))
    with recorder() as (url, requests):
        assert start(OTP_SES__URL=url).send(TO)[0] == 200
    [(path, headers, body)] = requests
    raw = base64.b64decode(json.loads(body)["Content"]["Raw"]["Data"])
    call = {"Destination": {"ToAddresses": [TO]}, "Content": {"Raw": {"Data": raw}}}
    serializer = botocore.serialize.create_serializer(model.metadata["protocol"])
    # Checks it against the description of the API.
    expected = serializer.serialize_to_request(call, model.operation_model("SendEmail"))
    assert ("POST", path) == (expected["method"], expected["url_path"])
    assert json.loads(body) == json.loads(expected["body"])

    credentials = botocore.credentials.Credentials(amazon.key["AccessKeyId"], amazon.key["SecretAccessKey"])
    signer = botocore.auth.SigV4Auth(credentials, model.metadata["signingName"], REGION)
    signed = re.search(r"SignedHeaders=([a-z;-]+)", headers["Authorization"])[1].split(";")
    assert {"host", "x-amz-date"} <= set(signed)
    request = botocore.awsrequest.AWSRequest(
        "POST", url + path, {name: headers[name] for name in signed if name != "host"}, body
    )
    request.context["timestamp"] = headers["X-Amz-Date"]
    to_sign = signer.string_to_sign(request, signer.canonical_request(request))
    assert headers["Authorization"].endswith(f"Signature={signer.signature(to_sign, request)}")
