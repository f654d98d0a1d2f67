"""What can go wrong between Solr and its client, each kind with what a caller needs to know of it."""

import os
import ssl
from typing import Any

import urllib3

from conf.errors import TinyTagsError

# What OpenSSL calls an answer that is no TLS.
_NO_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST"}


class SolrError(TinyTagsError):
    """Solr doesn't answer (``status`` None), with an error, or not as Solr does (200); ``reason`` is Solr's own, where it has one."""

    def __init__(self, message: str, status: int | None = None, reason: str = "") -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


class RefusedError(SolrError):
    """Solr rejects this request (400): repeating it is useless. ``reason`` is Solr's own."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message, 400, reason)


class NotNowError(SolrError):
    """The result isn't ready, or there are too many requests; the same request may succeed later. The message has no details of the machine."""


class HalfCreatedError(SolrError):
    """A collection has no index, as Solr ended while it was created; it can be deleted, and created again."""


class BodyTooLargeError(SolrError):
    """A proxy before Solr, or Solr, takes no body of this size (413); nginx takes 1 MB by default."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message, 413, reason)


class TlsError(SolrError):
    """The address begins with https://, and what answers has no certificate that is trusted, or no TLS: repeating is useless.

    ``what`` is wrong, and ``fix`` mends it.
    """

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}; {fix}")
        self.what, self.fix = what, fix


def trusted_cas() -> dict[str, Any]:
    """Return where urllib3 finds the CAs that are trusted; it reads SSL_CERT_FILE itself, as OpenSSL does."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE", "")
    if os.environ.get("SSL_CERT_FILE") or not os.path.exists(bundle):
        return {}
    return {"ca_cert_dir" if os.path.isdir(bundle) else "ca_certs": bundle}


def tls_error(url: str, error: urllib3.exceptions.HTTPError) -> TlsError | None:
    """Return the error for a certificate that isn't trusted, or for an answer without TLS; None for any other."""
    cause = error.args[0] if isinstance(error, urllib3.exceptions.SSLError) and error.args else None
    if isinstance(cause, ssl.SSLCertVerificationError):
        missing = [
            f" ({name} is {path!r}, which is not there)"
            for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
            if (path := os.environ.get(name)) and not os.path.exists(path)
        ]
        return TlsError(
            f"the certificate of Solr at {url} is not trusted ({cause.verify_message})",
            f"name the file of its CA in the environment variable SSL_CERT_FILE{''.join(missing)}",
        )
    if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
        return TlsError(
            f"what answers at {url} has no TLS ({cause.reason})", "write http:// instead of https://"
        )
    return None
