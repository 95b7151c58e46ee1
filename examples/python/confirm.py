# Confirms an address by the code that is emailed to it: python confirm.py ADDRESS
# OTPD_URL is otpd's URL, OTPD_API_KEY an API key. Generate the client from its OpenAPI document:
# openapi-python-client generate --url $OTPD_URL/openapi.json --meta none --output-path otpd
import os
import sys

import jwt
from otpd import AuthenticatedClient
from otpd.api.verifications import check_verification, create_verification
from otpd.models import Approval, CheckVerificationRequest, CreateVerificationRequest, Verification

client = AuthenticatedClient(url := os.environ["OTPD_URL"], os.environ["OTPD_API_KEY"])
verification = create_verification.sync(client=client, body=CreateVerificationRequest(email=sys.argv[1]))
if not isinstance(verification, Verification):
    sys.exit(verification.detail)
while True:
    check = CheckVerificationRequest(code=input("code: "))
    answer = check_verification.sync(verification.id, client=client, body=check)
    if isinstance(answer, Approval):
        break
    if answer.code != "invalid_code":
        sys.exit(answer.detail)
    print(f"{answer.code}, attempts_remaining: {answer.attempts_remaining}")

key = jwt.PyJWKClient(f"{url}/.well-known/jwks.json").get_signing_key_from_jwt(answer.proof)
proof = jwt.decode_complete(answer.proof, key, ["EdDSA"], issuer="otpd", audience="dev")
if proof["header"]["typ"] != "otp-proof+jwt" or proof["payload"]["jti"] != verification.id:
    sys.exit("a token, but not the proof of this verification")
print(f"confirmed: {proof['payload']['sub']}")
