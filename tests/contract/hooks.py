"""What schemathesis cannot know from the schema: which addresses take email, which ids exist, and
which codes were sent.
"""

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

# Many addresses that the format alone generates are rejected (quoted local parts, domains of one
# label). Half of the addresses are ordinary ones, so that verifications are created.
ORDINARY = re.compile(r"[a-z][a-z0-9]{7,11}(\+[a-z]{1,4})?@[a-z]{3,8}\.example\.(com|org)")
ordinary = strategies.from_regex(ORDINARY, fullmatch=True)
schemathesis.openapi.format("email", ordinary | strategies.emails())
# No format of JSON Schema covers both kinds of IP address; the document names it `ip`.
schemathesis.openapi.format("ip", strategies.ip_addresses().map(str))

turns = itertools.count()
# The address and the reference of each verification, by its id.
made = {}
# The ids of verifications that this file has created and that have not ended.
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
    """Returns the id of a pending verification, a different one each time: its address takes one
    email a second.
    """
    while len(pool) < 20:
        body, headers = {"email": f"{uuid.uuid4()}@example.com"}, {"Authorization": f"Bearer {API_KEY}"}
        answer = requests.post(f"{ORIGIN}/v1/verifications", json=body, headers=headers, timeout=20)
        pool.append(note(body["email"], answer.json()))
    return pool.popleft()


def mailed_code(address, reference=""):
    """Returns the code in the newest email to the address, if it is still in the mailbox, which
    stores only the newest emails.
    """
    mails = requests.get(f"{ORIGIN}/dev/mails", params={"to": address}, timeout=20).json()
    codes = [re.search(r"\b\d{6}\b", mail["text"])[0] for mail in mails if reference in mail["text"]]
    return codes[0] if codes else "000000"


@schemathesis.hook
def before_call(context, case, kwargs):
    """Changes most of the valid cases so that they can succeed: unused addresses, existing ids,
    codes that were sent.
    """
    if case.meta is not None and not case.meta.generation.mode.is_positive:
        # Still invalid, with a non-ASCII byte that a framework might silently drop.
        if isinstance(case.headers.get("Idempotency-Key"), str) and next(turns) % 2:
            case.headers["Idempotency-Key"] += "\xd7"
        return
    operation = operation_of(case)
    # Bodies are replaced, not changed, because some are the examples of the document itself. The
    # choice depends on the generated body, so that a repetition of the case does the same.
    chance = zlib.crc32(repr(case.body).encode())
    # Hypothesis repeats a chain of calls, and gives up if the answers differ. So each chain starts
    # with an unused address and an unused key, and the following calls keep its id.
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
    """DELETE cancels: the verification can still be read for a while, but only as `canceled`.
    Anything else after a DELETE is a failure.
    """
    is_seen = isinstance(failure, UseAfterFree) and operation_of(case) == "showVerification"
    return not (is_seen and response.json()["status"] == "canceled")


@schemathesis.check
def problem_says_its_status(ctx, response, case):
    """RFC 9457: the member `status` is the status of the answer."""
    if "application/problem+json" in response.headers.get("content-type", [""])[0]:
        said = response.json()["status"]
        assert said == response.status_code, f"a problem says {said}, the answer {response.status_code}"
