"""What is said of a Route: admitted or not, why, and what to do about it. Pure values."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from sidecar.model.objects import Key


class Reason(StrEnum):
    """Why a Route is refused, or admitted with nothing to serve; as in ``status.ingress``."""

    ADMITTED = "Admitted"
    INVALID_PORT = "InvalidPort"
    PORT_NOT_IN_POOL = "PortNotInPool"
    NAMESPACE_NOT_ALLOWED = "NamespaceNotAllowed"
    PORT_ALREADY_CLAIMED = "PortAlreadyClaimed"
    POOL_EXHAUSTED = "PoolExhausted"
    QUOTA_EXCEEDED = "QuotaExceeded"
    PORT_PENDING = "PortPending"
    UNSUPPORTED_TERMINATION = "UnsupportedTermination"
    UNSUPPORTED_TARGET = "UnsupportedTarget"
    UNSUPPORTED_PROTOCOL = "UnsupportedProtocol"
    INVALID_ANNOTATION = "InvalidAnnotation"
    SERVICE_NOT_FOUND = "ServiceNotFound"
    AMBIGUOUS_TARGET_PORT = "AmbiguousTargetPort"
    TARGET_PORT_NOT_FOUND = "TargetPortNotFound"
    NO_ENDPOINTS = "NoEndpoints"
    ENDPOINTS_DENIED = "EndpointsDenied"
    NAME_NOT_RESOLVED = "NameNotResolved"
    # Of Routes by host; all but InvalidPath, which OpenShift's API server would not store, are the
    # words of OpenShift's router.
    ROUTE_NOT_ADMITTED = "RouteNotAdmitted"
    NO_HOST_VALUE = "NoHostValue"
    INVALID_HOST = "InvalidHost"
    INVALID_PATH = "InvalidPath"
    HOST_ALREADY_CLAIMED = "HostAlreadyClaimed"
    EXTENDED_VALIDATION_FAILED = "ExtendedValidationFailed"
    EXTERNAL_CERTIFICATE_VALIDATION_FAILED = "ExternalCertificateValidationFailed"
    EXTERNAL_CERTIFICATE_GET_FAILED = "ExternalCertificateGetFailed"


#: Reasons that leave a Route admitted: it owns its port and gets servers as soon as there are any.
ADMITTED_REASONS = frozenset(
    {Reason.ADMITTED, Reason.NO_ENDPOINTS, Reason.ENDPOINTS_DENIED, Reason.NAME_NOT_RESOLVED}
)


class Refusal(NamedTuple):
    """Why a Route is not served; the message is for its author."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a Route got, by what routing alone knows; how far HAProxy has got is for others to say.

    ``port``: the one that it owns, or that it asked for and did not get; None when it named none.
    ``host``, ``path``: of a Route by host likewise, ``*.domain`` for a wildcard; "" of any other.
    ``message``: for its author, "" when there is nothing to say; never names a Route of another
    namespace.
    """

    route: Key
    port: int | None
    reason: Reason
    message: str
    host: str = ""
    path: str = ""

    @property
    def admitted(self) -> bool:
        return self.reason in ADMITTED_REASONS
