"""What no schema tells schemathesis: which addresses take mail, which ids there are, and which codes were mailed."""

import atexit
import collections
import itertools
import json
import os
import re
import uuid
import zlib

import requests
import schemathesis
from hypothesis import strategies
from schemathesis.openapi.checks import UseAfterFree

ORIGIN, API_KEY = os.environ["OTPD_ORIGIN"], os.environ["OTPD_API_KEY"]

# What the format alone gives is often mailed to by nobody (quoted local parts, domains of one label). Half of the addresses are
# ordinary ones, so that verifications come to be.
ORDINARY = re.compile(r"[a-z][a-z0-9]{7,11}(\+[a-z]{1,4})?@[a-z]{3,8}\.example\.(com|org)")
ordinary = strategies.from_regex(ORDINARY, fullmatch=True)
schemathesis.openapi.format("email", ordinary | strategies.emails())
# No format of JSON Schema is both kinds of address; the document calls it this.
schemathesis.openapi.format("ip", strategies.ip_addresses().map(str))

turns = itertools.count()
# The address and the reference of each verification, by its id.
made = {}
# Those that this file has made, and nothing has ended.
pool = collections.deque()
# The addresses of the simple endpoints that have a live code.
sent = []
# How often each operation answered with which status.
answers = collections.Counter()


def operation_of(case):
    return case.operation.definition.raw["operationId"]


def note(address, answer):
    made[answer["id"]] = address, answer["reference"]
    return answer["id"]


def pooled():
    """The id of a pending verification: another one each time, since its address takes one mail a second."""
    while len(pool) < 20:
        body, headers = {"email": f"{uuid.uuid4()}@example.com"}, {"Authorization": f"Bearer {API_KEY}"}
        answer = requests.post(f"{ORIGIN}/v1/verifications", json=body, headers=headers, timeout=20)
        pool.append(note(body["email"], answer.json()))
    return pool.popleft()


def mailed_code(address, reference=""):
    """The code in the newest mail to the address, if that is still in the box, which keeps the newest mails only."""
    mails = requests.get(f"{ORIGIN}/dev/mails", params={"to": address}, timeout=20).json()
    codes = [re.search(r"\b\d{6}\b", mail["text"])[0] for mail in mails if reference in mail["text"]]
    return codes[0] if codes else "000000"


@schemathesis.hook
def before_call(context, case, kwargs):
    """Makes most of the valid cases ones that can succeed: fresh addresses, ids that there are, codes that were mailed."""
    if case.meta is not None and not case.meta.generation.mode.is_positive:
        # As wrong as before, and what a framework may lose without a word: an octet beyond ASCII.
        if isinstance(case.headers.get("Idempotency-Key"), str) and next(turns) % 2:
            case.headers["Idempotency-Key"] += "\xd7"
        return
    operation = operation_of(case)
    # Bodies are replaced, not changed: some are the examples of the document itself.
    # By what was generated, so that a repetition of the case does the same.
    chance = zlib.crc32(repr(case.body).encode())
    # Hypothesis repeats a chain of calls, and gives up when the answers are others then. So each starts with an address and a key
    # that were never used, and what follows keeps its id.
    is_chained = case.meta is not None and case.meta.phase.name == "stateful"
    if operation in ("createVerification", "sendOtp"):
        if is_chained or (chance % 4 and ORDINARY.fullmatch(case.body["email"])):
            case.body = {**case.body, "email": f"{uuid.uuid4()}@example.com"}
        if is_chained and "Idempotency-Key" in case.headers:
            case.headers["Idempotency-Key"] = str(uuid.uuid4())
    if "id" in case.path_parameters and not is_chained and next(turns) % 4:
        case.path_parameters["id"] = pooled()
        if operation in ("showVerification", "resendVerification"):
            pool.append(case.path_parameters["id"])
    if operation == "checkVerification" and case.path_parameters["id"] in made and chance % 3:
        case.body = {**case.body, "code": mailed_code(*made[case.path_parameters["id"]])}
    if operation == "verifyOtp" and sent and chance % 3:
        address = sent.pop()
        case.body = {"email": address, "otp": mailed_code(address)}


@schemathesis.hook
def after_call(context, case, response):
    operation, status = operation_of(case), response.status_code
    answers[operation, status] += 1
    if (operation, status) == ("createVerification", 201):
        note(case.body["email"], response.json())
    if (operation, status) == ("sendOtp", 200):
        sent.append(case.body["email"])


@atexit.register
def write_answers():
    with open(os.environ["OTPD_ANSWERS"], "w") as file:
        json.dump([[*answer, count] for answer, count in sorted(answers.items())], file)


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """DELETE cancels: a verification stays to be seen for a while, but only as `canceled`. All else after a DELETE is a failure."""
    is_seen = isinstance(failure, UseAfterFree) and operation_of(case) == "showVerification"
    return not (is_seen and response.json()["status"] == "canceled")


@schemathesis.check
def problem_says_its_status(ctx, response, case):
    """RFC 9457: the member `status` is the status of the answer."""
    if "application/problem+json" in response.headers.get("content-type", [""])[0]:
        said = response.json()["status"]
        assert said == response.status_code, f"a problem says {said}, the answer {response.status_code}"
