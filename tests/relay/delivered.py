"""What an email of otpd must look like after delivery."""

import datetime
import email
import email.header
import email.policy
import email.utils
import re

from postfix import USER
from service import BRAND

# The headers that the Postfix of the tests itself adds.
BY_POSTFIX = ["Return-Path", "X-Original-To", "Delivered-To", "Received"]
ONCE = ["From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Auto-Submitted", "Content-Type", "Content-Language",
        "X-Entity-Ref-ID"]
# Bytes of a line without its end (RFC 5322 section 2.1.1).
LINE_MAX = 998


def recipient_of(raw):
    """Returns the recipient."""
    [address] = re.findall(rb"^Delivered-To: (.*)$", raw, re.MULTILINE)
    return address.decode()


def queue_id_of(raw):
    """Returns the queue id of Postfix, which differs for each message that it accepts."""
    return re.search(rb"\n\tby relay\.example \(Postfix\) with \w+ id (\w+)\n", raw)[1]


def displayed_name(raw):
    """Returns the name in From. Uses the older parser, because in some versions of Python the newer
    one keeps the spaces between encoded words, which must be dropped (RFC 2047 section 6.2).
    """
    name, _ = email.utils.parseaddr(email.message_from_bytes(raw)["From"])
    return str(email.header.make_header(email.header.decode_header(name)))


class Mail:
    """A delivered email, checked from head to foot. `protocol` and `login` are how Postfix received
    it.
    """

    def __init__(self, raw, sender=USER, brand=BRAND):
        assert raw.isascii() and b"\r" not in raw and b"\0" not in raw
        assert max(map(len, raw.split(b"\n"))) <= LINE_MAX
        message = email.message_from_bytes(raw, policy=email.policy.default)
        for part in message.walk():
            assert not part.defects
            for name, value in part.items():
                assert not value.defects, (name, value.defects)
        assert sorted(message.keys(), key=str.lower) == sorted(BY_POSTFIX + ONCE, key=str.lower)

        self.to = message["Delivered-To"]
        assert message["X-Original-To"] == self.to
        assert message["Return-Path"] == f"<{sender}>"
        [address] = message["From"].addresses
        assert (displayed_name(raw), address.addr_spec) == (brand, sender)
        [address] = message["To"].addresses
        assert (address.display_name, address.addr_spec) == ("", self.to)
        age = datetime.datetime.now(datetime.UTC) - message["Date"].datetime
        assert abs(age) < datetime.timedelta(minutes=3), message["Date"]
        self.id = message["Message-ID"]
        domain = sender.partition("@")[2]
        assert re.fullmatch(rf"<[A-Za-z0-9_-]{{22}}@{re.escape(domain)}>", self.id), self.id
        assert message["X-Entity-Ref-ID"] == self.id[1:23]
        assert message["MIME-Version"] == "1.0"
        assert message["Auto-Submitted"] == "auto-generated"
        assert message["Content-Language"] == "en"
        assert message.get_content_type() == "multipart/alternative"
        self._check_the_way(message["Received"])

        text, html = message.iter_parts()
        assert [part.get_content_type() for part in (text, html)] == ["text/plain", "text/html"]
        contents = []
        for part in (text, html):
            assert part.get_content_charset() == "utf-8"
            assert part.get_content_disposition() is None
            contents.append(part.get_content())
        codes = [re.findall(r"(?<!\d)\d{6}(?!\d)", content) for content in contents]
        assert len(codes[0]) == 1 and codes[0] == codes[1], codes
        [self.code] = codes[0]
        assert self.code not in message["Subject"]
        for content in contents:
            assert "http" not in content and "<img" not in content and "<a" not in content
        self.references = [re.findall(r"the reference ([A-Z]{3})\.", content) for content in contents]
        [reference] = {" ".join(found) for found in self.references}
        assert message["Subject"] == f"Your code for {brand}" + (f" ({reference})" if reference else "")

    def _check_the_way(self, received):
        """Over TLS, with a login, and to one recipient: Postfix names the recipient only if there
        is just one.
        """
        received = " ".join(received.split())
        assert re.search(r"\(using TLSv1\.[23] with cipher ", received), received
        assert f"(Authenticated sender: {USER})" in received, received
        assert "by relay.example (Postfix) with ESMTPSA id" in received, received
        assert f" for <{self.to}>;" in received, received
