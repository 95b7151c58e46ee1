"""Amazon SES as moto imitates it, with an IAM user who may send. It checks signatures."""

import json

import boto3
import requests
from moto.core import DEFAULT_ACCOUNT_ID
from moto.server import ThreadedMotoServer
from moto.ses.models import ses_backends

SENDER = "codes@sender.example"
# The region in which the sender is verified.
REGION = "eu-central-1"
# The permissions that docs/senders.md names.
POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["ses:SendEmail", "ses:SendRawEmail"], "Resource": "*"}],
}


class Amazon:
    def __init__(self):
        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.url = f"http://{host}:{port}"
        self._client("sesv2").create_email_identity(EmailIdentity=SENDER)
        iam = self._client("iam")
        iam.create_user(UserName="otpd")
        iam.put_user_policy(UserName="otpd", PolicyName="send", PolicyDocument=json.dumps(POLICY))
        self.key = iam.create_access_key(UserName="otpd")["AccessKey"]
        # From now on, each request needs a right signature and a permission.
        requests.post(f"{self.url}/moto-api/reset-auth", data=b"0", timeout=20).raise_for_status()

    def _client(self, name):
        return boto3.client(
            name, region_name=REGION, endpoint_url=self.url, aws_access_key_id="root", aws_secret_access_key="root"
        )

    def settings(self):
        """Returns the settings of otpd."""
        return {
            "OTP_SENDER": "ses",
            "OTP_SES__URL": self.url,
            "OTP_SES__REGION": REGION,
            "OTP_SES__ACCESS_KEY_ID": self.key["AccessKeyId"],
            "OTP_SES__SECRET_ACCESS_KEY": self.key["SecretAccessKey"],
            "OTP_LOG__LEVEL": "debug",
        }

    def messages(self):
        """Returns the accepted messages, of all regions."""
        backends = ses_backends[DEFAULT_ACCOUNT_ID].values()
        return [message for backend in backends for message in backend.sent_messages]

    def empty(self):
        for backend in ses_backends[DEFAULT_ACCOUNT_ID].values():
            backend.sent_messages.clear()

    def close(self):
        self._server.stop()
