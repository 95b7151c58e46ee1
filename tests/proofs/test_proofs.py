"""Proofs of a running `otpd dev`, verified by PyJWT with exactly the code that docs/proofs.md
shows.

OTPD_ORIGIN and OTPD_API_KEY name the process; `run` sets them.
"""

import base64
import contextlib
import http.server
import json
import os
import pathlib
import re
import threading
import time
import urllib.parse
import urllib.request

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ORIGIN = os.environ["OTPD_ORIGIN"]
DOCUMENT = pathlib.Path(__file__).parents[2] / "docs/proofs.md"
HEADERS = {"Authorization": f"Bearer {os.environ['OTPD_API_KEY']}", "Content-Type": "application/json"}
ADDRESS = "Python.Proof+x@example.com"
ALGORITHM = os.environ["OTPD_PROOF_ALGORITHM"]
OTHER_ALGORITHM = {"EdDSA": "ES256", "ES256": "EdDSA"}[ALGORITHM]


def new_key(algorithm=ALGORITHM):
    return Ed25519PrivateKey.generate() if algorithm == "EdDSA" else ec.generate_private_key(ec.SECP256R1())


def verifier(origin):
    """Returns the function `verified` of the document, with the keys of this origin."""
    [code] = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    namespace = {}
    exec(code.replace("https://otpd.example.com", origin), namespace)
    return namespace["verified"]


def call(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(ORIGIN + path, data, HEADERS), timeout=20) as answer:
        return json.load(answer)


def mailed_code(address):
    mails = call(f"/dev/mails?to={urllib.parse.quote(address)}")
    [code] = re.findall(r"\b\d{6}\b", mails[0]["text"])
    return code


@pytest.fixture(scope="module")
def confirmed():
    """Returns the answer to the check of an emailed code."""
    made = call("/v1/verifications", {"email": ADDRESS, "purpose": "signup"})
    return call(f"/v1/verifications/{made['id']}/check", {"code": mailed_code(ADDRESS)})


@pytest.fixture(scope="module")
def proof(confirmed):
    return confirmed["proof"]


@pytest.fixture(scope="module")
def verified():
    return verifier(ORIGIN)


def part(value):
    """Encodes a part of a JWT."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims_of(proof):
    return jwt.decode(proof, options={"verify_signature": False})


def signed(claims, key, kid, algorithm=ALGORITHM, **header):
    return jwt.encode(claims, key, algorithm, headers={"kid": kid, "typ": "otp-proof+jwt", **header})


def test_a_proof_says_what_was_confirmed(confirmed, proof, verified):
    claims = verified(proof, "signup")
    issued = claims["iat"]
    assert abs(time.time() - issued) < 60
    assert claims == {
        "iss": "otpd",
        "aud": "dev",
        "sub": ADDRESS,
        "purpose": "signup",
        "method": "mail_code",
        "jti": confirmed["id"],
        "iat": issued,
        "exp": issued + 300,
    }
    [key] = call("/.well-known/jwks.json")["keys"]
    assert jwt.get_unverified_header(proof) == {"typ": "otp-proof+jwt", "alg": ALGORITHM, "kid": key["kid"]}
    assert key["alg"] == ALGORITHM
    coordinates = {"x", "y"} if ALGORITHM == "ES256" else {"x"}
    assert set(key) == {"kty", "crv", "kid", "use", "alg"} | coordinates, "and no private half"


def test_a_proof_says_the_same_when_it_is_shown_again(confirmed, proof, verified):
    shown = call(f"/v1/verifications/{confirmed['id']}")["proof"]
    assert verified(shown, "signup") == verified(proof, "signup")
    # An ECDSA signature has a random part.
    assert (shown == proof) == (ALGORITHM == "EdDSA")


def test_a_proof_of_the_simple_endpoints_is_for_no_tenant(verified):
    address = "simple.proof@example.com"
    call("/send-otp", {"email": address})
    body = json.dumps({"email": address, "otp": mailed_code(address)}).encode()
    request = urllib.request.Request(f"{ORIGIN}/verify-otp", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        proof = answer.headers["OTP-Proof"]
    claims = claims_of(proof)
    assert (claims["aud"], claims["purpose"], claims["sub"]) == ("simple", "simple", address)
    with pytest.raises(jwt.InvalidAudienceError):
        verified(proof, "simple")


def test_another_purpose_is_refused(proof, verified):
    with pytest.raises(jwt.InvalidTokenError, match="purpose"):
        verified(proof, "password")


def test_a_changed_claim_is_refused(proof, verified):
    header, _, signature = proof.split(".")
    changed = part(claims_of(proof) | {"sub": "another@example.com"})
    with pytest.raises(jwt.InvalidSignatureError):
        verified(f"{header}.{changed}.{signature}", "signup")


def test_a_foreign_key_under_the_same_kid_is_refused(proof, verified):
    kid = jwt.get_unverified_header(proof)["kid"]
    with pytest.raises(jwt.InvalidSignatureError):
        verified(signed(claims_of(proof), new_key(), kid), "signup")


def test_another_algorithm_under_the_same_kid_is_refused(proof, verified):
    kid = jwt.get_unverified_header(proof)["kid"]
    foreign = signed(claims_of(proof), new_key(OTHER_ALGORITHM), kid, OTHER_ALGORITHM)
    with pytest.raises(jwt.InvalidTokenError):
        verified(foreign, "signup")


def test_an_unsigned_proof_is_refused(proof, verified):
    header = jwt.get_unverified_header(proof) | {"alg": "none"}
    for signature in ("", proof.split(".")[2]):
        with pytest.raises(jwt.InvalidAlgorithmError):
            verified(f"{part(header)}.{part(claims_of(proof))}.{signature}", "signup")


def test_a_proof_keyed_with_the_public_key_is_refused(proof, verified):
    [key] = call("/.well-known/jwks.json")["keys"]
    public = jwt.PyJWK(key).key
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    header = jwt.get_unverified_header(proof) | {"alg": "HS256"}
    message = f"{part(header)}.{part(claims_of(proof))}"
    hmac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
    point = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    data = public.public_bytes(*(raw if ALGORITHM == "EdDSA" else point))
    for secret in (data, pem, key["x"].encode(), json.dumps(key).encode()):
        with pytest.raises(jwt.InvalidAlgorithmError):
            verified(f"{message}.{part(hmac.sign(message.encode(), secret))}", "signup")


@contextlib.contextmanager
def another_issuer():
    """Starts a server with its own key; returns the key, its name and the verifier of what it
    signs.
    """
    key = new_key()
    public = jwt.get_algorithm_by_name(ALGORITHM).to_jwk(key.public_key(), as_dict=True)
    public = {name: value for name, value in public.items() if name in ("kty", "crv", "x", "y")}
    document = json.dumps({"keys": [public | {"kid": "t1", "use": "sig", "alg": ALGORITHM}]}).encode()

    class Keys(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(document)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Keys) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield key, "t1", verifier(f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("change", "header", "error"),
    [
        ({"exp": int(time.time()) - 1}, {}, jwt.ExpiredSignatureError),
        ({"iss": "another"}, {}, jwt.InvalidIssuerError),
        ({"aud": "another"}, {}, jwt.InvalidAudienceError),
        ({"aud": ["dev", "another"]}, {}, jwt.InvalidAudienceError),
        ({}, {"typ": "JWT"}, jwt.InvalidTokenError),
        ({"test": True}, {}, jwt.InvalidTokenError),
        *(({name: None}, {}, jwt.MissingRequiredClaimError) for name in ("iss", "aud", "sub", "purpose", "jti", "exp")),
    ],
    ids=str,
)
def test_what_a_known_key_signed_is_refused_for(change, header, error, proof):
    with another_issuer() as (key, kid, verified):
        claims = claims_of(proof)
        # Without the change the proof is valid, so it is rejected for nothing but the change.
        assert verified(signed(claims, key, kid), "signup") == claims
        changed = {name: value for name, value in (claims | change).items() if value is not None}
        with pytest.raises(error):
            verified(signed(changed, key, kid, **header), "signup")
