"""The Flask service that otpd replaces, as a peer for benchmarks: one code per address in Redis,
and one SMTP session per email. It has no limits; do not deploy it."""

import os
import secrets
import smtplib
from email.message import EmailMessage

import redis
from flask import Flask, jsonify, request

LIFE_SECONDS = 300

app = Flask(__name__)
store = redis.Redis(
    host=os.environ["REDIS_HOST"], port=int(os.environ["REDIS_PORT"]), db=0, decode_responses=True
)


def answer(status, message):
    return jsonify(message=message), status


def deliver(recipient, code):
    """Opens a session for this email, as the service did."""
    mail = EmailMessage()
    mail["From"] = os.environ["EMAIL_SENDER"]
    mail["To"] = recipient
    mail["Subject"] = "Your code"
    mail.set_content(f"Your one-time code:\n\n{code}\n\nIt expires in five minutes.\n")
    with smtplib.SMTP(os.environ["SMTP_SERVER"], int(os.environ["SMTP_PORT"])) as relay:
        relay.starttls()
        relay.login(os.environ["EMAIL_SENDER"], os.environ["EMAIL_PASSWORD"])
        relay.send_message(mail)


@app.post("/send-otp")
def send_otp():
    recipient = request.get_json().get("email")
    if not recipient:
        return answer(400, "Email is required")
    code = f"{secrets.randbelow(1_000_000):06}"
    store.setex(recipient, LIFE_SECONDS, code)
    try:
        deliver(recipient, code)
    except (OSError, smtplib.SMTPException):
        return answer(500, "Failed to send OTP")
    return answer(200, "OTP sent successfully")


@app.post("/verify-otp")
def verify_otp():
    body = request.get_json()
    recipient, code = body.get("email"), body.get("otp")
    if not recipient or not code:
        return answer(400, "Email and OTP are required")
    if store.get(recipient) != code:
        return answer(400, "Invalid or expired OTP")
    store.delete(recipient)
    return answer(200, "OTP verified successfully")
