"""Signs a request to a Penstock node with an identity key, and sends it. Needs: pip install coincurve

usage: sign.py METHOD URL KEY_FILE [BODY_FILE [CONTENT_TYPE]]

The audience is the scheme and host of URL. PENSTOCK_AUDIENCE names another one, for a node behind a proxy.
"""

import base64
import hashlib
import hmac
import json
import os
import struct
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from coincurve import PrivateKey


def sized(data: bytes) -> bytes:
    """The bytes, preceded by their length as Bitcoin encodes it."""
    size = len(data)
    if size < 0xFD:
        return bytes([size]) + data
    if size <= 0xFFFF:
        return b"\xfd" + struct.pack("<H", size) + data
    return b"\xfe" + struct.pack("<I", size) + data


ABSENT = b"\xff" * 9


def sign(secret: bytes, method: str, url: str, body: bytes = b"", content_type: str = "") -> dict[str, str]:
    """The header fields to send with a request."""
    root = PrivateKey(secret)
    identity = root.public_key.format(compressed=True)
    parts = urllib.parse.urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"

    nonce, request_id = os.urandom(32), os.urandom(32)
    audience = hashlib.sha256(os.environ.get("PENSTOCK_AUDIENCE", origin).encode()).digest()

    # The signed fields: the time, and the digest and type of the body.
    fields = {"x-bsv-timestamp": str(time.time_ns() // 1_000_000)}
    if body:
        fields["content-digest"] = f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
    if content_type:
        fields["content-type"] = content_type

    # The signed message of BRC-104, with a digest instead of the body.
    message = request_id + sized(method.encode()) + sized(parts.path.encode())
    message += sized(b"?" + parts.query.encode()) if parts.query else ABSENT
    message += bytes([len(fields)])
    for name, value in sorted(fields.items()):
        message += sized(name.encode()) + sized(value.encode())
    message += ABSENT

    # The signing key, derived by BRC-42 for the counterparty "anyone".
    nonces = [base64.b64encode(part).decode() for part in (nonce, audience)]
    invoice = f"2-auth message signature-{nonces[0]} {nonces[1]}"
    key = root.add(hmac.new(identity, invoice.encode(), hashlib.sha256).digest())

    return fields | {
        "x-bsv-auth-version": "0.1",
        "x-bsv-auth-identity-key": identity.hex(),
        "x-bsv-auth-nonce": nonces[0],
        "x-bsv-auth-your-nonce": nonces[1],
        "x-bsv-auth-request-id": base64.b64encode(request_id).decode(),
        "x-bsv-auth-signature": key.sign(message).hex(),
    }


if __name__ == "__main__":
    method, url, key_file, *rest = sys.argv[1:]
    with open(key_file) as file:
        secret = bytes.fromhex(file.read().strip())
    body = open(rest[0], "rb").read() if rest else b""
    # Without a type urllib adds its own, which would not be signed.
    content_type = rest[1] if len(rest) > 1 else "application/octet-stream" if body else ""
    headers = sign(secret, method, url, body, content_type)
    request = urllib.request.Request(url, data=body or None, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            print(json.dumps(json.load(answer)))
    except urllib.error.HTTPError as error:
        sys.exit(error.read().decode())
