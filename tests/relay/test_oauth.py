"""Emails through a real Postfix that takes access tokens only, with Dovecot's SASL behind it."""

import pytest

from delivered import recipient_of
from dovecot import CLIENT, Dovecot, Tokens
from postfix import USER, LogMark
from service import api_key

SENT = (200, {"message": "OTP sent successfully"})
FAILED = (500, {"message": "Failed to send OTP"})


# Postfix keeps its connections to Dovecot, so there is one of them for all of these tests.
@pytest.fixture(scope="module")
def the_tokens():
    server = Tokens()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def the_dovecot(the_relay, the_tokens):
    server = Dovecot(the_relay.folder / "dovecot", the_tokens)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def tokens(relay, the_tokens, the_dovecot, request):
    """Returns the authorization server of otpd and of the relay, which has granted nothing yet."""
    request.node.logs.append(the_dovecot)
    the_tokens.reset()
    return the_tokens


@pytest.mark.parametrize("mechanism", ["xoauth2", "oauthbearer"])
def test_a_mail_is_delivered_with_a_token(relay, start, tokens, mechanism):
    otpd, log = start(service=mechanism, **tokens.settings), LogMark(relay)
    for number in range(3):
        assert otpd.send(f"{mechanism}.{number}@example.com") == SENT
    mails = relay.mails()
    assert sorted(map(recipient_of, mails)) == [f"{mechanism}.{number}@example.com" for number in range(3)]
    assert all(f"(Authenticated sender: {USER})".encode() in mail for mail in mails)
    assert log.count(f"sasl_method={mechanism.upper()}, sasl_username={USER}") == 3
    # One connection, and one token for it.
    assert (log.count(": connect from"), len(tokens.granted)) == (1, 1)
    nothing_secret(otpd, tokens)


@pytest.mark.parametrize("mechanism", ["xoauth2", "oauthbearer"])
def test_a_revoked_token_is_renewed_once(relay, start, tokens, mechanism):
    otpd = start(service=mechanism, **tokens.settings)
    assert otpd.send("first@example.com") == SENT
    tokens.revoke()
    # Ends the connection, which stays logged in otherwise.
    relay.stop()
    relay.start()
    log = LogMark(relay)
    assert otpd.send("second@example.com") == SENT
    assert sorted(map(recipient_of, relay.mails())) == ["first@example.com", "second@example.com"]
    assert len(tokens.granted) == 2
    assert log.count(f"SASL {mechanism.upper()} authentication failed") == 1
    nothing_secret(otpd, tokens)


@pytest.mark.parametrize("mechanism", ["xoauth2", "oauthbearer"])
def test_a_relay_that_refuses_each_token_is_an_error(relay, start, tokens, mechanism):
    otpd = start(service=mechanism, **tokens.settings | {"OTP_SMTP__USERNAME": "other@sender.example"})
    log = LogMark(relay)
    assert otpd.send("refused@example.org") == FAILED
    assert (len(tokens.granted), log.count("authentication failed"), relay.mails()) == (2, 2, [])
    assert "AUTH: refused with reply 535 5.7.8" in otpd.whole_log()
    nothing_secret(otpd, tokens)


def test_without_a_token_nobody_tries_to_log_in(relay, start, tokens):
    tokens.is_down = True
    # With the password of another mailbox, which must not be used.
    otpd, log = start(service="xoauth2", **tokens.settings), LogMark(relay)
    assert otpd.send("simple@example.com") == FAILED
    status, problem = otpd.create("v1@example.com", api_key("default")[0])
    assert (status, "id" in problem) == (502, False), problem
    assert (log.count("connect from"), relay.mails()) == (0, [])
    assert "getting an access token: the token endpoint answered with status 503" in otpd.whole_log()
    nothing_secret(otpd, tokens)


def nothing_secret(otpd, tokens):
    said = otpd.whole_log()
    for secret in [*tokens.granted, CLIENT["client_secret"]]:
        assert secret not in said
