"""What no schema tells schemathesis: which addresses take mail, which ids there are, and which codes were mailed."""

import atexit
import collections
import itertools
import json
import os
import re
import zlib

import requests
import schemathesis
from hypothesis import strategies
from schemathesis.openapi.checks import UseAfterFree

ORIGIN = os.environ["OTPD_ORIGIN"]

# What the format alone gives is often mailed to by nobody (quoted local parts, domains of one label). Half of the addresses are
# ordinary ones, so that verifications come to be.
ordinary = strategies.from_regex(r"[a-z][a-z0-9]{7,11}(\+[a-z]{1,4})?@[a-z]{3,8}\.example\.(com|org)", fullmatch=True)
schemathesis.openapi.format("email", ordinary | strategies.emails())

# The address and the reference of each verification that was made, by its id, and which of them are over; the addresses of the
# simple endpoints that have a live code.
made = {}
over = set()
sent = []
fresh = itertools.count()
# How often each operation answered with which status.
answers = collections.Counter()


def operation_of(case):
    return case.operation.definition.raw["operationId"]


def mailed_code(address, reference=""):
    mails = requests.get(f"{ORIGIN}/dev/mails", params={"to": address}, timeout=10).json()
    text = next(mail["text"] for mail in mails if reference in mail["text"])
    [code] = re.findall(r"\b\d{6}\b", text)
    return code


@schemathesis.hook
def before_call(context, case, kwargs):
    """Makes a part of the valid cases ones that can succeed: fresh addresses, ids that there are, codes that were mailed."""
    if case.meta is not None and not case.meta.generation.mode.is_positive:
        return
    operation = operation_of(case)
    # By what was generated, so that a repetition of the case does the same.
    chance = zlib.crc32(repr((case.path_parameters, case.body)).encode())
    if operation in ("createVerification", "sendOtp") and chance % 4:
        case.body["email"] = f"n{next(fresh)}{case.body['email']}"
    if "id" in case.path_parameters and case.path_parameters["id"] not in made and chance % 4:
        if usable := [id for id in made if id not in over]:
            case.path_parameters["id"] = usable[chance // 4 % len(usable)]
    if operation == "checkVerification" and case.path_parameters["id"] in made and chance % 3 == 0:
        case.body["code"] = mailed_code(*made[case.path_parameters["id"]])
    if operation == "verifyOtp" and sent and chance % 3 == 0:
        address = sent.pop()
        case.body = {"email": address, "otp": mailed_code(address)}


@schemathesis.hook
def after_call(context, case, response):
    operation, status = operation_of(case), response.status_code
    answers[operation, status] += 1
    if (operation, status) == ("createVerification", 201):
        made[response.json()["id"]] = case.body["email"], response.json()["reference"]
    if (operation, status) == ("sendOtp", 200):
        sent.append(case.body["email"])
    if status == 410 or (operation, status) in (("checkVerification", 200), ("cancelVerification", 204)):
        over.add(case.path_parameters["id"])


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
