"""Settings of TLS that every connection of ours has in common."""

import ssl
from pathlib import Path


def verifying_context(authorities: Path | None) -> ssl.SSLContext:
    """Return a TLS context that verifies the certificate of a server, and the server's name in it.

    Args:
        authorities: PEM file of the CAs that may issue the certificate; None for the system's.

    Raises:
        OSError: OpenSSL cannot use the file.
    """
    context = ssl.create_default_context(cafile=None if authorities is None else str(authorities))
    # The defaults differ between Python 3.11 and 3.13. Strict checks reject most private CAs, including those that the
    # commands of mosquitto-tls(7) create; a partial chain lets the file name an intermediate CA, or the server.
    context.verify_flags = (context.verify_flags & ~ssl.VERIFY_X509_STRICT) | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
