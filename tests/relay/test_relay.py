"""Emails through a real Postfix: how many there are, what they contain, and what otpd answered."""

import concurrent.futures
import http.client
import itertools
import re
import threading

import pytest

from delivered import Mail, queue_id_of, recipient_of
from postfix import DEFERRED, REFUSED, USER, Greylist, LogMark, make_authority
from service import BRAND, CA_SETTING, api_key, at_once, secret
from waiting import eventually

SENT = (200, {"message": "OTP sent successfully"})
VERIFIED = (200, {"message": "OTP verified successfully"})
FAILED = (500, {"message": "Failed to send OTP"})
CALLERS = 32
# The largest number of connections that otpd makes to its relay.
CONNECTIONS = 64


def addresses(name, count):
    return [f"{name}.{number}@example.com" for number in range(count)]


def recipients(relay):
    """Returns the recipient of each message that Postfix accepted, sorted."""
    # After a crash there may be two copies of one message: Postfix delivers again what it may not
    # have delivered.
    return sorted({queue_id_of(raw): recipient_of(raw) for raw in relay.mails()}.values())


# Tenants with brands that are hard to encode in a header: name, brand, sender.
TENANTS = [
    ("cafe", "Café Zoë", USER),
    ("shop", "日本語のお店 🛒", "codes@shop.example"),
    ("sons", 'Müller, "Söhne" & Co.; <b>@\'\\', USER),
    ("long", "Ж" * 64, USER),
    ("wide", "🔑 " * 31 + "ab", USER),
    ("escaped", 'The "Best" Shop \\ Co.', USER),
    ("plain", "Words without end, or so it seems to those who have to read them", USER),
]


def test_a_thousand_sends_are_a_thousand_right_mails(relay, start):
    quoted = str.maketrans({'"': '\\"', "\\": "\\\\"})
    config = "".join(
        f'[[tenants]]\nname = "{name}"\nkeys = ["{api_key(name)[1]}"]\nbrand = "{brand.translate(quoted)}"\n'
        f'sender = "{sender}"\n'
        for name, brand, sender in TENANTS
    )
    # Two processes of one service.
    same = {"OTP_SECRETS__PEPPERS": f"k1:{secret()}", "OTP_SECRETS__INDEX_KEY": secret()}
    processes = [start(config=config, **same) for _ in range(2)]

    def send(number):
        """Returns what the email to this address must have: brand, sender, id and reference."""
        otpd, address = processes[number % 2], f"thousand.{number}@example.com"
        tenant = number // 2 % (len(TENANTS) + 1)
        if tenant == len(TENANTS):
            assert otpd.send(address) == SENT
            return address, (BRAND, USER, None, None, None)
        name, its_brand, sender = TENANTS[tenant]
        status, made = otpd.create(address, api_key(name)[0])
        assert status == 201, made
        return address, (its_brand, sender, name, made["id"], made["reference"])

    expected = dict(at_once(send, range(1000), CALLERS))
    raws = relay.mails()
    assert len(raws) == 1000
    assert sorted(map(recipient_of, raws)) == sorted(expected)
    codes, ids = {}, set()
    for raw in raws:
        address = recipient_of(raw)
        brand, sender, _, _, reference = expected[address]
        mail = Mail(raw, sender, brand)
        codes[address] = mail.code
        ids.add(mail.id)
        assert mail.references == [[reference]] * 2 if reference else mail.references == [[], []]
    assert len(ids) == 1000
    # A thousand random codes out of a million have fewer distinct ones less than once in a billion
    # times.
    assert len(set(codes.values())) >= 990

    # Every 20th, at the process that did not send it.
    for number in range(0, 1000, 20):
        otpd, address = processes[(number + 1) % 2], f"thousand.{number}@example.com"
        _, _, name, id, _ = expected[address]
        if name:
            status, answer = otpd.check(id, codes[address], api_key(name)[0])
            assert (status, answer["status"]) == (200, "approved")
        else:
            assert otpd.verify(address, codes[address]) == VERIFIED


def test_what_is_checked_of_a_mail_can_fail(relay, start):
    otpd = start()
    assert otpd.send("right@example.com") == SENT
    [raw] = relay.mails()
    code = Mail(raw).code.encode()
    [subject] = re.findall(rb"^Subject: .*\n(?: .*\n)*", raw, re.MULTILINE)
    wrongs = {
        "two recipients": raw.replace(b"\nTo: right@", b"\nTo: left@example.com, right@"),
        "another recipient": raw.replace(b"\nTo: right@", b"\nTo: left@"),
        "more than one in the envelope": raw.replace(b"\n\tfor <right@example.com>;", b";"),
        "another mailbox": raw.replace(b"Delivered-To: right", b"Delivered-To: left"),
        "another sender": raw.replace(b"<codes@sender.example>\nTo:", b"<codes@shop.example>\nTo:"),
        "an id of another domain": re.sub(rb"(Message-ID: <[^@]+)@sender", rb"\1@shop", raw),
        "no id": re.sub(rb"\nMessage-ID: .*", b"", raw),
        "two ids": re.sub(rb"(\nMessage-ID: .*)", rb"\1\1", raw),
        "no id against threads": re.sub(rb"\nX-Entity-Ref-ID: .*", b"", raw),
        "another id against threads": raw.replace(b"X-Entity-Ref-ID: ", b"X-Entity-Ref-ID: a"),
        "a reference in the subject alone": raw.replace(subject, subject.rstrip(b"\n") + b" (XKT)\n"),
        "no date": re.sub(rb"\nDate: .*", b"", raw),
        "an old date": re.sub(rb"\nDate: .*", b"\nDate: Wed, 01 Jan 2025 00:00:00 +0000", raw),
        "no date in the date": re.sub(rb"\nDate: .*", b"\nDate: soon", raw),
        "not automatic": raw.replace(b"auto-generated", b"no"),
        "a blind copy": raw.replace(b"\nTo: ", b"\nBcc: left@example.com\nTo: "),
        "a copy": raw.replace(b"\nTo: ", b"\nCc: left@example.com\nTo: "),
        "a list": raw.replace(b"\nTo: ", b"\nList-Unsubscribe: <mailto:a@example.com>\nTo: "),
        "the code in the subject": raw.replace(subject, b"Subject: Your code " + code + b"\n"),
        "the code twice": raw.replace(code, code + b" " + code, 1),
        "two codes": raw.replace(code, b"000000" if code != b"000000" else b"000001", 1),
        "a link": raw.replace(code, code + b" https://shop.example", 1),
        "an image": raw.replace(b"</body>", b"<img src=3Da></body>"),
        "one part": raw.replace(b"multipart/alternative", b"multipart/mixed"),
        "HTML first": raw.replace(b"text/plain", b"text/x").replace(b"text/html", b"text/plain"),
        "another charset": raw.replace(b"utf-8\nContent", b"latin1\nContent", 1),
        "no end": raw[: raw.rindex(b"--\n")],
        "more than ASCII": raw.replace(b"</body>", "é</body>".encode()),
        "a long line": raw.replace(b"</body>", b" " * 999 + b"</body>"),
        "a bare CR": raw.replace(b"</body>", b"\r</body>"),
        "no TLS": re.sub(rb"using TLS", b"using SSL", raw),
        "no login": raw.replace(b"(Authenticated sender: codes@sender.example)", b""),
    }
    for name, wrong in wrongs.items():
        assert wrong != raw, name
        with pytest.raises((AssertionError, ValueError, TypeError)):
            Mail(wrong)
            pytest.fail(f"passes: {name}", pytrace=False)


def send_without_a_brand(relay, start):
    """The emails of a service without a brand are named after the sender's domain."""
    otpd = start(OTP_MAIL__BRAND="")
    assert otpd.send("domain@example.com") == SENT
    [raw] = relay.mails()
    return raw


def test_a_mail_without_a_brand_names_the_domain_of_its_sender(relay, start):
    raw = send_without_a_brand(relay, start)
    Mail(raw.replace(b"\nFrom: sender.example <", b'\nFrom: "sender.example" <'), brand="sender.example")


def test_a_dot_in_the_name_of_a_sender_is_quoted(relay, start):
    """RFC 5322 sections 3.2.5 and 4.1."""
    assert b"\nFrom: sender.example <" not in send_without_a_brand(relay, start)


def test_a_relay_with_tls_from_the_first_octet(relay, start):
    otpd = start(service="implicit", OTP_SMTP__TLS="implicit")
    assert at_once(otpd.send, addresses("implicit", 8), 8) == [SENT] * 8
    assert sorted(Mail(raw).to for raw in relay.mails()) == addresses("implicit", 8)


def test_a_wrong_password_sends_nothing_and_is_not_logged(relay, start):
    log = LogMark(relay)
    otpd = start(EMAIL_PASSWORD="Wr0ng-p4ssw0rd")
    assert otpd.send("wrong.password@example.com") == FAILED
    status, problem = otpd.create("wrong.password@example.com")
    assert (status, problem["code"]) == (502, "delivery_failed")
    eventually("two failed logins", lambda: log.count("SASL PLAIN authentication failed") == 2)
    assert relay.mails() == []
    said = otpd.whole_log()
    assert "AUTH" in said
    assert "p4ssw0rd" not in said


def refuses_this_relay(relay, log, otpd):
    """Checks that no message and no password was sent, by the commands that Postfix counted."""
    assert otpd.send("somebody@example.com") == FAILED
    eventually("the end of the connection", lambda: log.count(" disconnect from ") == 1)
    assert log.count(r" disconnect from .* (auth|mail|rcpt|data)=") == 0, log.text()
    assert relay.mails() == []


def test_an_authority_that_does_not_vouch_for_the_relay(relay, start, tmp_path):
    make_authority(tmp_path / "another.pem")
    log = LogMark(relay)
    otpd = start(**{CA_SETTING: str(tmp_path / "another.pem")})
    refuses_this_relay(relay, log, otpd)
    assert "certificate" in otpd.whole_log()


def test_a_certificate_for_another_name(relay, start):
    log = LogMark(relay)
    otpd = start(SMTP_SERVER="127.0.0.1")
    refuses_this_relay(relay, log, otpd)
    assert "certificate" in otpd.whole_log()


def test_a_relay_without_starttls_is_given_no_mail_and_no_password(relay, start):
    log = LogMark(relay)
    otpd = start(service="plaintext")
    refuses_this_relay(relay, log, otpd)
    assert "STARTTLS" in otpd.whole_log()


def test_that_relay_takes_a_login_where_plaintext_is_asked_for(relay, start):
    """The test above is refused for the missing STARTTLS and nothing else."""
    log = LogMark(relay)
    otpd = start(service="plaintext", OTP_SMTP__TLS="none", **{CA_SETTING: ""})
    assert otpd.send("plaintext@example.com") == SENT
    assert recipients(relay) == ["plaintext@example.com"]
    otpd.terminate()
    eventually("the end of the connection", lambda: log.count(r" disconnect from .* auth=1 mail=1 rcpt=1 data=1"))


def test_without_a_login_postfix_takes_nothing(relay, start):
    log = LogMark(relay)
    otpd = start(OTP_SMTP__AUTH="none")
    assert otpd.send("no.login@example.com") == FAILED
    eventually("a refusal", lambda: log.count("NOQUEUE: reject: .* 554 5.7.1 .*Access denied"))
    assert relay.mails() == []


@pytest.mark.parametrize("how", ["stop", "crash"])
def test_a_restart_of_the_relay_costs_nobody_a_mail(relay, start, how):
    log = LogMark(relay)
    otpd = start()
    before, after = addresses(f"before.{how}", CONNECTIONS), addresses(f"after.{how}", 100)
    assert at_once(otpd.send, before, CONNECTIONS) == [SENT] * CONNECTIONS
    assert log.count(" disconnect from ") == 0, "these are still held"
    getattr(relay, how)()
    relay.start()
    log = LogMark(relay)
    assert at_once(otpd.send, after, 100) == [SENT] * 100
    assert log.count(" connect from ") > 0, "and those are gone"
    assert recipients(relay) == sorted(before + after)


def test_a_recipient_that_is_refused_is_tried_once(relay, start):
    log = LogMark(relay)
    otpd = start()
    assert otpd.send(REFUSED) == FAILED
    status, problem = otpd.create(REFUSED)
    assert (status, problem["code"]) == (502, "delivery_failed")
    eventually("two refusals", lambda: log.count("NOQUEUE: reject: RCPT .* 550 5.1.1 ") == 2)
    # The next recipient is not refused along with it.
    assert otpd.send("next@example.com") == SENT
    assert recipients(relay) == ["next@example.com"]
    assert log.count("NOQUEUE: reject: ") == 2


def test_a_recipient_that_is_put_off_is_tried_three_times(relay, start):
    log = LogMark(relay)
    otpd = start()
    assert otpd.send(DEFERRED) == FAILED
    eventually("three refusals", lambda: log.count("NOQUEUE: reject: RCPT .* 450 4.2.1 ") == 3)
    assert otpd.send("next@example.com") == SENT
    assert recipients(relay) == ["next@example.com"]
    assert log.count("NOQUEUE: reject: ") == 3


def test_recipients_that_are_put_off_once_get_one_mail(relay, start):
    otpd = start(service="greylisting")
    everybody = addresses("greylisted", CALLERS)
    with Greylist(relay) as greylist:
        assert at_once(otpd.send, everybody, CALLERS) == [SENT] * CALLERS
    assert sorted(greylist.postponed) == sorted(everybody)
    mails = [Mail(raw) for raw in relay.mails()]
    assert sorted(mail.to for mail in mails) == sorted(everybody)
    for mail in mails:
        assert otpd.verify(mail.to, mail.code) == VERIFIED


def test_more_callers_than_the_relay_takes_connections(relay, start):
    """Postfix accepts 50 connections per client by default; otpd makes up to 64."""
    log = LogMark(relay)
    otpd = start(service="crowded")
    everybody = addresses("crowded", 200)
    assert at_once(otpd.send, everybody, 100) == [SENT] * 200
    assert recipients(relay) == sorted(everybody)
    assert log.count("Connection concurrency limit exceeded") > 0


class Load:
    """Callers that send one email after the other, each to a new address, until they get no answer.

    `sent` has the addresses of successful sends, `refused` the answers to failed ones, and
    `unanswered` the errors of sends without an answer.
    """

    def __init__(self, otpd, name, callers):
        self.sent, self.refused, self.unanswered = [], [], []
        self._otpd, self._name, self._numbers = otpd, name, itertools.count()
        self._stop = threading.Event()
        self._pool = concurrent.futures.ThreadPoolExecutor(callers)
        self._callers = [self._pool.submit(self._call) for _ in range(callers)]

    def _call(self):
        while not self._stop.is_set():
            address = f"{self._name}.{next(self._numbers)}@example.com"
            try:
                answer = self._otpd.send(address)
            except (OSError, http.client.HTTPException) as error:
                self.unanswered.append(error)
                return
            if answer == SENT:
                self.sent.append(address)
            else:
                self.refused.append(answer)

    def await_sent(self, count):
        eventually(f"{count} sends", lambda: len(self.sent) >= count)

    def end(self):
        self._stop.set()
        for caller in self._callers:
            caller.result()
        self._pool.shutdown()


def assert_all_have_their_mail(relay, sent):
    """Each has one. A recipient whose send got no answer has one or none."""
    found = recipients(relay)
    assert len(found) == len(set(found)), "nobody has two"
    assert set(sent) <= set(found)


# The number of sends before it: on the first connections, while more are made, and on pooled ones.
MOMENTS = [1, 64, 200]


@pytest.mark.parametrize("moment", MOMENTS)
def test_who_was_told_success_has_a_mail_though_otpd_was_killed(relay, start, moment):
    otpd = start()
    load = Load(otpd, f"killed.{moment}", CONNECTIONS)
    load.await_sent(moment)
    otpd.close()
    load.end()
    assert load.unanswered
    assert_all_have_their_mail(relay, load.sent)


@pytest.mark.parametrize("moment", MOMENTS)
def test_who_was_told_success_has_a_mail_though_otpd_was_ended(relay, start, moment):
    otpd = start()
    load = Load(otpd, f"ended.{moment}", CONNECTIONS)
    load.await_sent(moment)
    assert otpd.terminate() == 0
    load.end()
    assert load.unanswered and not load.refused
    assert recipients(relay) == sorted(load.sent), "and nobody else"


def test_what_is_under_way_when_otpd_is_ended_gets_its_answer(relay, start):
    """The relay is slow: it has started all messages and not answered the last."""
    log = LogMark(relay)
    otpd = start(service="slow")
    everybody = addresses("under.way", CONNECTIONS)
    with concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as pool:
        sends = [pool.submit(otpd.send, address) for address in everybody]
        eventually("the last", lambda: log.count(": client=.*sasl_username=") == CONNECTIONS)
        assert not all(send.done() for send in sends)
        assert otpd.terminate() == 0
        assert [send.result() for send in sends] == [SENT] * CONNECTIONS
    assert recipients(relay) == sorted(everybody)


def test_who_was_told_success_has_a_mail_though_the_relay_broke_off(relay, start):
    otpd = start()
    load = Load(otpd, "broken", CALLERS)
    load.await_sent(100)
    relay.crash()
    eventually("a send that failed", lambda: load.refused)
    relay.start()
    load.await_sent(len(load.sent) + 100)
    load.end()
    assert not load.unanswered
    assert all(answer == FAILED for answer in load.refused)
    assert_all_have_their_mail(relay, load.sent)


LONGEST_LOCAL = "l" * 64
# 64 + 1 + 2 * 61 + 56 + 11 = 254 bytes.
LONGEST = f"{LONGEST_LOCAL}@{'d' * 60}.{'d' * 60}.{'d' * 55}.example.com"
HOSTILE = [
    f"{local}@example.com"
    for local in [
        "o'neil",
        "a+b",
        "x&y",
        "A.Mixed.Case",
        "root",
        "postmaster",
        "a=b",
        "50%off",
        "a%evil.example",
        "relay!user",
        "|cat",
        "`id`",
        "$HOME",
        "{curly}",
        "*",
        "what?",
        "#1",
        "~user",
        "^",
        "a/./b",
        "/etc/passwd",
        "_",
        "0",
        LONGEST_LOCAL,
    ]
]


def test_each_address_that_is_taken_gets_one_mail_and_nobody_else(relay, start):
    assert (len(LONGEST_LOCAL), len(LONGEST)) == (64, 254)
    everybody = [*HOSTILE, LONGEST]
    otpd = start()
    answers = dict(zip(everybody, at_once(otpd.send, everybody, 8), strict=True))
    assert answers == dict.fromkeys(everybody, SENT)
    mails = {mail.to: mail for mail in map(Mail, relay.mails())}
    assert sorted(mails) == recipients(relay) == sorted(everybody)
    for address, mail in mails.items():
        assert otpd.verify(address, mail.code) == VERIFIED


def test_an_address_that_the_relay_does_not_take_as_one_gets_no_mail(relay, start):
    """Postfix refuses a leading hyphen, which RFC 5321 allows, because programs take it for an
    option.
    """
    otpd = start()
    assert [otpd.send(address) for address in ("-f@example.com", "-o=x@example.com")] == [FAILED] * 2
    assert relay.mails() == []


def test_an_address_that_is_too_long_gets_no_mail(relay, start):
    otpd = start()
    for address in [f"l{LONGEST_LOCAL}@example.com", LONGEST.replace(".example.com", ".example.info")]:
        assert otpd.send(address) == (400, {"message": "Invalid email address"})
    assert relay.mails() == []
