"""Which client sends a request: what limits count by."""

import ipaddress

from flask import request

# The variable of WSGI with the address that a connection comes from; REMOTE_ADDR may be what the proxy reports.
PEER = "tinytags.peer"
# A network of IPv6 gives every client this prefix and any number of addresses in it.
IPV6_PREFIX = 64


def client_of(address: str) -> str:
    """Return the client that an address belongs to: an IPv4 address, or the network of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # no IP address, as of a UNIX socket
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))


def is_loopback(address: str) -> bool:
    """Return whether an address is of this machine."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def this_client() -> str:
    """Return the client of the request that is handled."""
    return client_of(request.remote_addr or "")
