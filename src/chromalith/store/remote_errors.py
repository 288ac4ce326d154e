"""From what the network client raises to the port's errors. The one question behind each line: was it applied?

A write answered with 4xx was refused: nothing changed. One answered with 5xx, not answered, or answered too late may have
been applied: ``Unknown``. One whose connection was never made was not: ``Unavailable``.

=================================  =========================  ===========================================
seen                               on a put or copy           on a read or delete
=================================  =========================  ===========================================
412, 304                           ``PreconditionFailed``     (304 to a conditional read is no error)
404 to ``Matches``                 ``PreconditionFailed``
404                                ``Invalid`` (no bucket)    ``NotFound``, ``Invalid`` for a missing bucket
409                                ``Unavailable``            ``Unavailable``
409 of Azure to ``Absent``         ``PreconditionFailed``
401, no or expired credentials     ``Invalid``                ``Invalid``
403 (allowed nothing of this)      ``NotAllowed``             ``NotAllowed``, which is ``Invalid``
301, 400 "the region is wrong"     ``Invalid``                ``Invalid``, with the right one if it is told
413, EntityTooLarge                ``Invalid``                ``Invalid``
429                                ``Unavailable``            ``Unavailable``
503 SlowDown                       ``Unknown``                ``Unavailable``; both say that it is throttled
408, RequestTimeout                ``Unknown``                ``Unavailable``
501, other 3xx and 4xx             ``Invalid``                ``Invalid``
other 5xx, lost, timed out         ``Unknown``                ``Unavailable``
connection not made                ``Unavailable``            ``Unavailable``
=================================  =========================  ===========================================

S3 answers 409 when another conditional write of the key is under way: this one was not applied, and is to be sent again.
The client tells the HTTP status only in its text, so the text is parsed; the contract suite pins its form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from chromalith.errors import ChromalithError, Invalid, NotFound, Unavailable, Unknown
from chromalith.store.port import Absent, Condition, Matches, NotAllowed, PreconditionFailed

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>([\w.]+)</Code>")
_REGION = re.compile(r"expecting '([\w-]+)'")
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist", re.IGNORECASE)
_CREDENTIALS = re.compile(
    r"169\.254\.\d|fd00:ec2|metadata\.google|token request|credential provider|No credentials", re.IGNORECASE
)
_NEVER_SENT = re.compile(r"kind: Connect\b|kind: ConnectionRefused|dns error")
_BAD_CREDENTIALS = {
    "AuthorizationHeaderMalformed", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "RequestTimeTooSkewed",
    "SignatureDoesNotMatch", "TokenRefreshRequired",
}  # fmt: skip
_EXPIRED = {"ExpiredToken", "TokenRefreshRequired"}
_THROTTLED = {"SlowDown", "RequestLimitExceeded", "ThrottlingException", "TooManyRequests", "ServerBusy"}
_TOO_LARGE = {"EntityTooLarge", "RequestBodyTooLarge"}

_SLOWLY = "the store is throttling: it asks for fewer requests"
_LATER = "try again later, with fewer at once; `chromalith compact` makes reads cheaper"
_HOW_CREDENTIALS = {
    "s3": "credentials are searched in storage_options, AWS_ACCESS_KEY_ID/AWS_SECRET_ACCESS_KEY, then with boto3 (installed by"
    " chromalith[aws]) profiles and SSO, then the container's or instance's role; the identity needs s3:ListBucket on the bucket"
    " and s3:GetObject, s3:PutObject, s3:DeleteObject on its objects",
    "gs": "credentials are searched in storage_options (service_account), GOOGLE_APPLICATION_CREDENTIALS, the gcloud login,"
    " then the instance's service account; the identity needs roles/storage.objectUser",
    "az": "credentials are searched in storage_options (account, account_key, sas_token), AZURE_STORAGE_ACCOUNT_KEY and the other"
    " AZURE_* variables, then the managed identity; the identity needs 'Storage Blob Data Contributor'",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked of the store."""

    verb: str
    key: str
    condition: Condition
    scheme: str
    url: str

    @property
    def changes(self) -> bool:
        """Whether doing it unasked a second time, or not knowing whether it was done, matters."""
        return self.verb in ("put", "copy")


@dataclass(frozen=True, slots=True)
class Failure:
    """What the client said: HTTP status or 0, the service's code, and what else its text gives away."""

    status: int
    code: str
    text: str
    refused: bool
    region: str
    credentials: bool
    never_sent: bool

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Read the client's exception."""
        text = str(error)
        region = _REGION.search(text)
        status, code = _STATUS.search(text), _CODE.search(text)
        first_line = text.partition("\n")[0]
        return cls(
            status=int(status[1]) if status else 0,
            code=code[1] if code else "",
            text=text,
            refused=isinstance(error, PermissionDeniedError | UnauthenticatedError) or (status is not None and status[1] in ("401", "403")),
            region=region[1] if region else "",
            credentials=_CREDENTIALS.search(first_line) is not None,
            never_sent=_NEVER_SENT.search(text) is not None,
        )

    def in_port_words(self, request: Request) -> ChromalithError:
        """The error to raise for ``request``."""
        if self.region:
            return self._other_region(request)
        if self.credentials or self.refused:
            return self._not_allowed(request)
        if self.status == 404:
            return self._not_found(request)
        if self.status:
            return self._answered(request)
        if "configured region" in self.text:
            return self._other_region(request)
        if self.never_sent:
            return Unavailable(
                self._message("no connection to the store", request),
                hint="check the endpoint (storage_options, ?endpoint=… in the URL, AWS_ENDPOINT_URL) and the network",
            )
        return self._maybe(request, "the reply was lost")

    def _answered(self, request: Request) -> ChromalithError:
        status, conditional = self.status, request.condition is not None
        if status in (412, 304) and conditional:
            return PreconditionFailed(self._message("the condition did not hold", request))
        if status == 409 and request.scheme == "az" and isinstance(request.condition, Absent):
            return PreconditionFailed(self._message("the object exists already", request))
        if status == 429:
            return Unavailable(self._message(_SLOWLY, request), hint=_LATER)
        if status in (409, 412):
            return Unavailable(self._message("the store is busy with this key or this client", request))
        if status == 408 or self.code == "RequestTimeout":
            return self._maybe(request, "the store waited too long for the request")
        if status == 416:
            return Invalid(self._message("the range does not begin within the object", request))
        if self.code in _BAD_CREDENTIALS:
            return self._not_allowed(request)
        if status == 413 or self.code in _TOO_LARGE:
            return Invalid(self._message("the object is too large for the store", request), hint="write less at once")
        if status < 500 or status == 501:
            hint = "it may lack conditional writes" if conditional else "check the endpoint, and that it is the service that the URL says"
            return Invalid(self._message("the store refused the request", request), hint=hint)
        if self.code in _THROTTLED:
            return self._maybe(request, _SLOWLY, hint=_LATER)
        return self._maybe(request, "the store failed")

    def _other_region(self, request: Request) -> ChromalithError:
        where = f" expected={self.region}" if self.region else ""
        return Invalid(
            self._message("the bucket is in another region", request) + where,
            hint="set the region: ?region=… in the URL, storage_options, or AWS_REGION",
        )

    def _not_allowed(self, request: Request) -> ChromalithError:
        if self.credentials and (self.status >= 500 or self.status == 429):
            return Unavailable(self._message("the source of credentials failed", request))
        how = _HOW_CREDENTIALS[request.scheme]
        if self.credentials:
            return Invalid(self._message("no credentials for the store", request), hint=how)
        if self.code in _EXPIRED:
            return Invalid(self._message("the credentials have expired", request), hint=f"renew them; {how}")
        if self.code in _BAD_CREDENTIALS or self.status == 401:
            return Invalid(self._message("the store refused these credentials", request), hint=how)
        return NotAllowed(self._message("the store refused these credentials this request", request), hint=how, key=request.key)

    def _not_found(self, request: Request) -> ChromalithError:
        no_bucket = _NO_BUCKET.search(self.text) is not None
        if isinstance(request.condition, Matches) and not no_bucket:
            return PreconditionFailed(self._message("the object to overwrite is absent", request))
        if no_bucket or request.verb in ("put", "list"):
            return Invalid(
                self._message("the bucket or container does not exist", request),
                hint="create it first; check its name, the endpoint and the region",
            )
        return NotFound(f"no such object key={request.key} store={request.url}")

    def _maybe(self, request: Request, what: str, hint: str | None = None) -> ChromalithError:
        return (Unknown if request.changes else Unavailable)(self._message(what, request), hint=hint)

    def _message(self, what: str, request: Request) -> str:
        seen = f" status={self.status}" if self.status else ""
        seen += f" code={self.code}" if self.code else ""
        return f"{what} verb={request.verb} key={request.key} store={request.url}{seen}"
