# Confirms an address with the models that datamodel-codegen generates from the document, as its
# users send them: every unset optional member is sent as `null`. Prints the same as the programs in
# examples/.

import os
import sys
import urllib.error
import urllib.request

from models import (
    Approval,
    CheckVerificationRequest,
    CreateVerificationRequest,
    Problem,
    ResendVerificationRequest,
    Verification,
)


def call(path, body):
    """Returns the status and the text of the answer."""
    headers = {"Authorization": f"Bearer {os.environ['OTPD_API_KEY']}", "Content-Type": "application/json"}
    text = body.model_dump_json()
    assert '":null' in text, text
    request = urllib.request.Request(os.environ["OTPD_URL"] + path, text.encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


status, text = call("/v1/verifications", CreateVerificationRequest(email=sys.argv[1]))
assert status == 201, text
verification = Verification.model_validate_json(text)

# The last send was less than a minute ago. The body is parsed before the limit is checked.
status, text = call(f"/v1/verifications/{verification.id}/resend", ResendVerificationRequest())
assert (status, Problem.model_validate_json(text).code.value) == (429, "rate_limited"), text

while True:
    body = CheckVerificationRequest(code=input("code: "))
    status, text = call(f"/v1/verifications/{verification.id}/check", body)
    if status == 200:
        break
    problem = Problem.model_validate_json(text)
    print(f"{problem.code.value}, attempts_remaining: {problem.attempts_remaining}")

assert Approval.model_validate_json(text).id == verification.id
assert verification.email == "p***@example.com", verification
print(f"confirmed: {sys.argv[1]}")
