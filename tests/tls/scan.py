"""Starts otpd serve with a certificate of its own and scans its TLS with sslyze."""

import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import sslyze
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from sslyze.mozilla_tls_profile.tls_config_checker import (
    MozillaTlsConfiguration,
    ServerNotCompliantWithTlsConfiguration,
    TlsConfigurationEnum,
    check_server_against_tls_configuration,
)

SECRET = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"


def certificate(name: str, key: ec.EllipticCurvePrivateKey, issuer: str) -> x509.CertificateBuilder:
    """Returns a certificate that is valid for 89 days, before it is signed."""

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=89))
    )


def write_certificate(folder: Path) -> None:
    """Writes an authority, and a certificate of it with its key."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    public = authority_key.public_key()
    authority = (
        certificate("authority", authority_key, "authority")
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    leaf = (
        certificate("localhost", key, "authority")
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "authority.pem").write_bytes(authority.public_bytes(pem))
    (folder / "chain.pem").write_bytes(leaf.public_bytes(pem))
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(pem, pkcs8, plain))


def start(folder: Path) -> tuple[subprocess.Popen, int]:
    settings = {
        "OTP_HTTP__LISTEN": "127.0.0.1:0",
        "OTP_ADMIN__LISTEN": "off",
        "OTP_TLS__CERT_FILE": str(folder / "chain.pem"),
        "OTP_TLS__KEY_FILE": str(folder / "key.pem"),
        "OTP_SMTP__AUTH": "none",
        "EMAIL_SENDER": "codes@example.com",
        "SMTP_SERVER": "localhost",
        "REDIS_HOST": "127.0.0.1",
        "OTP_SECRETS__PEPPERS": f"k1:{SECRET}",
        "OTP_SECRETS__INDEX_KEY": SECRET,
    }
    process = subprocess.Popen(
        [os.environ["OTPD_BIN"], "serve"], cwd=folder, env=settings, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        fields = json.loads(line)
        if fields.get("message") == "listening":
            return process, int(fields["address"].rsplit(":", 1)[1])
    raise SystemExit("otpd did not listen")


def scan(port: int, authority: Path) -> int:
    """Prints what was found and returns the number of faults."""
    location = sslyze.ServerNetworkLocation("localhost", port, "127.0.0.1")
    scanner = sslyze.Scanner()
    of_its_own = sslyze.ScanCommandsExtraArguments(
        certificate_info=sslyze.CertificateInfoExtraArgument(custom_ca_file=authority)
    )
    scanner.queue_scans([sslyze.ServerScanRequest(location, scan_commands_extra_arguments=of_its_own)])
    result = next(scanner.get_results())
    assert result.scan_result is not None, result.connectivity_error_trace
    found = result.scan_result
    for name in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2", "tls_1_3"):
        suites = getattr(found, f"{name}_cipher_suites").result.accepted_cipher_suites
        print(f"{name}: {', '.join(suite.cipher_suite.name for suite in suites) or 'refused'}")
    faults = 0
    weaknesses = {
        "heartbleed": found.heartbleed.result.is_vulnerable_to_heartbleed,
        "CCS injection": found.openssl_ccs_injection.result.is_vulnerable_to_ccs_injection,
        "compression": found.tls_compression.result.supports_compression,
        "ROBOT": "VULNERABLE" in found.robot.result.robot_result.name.replace("NOT_VULNERABLE", ""),
        "client renegotiation": found.session_renegotiation.result.is_vulnerable_to_client_renegotiation_dos,
        "early data": found.tls_1_3_early_data.result.supports_early_data,
    }
    for name, is_there in weaknesses.items():
        print(f"{name}: {'FOUND' if is_there else 'not found'}")
        faults += is_there
    try:
        intermediate = MozillaTlsConfiguration.get(TlsConfigurationEnum.MOZILLA_INTERMEDIATE)
        check_server_against_tls_configuration(result, intermediate)
        print("Mozilla's intermediate configuration: met")
    except ServerNotCompliantWithTlsConfiguration as error:
        print(f"Mozilla's intermediate configuration: {error.issues}")
        faults += len(error.issues)
    return faults


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_certificate(folder)
        process, port = start(folder)
        try:
            faults = scan(port, folder / "authority.pem")
        finally:
            process.kill()
            process.wait()
    print(f"tls: {'0 faults' if faults == 0 else f'{faults} faults, failed'}")
    sys.exit(faults != 0)


main()
