"""From what boto3 raises to Chromalith's errors: by what the person or the code that meets it should do next.

========================================================  ===============
answer                                                    error
========================================================  ===============
access denied, bad or expired credentials, none at all    ``Invalid``
no such queue, table, function, stack                     ``NotFound``
no region or another one, a malformed request, too large  ``Invalid``
throttled, too many requests, a limit of the account      ``Unavailable``
no connection, time-out, 5xx, whatever else boto3 raises  ``Unavailable`` (``Unknown`` where the request changes something)
========================================================  ===============
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chromalith.errors import ChromalithError, Invalid, NotFound, Unavailable, Unknown

_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "AWS.SimpleQueueService.AccessDenied"}
_CREDENTIALS = {
    "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "InvalidSignatureException", "RequestExpired",
    "SignatureDoesNotMatch", "UnrecognizedClientException", "InvalidAccessKeyId", "MissingAuthenticationToken", "IncompleteSignature",
}  # fmt: skip
_ABSENT = {
    "AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "ResourceNotFoundException", "ResourceNotFound", "NoSuchEntity",
    "NoSuchBucket", "TableNotFoundException",
}  # fmt: skip
_BUSY = {
    "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException", "TooManyRequestsException",
    "ProvisionedThroughputExceededException", "RequestLimitExceeded", "LimitExceededException", "SlowDown", "KmsThrottled",
    "AWS.SimpleQueueService.PurgeQueueInProgress", "PurgeQueueInProgress", "EC2ThrottledException", "TransactionInProgressException",
}  # fmt: skip
_ELSEWHERE = {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException", "InvalidRegion"}
_TOO_LARGE = {
    "RequestEntityTooLargeException", "RequestTooLargeException", "AWS.SimpleQueueService.BatchRequestTooLong", "BatchRequestTooLong",
    "EntityTooLarge", "MessageTooLong",
}  # fmt: skip
_HOW_CREDENTIALS = "log in again or renew them: `aws sts get-caller-identity` says who you are"


@contextmanager
def translated(what: str, *, changes: bool = False) -> Iterator[None]:
    """Raise what boto3 raises in the block as one of Chromalith's errors.

    Args:
        what: which resource was asked, for the message: ``queue url=…``.
        changes: whether a request that was not answered may have changed something that must not be done twice.
    """
    try:
        yield
    except ChromalithError:
        raise
    except Exception as error:
        known = in_our_words(error, what, changes=changes)
        if known is None:
            raise
        raise known from error


def in_our_words(error: Exception, what: str, *, changes: bool = False) -> ChromalithError | None:
    """Chromalith's error for one of boto3's; ``None`` for what is none."""
    from botocore import exceptions as boto

    if isinstance(error, boto.ClientError):
        return _answered(error, what, changes)
    if isinstance(error, boto.NoRegionError):
        return Invalid(f"no region is set for {what}", hint="set AWS_REGION, or give --region")
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.CredentialRetrievalError):
        return Invalid(f"no credentials for {what}", hint="set AWS_PROFILE or AWS_ACCESS_KEY_ID, or run where there is a role")
    if isinstance(error, boto.TokenRetrievalError | boto.UnauthorizedSSOTokenError | boto.SSOTokenLoadError):
        return Invalid(f"the login has expired for {what}", hint="`aws sso login`")
    if isinstance(error, boto.ProfileNotFound | boto.ParamValidationError | boto.InvalidRegionError):
        return Invalid(f"the request for {what} is malformed: {_first_line(error)}", hint="check the region, the profile and the names")
    if isinstance(error, boto.ConnectTimeoutError | boto.EndpointConnectionError):
        return Unavailable(f"no connection for {what}: {_first_line(error)}", hint="check the region, the endpoint and the network")
    if isinstance(error, boto.HTTPClientError | boto.ConnectionError):
        return _maybe(f"no answer for {what}: {_first_line(error)}", changes)
    if isinstance(error, boto.BotoCoreError):  # a source of credentials that does not answer, an answer that was cut, …
        return _maybe(f"the request for {what} failed: {type(error).__name__}: {_first_line(error)}", changes)
    return None


def _answered(error: Any, what: str, changes: bool) -> ChromalithError:
    reply = error.response.get("Error", {})
    code, message = str(reply.get("Code", "")), str(reply.get("Message", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    seen = f"{what} operation={error.operation_name} code={code}"
    if code in _ELSEWHERE or "scoped to a valid region" in message:
        return Invalid(f"the region is not that of {seen}: {message}", hint="set AWS_REGION, or give --region")
    if code in _CREDENTIALS:
        return Invalid(f"the credentials are not valid (any more) for {seen}: {message}", hint=_HOW_CREDENTIALS)
    if code in _DENIED or status == 403:
        return Invalid(f"this identity may not use {seen}: {message}", hint=f"its role needs the permission of {error.operation_name}")
    if code in _ABSENT or status == 404:
        return NotFound(f"there is no {seen}: {message}", hint="check its name, the region and the account")
    if code in _BUSY or status == 429:
        return Unavailable(f"throttled: {seen}: {message}", hint="try again later")
    if status == 413 or code in _TOO_LARGE:
        return Invalid(f"the request is too large for {seen}: {message}", hint="send less at once")
    if status >= 500:
        return _maybe(f"the service failed: {seen}: {message}", changes)
    return Invalid(f"refused: {seen}: {message}", hint="check the names and the region")


def _maybe(message: str, changes: bool) -> ChromalithError:
    if changes:
        return Unknown(message, hint="look whether it happened before you repeat it")
    return Unavailable(message, hint="try again")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
