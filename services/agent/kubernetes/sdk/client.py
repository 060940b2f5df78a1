"""The only home of kubernetes-asyncio: its ApiClient, used raw.

Generated models cost two hundred times a typed decode, its Watch decodes each line three times and its
dynamic client does not raise on HTTP errors. What we take from it is configuration, authentication
(token files, exec plug-ins, OIDC; see `credentials`) and the connection pool.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import aiohttp
import msgspec
from aiohttp.http_exceptions import HttpProcessingError
from kubernetes_asyncio.client.api_client import ApiClient

from services.agent.kubernetes.sdk.answers import error_of, warnings_of
from services.agent.kubernetes.sdk.credentials import Credential, Credentials
from services.agent.kubernetes.sdk.interfaces import (
    APPLY_PATCH,
    JSON,
    Access,
    Reply,
    Silent,
    TooLarge,
    Unanswered,
    Unauthorized,
    Unreachable,
    Unreadable,
)
from services.runtime import logs
from services.runtime.errors import UserError

_log = logs.get_logger(__name__)

CONNECT_TIMEOUT = 10.0
"""Seconds for a connection with its TLS handshake, and as many for a watch to be accepted."""
RENEW_PAUSE = 5.0
"""Seconds between two readings of the credential: a server that says 401 to everything is asked for all."""
MAX_LINE = 16 * 1024 * 1024
"""Bytes of one event of a watch. etcd holds objects of 1.5 MiB; JSON may write a byte as six."""
READ_BUFFER = 128 * 1024
"""Bytes read ahead of us per connection, at most twice as many; the library's 2 MiB are for each watch."""
FAREWELL = 0.25
"""Seconds: aiohttp leaves the end of TLS connections to the event loop, which must live until then."""
_NO_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
"""Characters that YAML 1.1 (5.1, 4.2) forbids, or takes for the end of a line, where they are not escaped."""
CONCURRENT_REQUESTS = 8
"""Requests under way at once, watches apart: the library has no limit of its own."""


def _yaml(body: Any) -> bytes:
    """JSON that is YAML as well: where it is read as that, an escaped surrogate pair is no character."""
    text = json.dumps(body, ensure_ascii=False)
    return _NO_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


class _Sending:
    """One request that is to be sent once."""

    begun = False


class _SentAgain(aiohttp.ClientError):
    """aiohttp was about to send it a second time, as it does on a connection that had been idle."""


_SENDING: ContextVar[_Sending | None] = ContextVar("sending", default=None)


async def _on_send(*_: object) -> None:
    """Called before a request's first byte goes out."""
    if sending := _SENDING.get():
        if sending.begun:
            raise _SentAgain("the connection broke")
        sending.begun = True


class _UserInfo(msgspec.Struct):
    """authentication.k8s.io/v1 UserInfo"""

    username: str = ""


class _ReviewStatus(msgspec.Struct, rename="camel"):
    allowed: bool = False
    user_info: _UserInfo = msgspec.field(default_factory=_UserInfo)


class _Review(msgspec.Struct):
    """authorization.k8s.io/v1 SelfSubjectAccessReview, authentication.k8s.io/v1 SelfSubjectReview"""

    status: _ReviewStatus = msgspec.field(default_factory=_ReviewStatus)


async def connect(kubeconfig: str, *, timeout: float, user_agent: str) -> "RawClient":
    """A client from a kubeconfig file; with an empty path in-cluster, else the default kubeconfig.

    `timeout`: seconds for one request. Raises UserError naming what is wrong with the configuration.
    """
    credentials = Credentials(kubeconfig)
    return RawClient(credentials, await credentials.load(), timeout, user_agent)


class RawClient:
    """KubernetesClient over kubernetes-asyncio, with a credential that is renewed."""

    def __init__(
        self, credentials: Credentials, credential: Credential, timeout: float, user_agent: str
    ) -> None:
        self._credentials = credentials
        self._timeout = timeout
        self._user_agent = user_agent
        self._requests = asyncio.Semaphore(CONCURRENT_REQUESTS)
        self._renewing = asyncio.Lock()
        self._use(credential)

    def _use(self, credential: Credential) -> None:
        # Every watch holds a connection: a bounded pool would leave none for the rest.
        credential.configuration.connection_pool_maxsize = 0
        self._credential = credential
        self._read_at = asyncio.get_running_loop().time()
        self._client = ApiClient(credential.configuration)
        self._client.user_agent = self._user_agent
        pool = self._client.rest_client.pool_manager
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_on_send)
        self._client.rest_client.pool_manager = aiohttp.ClientSession(
            connector=pool.connector, trust_env=True, read_bufsize=READ_BUFFER, trace_configs=[trace]
        )
        pool.detach()

    @property
    def host(self) -> str:
        """Address of the API server."""
        return str(self._credential.configuration.host)

    async def close(self) -> None:
        await self._client.close()
        await asyncio.sleep(FAREWELL)

    async def get(
        self,
        path: str,
        query: Mapping[str, str],
        *,
        accept: str = JSON,
        timeout: float | None = None,
        max_bytes: int | None = None,
    ) -> bytes:
        total = timeout or self._timeout
        limit = aiohttp.ClientTimeout(total=total, sock_connect=CONNECT_TIMEOUT)
        async with self._requests, self._request("GET", path, query, accept, limit, total) as response:
            return await (response.read() if max_bytes is None else _read_at_most(response, max_bytes))

    async def write(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any,
        *,
        content_type: str = JSON,
        accept: str = JSON,
        audit_id: str = "",
    ) -> Reply:
        limit = aiohttp.ClientTimeout(total=self._timeout, sock_connect=CONNECT_TIMEOUT)
        async with self._requests:
            sending = _Sending()
            token = _SENDING.set(sending)
            try:
                async with self._request(
                    method, path, query, accept, limit, self._timeout, body, content_type, audit_id
                ) as response:
                    warnings = warnings_of(response.headers.getall("Warning", ()))
                    return Reply(response.status, await response.read(), warnings)
            except (Unreachable, Unreadable) as error:
                if sending.begun:
                    raise Unanswered(error.reason) from error
                raise
            finally:
                _SENDING.reset(token)

    async def watch(
        self, path: str, query: Mapping[str, str], *, accept: str = JSON, silence: float
    ) -> AsyncGenerator[bytes, None]:
        limit = aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT, sock_read=silence)
        async with self._request("GET", path, query, accept, limit, CONNECT_TIMEOUT) as response:
            yield b""
            while line := await response.content.readline(max_line_length=MAX_LINE):
                if not line.endswith(b"\n"):
                    raise Unreachable(f"the API server at {self.host} ended a watch inside of an event")
                yield line

    async def stream(
        self, path: str, query: Mapping[str, str], *, silence: float
    ) -> AsyncGenerator[bytes, None]:
        limit = aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT, sock_read=silence)
        # Of a log without a line yet not even the head of the answer comes.
        async with self._request("GET", path, query, "*/*", limit, silence) as response:
            while data := await response.content.readany():
                yield data

    async def may(self, access: Access) -> bool:
        plural, _, subresource = access.plural.partition("/")
        attributes = {"verb": access.verb, "resource": plural, "group": access.group}
        if subresource:
            attributes["subresource"] = subresource
        if access.namespace:
            attributes["namespace"] = access.namespace
        if access.name:
            attributes["name"] = access.name
        review = await self._review(
            "authorization.k8s.io/v1", "SelfSubjectAccessReview", spec={"resourceAttributes": attributes}
        )
        return review.allowed

    async def whoami(self) -> str:
        return (await self._review("authentication.k8s.io/v1", "SelfSubjectReview")).user_info.username

    async def _review(self, api_version: str, kind: str, **fields: Any) -> _ReviewStatus:
        body = {"apiVersion": api_version, "kind": kind, **fields}
        path = f"/apis/{api_version}/{kind.lower()}s"
        limit = aiohttp.ClientTimeout(total=self._timeout, sock_connect=CONNECT_TIMEOUT)
        async with (
            self._requests,
            self._request("POST", path, {}, JSON, limit, self._timeout, body) as response,
        ):
            data = await response.read()
        try:
            return msgspec.json.decode(data, type=_Review).status
        except msgspec.DecodeError as error:
            raise Unreadable(f"{path} is not what an API server says: {error}") from error

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        accept: str,
        limit: aiohttp.ClientTimeout,
        accepted_within: float,
        body: Any = None,
        content_type: str = JSON,
        audit_id: str = "",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request whose every failure, the body's reading included, is a KubernetesError."""
        response: aiohttp.ClientResponse | None = None
        seconds = accepted_within
        if content_type == APPLY_PATCH:  # of that type, to the letter, the library would make JSON
            body, content_type = _yaml(body), f"{APPLY_PATCH}; charset=utf-8"
        try:
            await self._renew_when_due()
            while True:
                used = self._credential
                if sending := _SENDING.get():
                    sending.begun = False  # what was answered by a 401 was not done
                async with asyncio.timeout(accepted_within):
                    response = await self._client.call_api(
                        path,
                        method,
                        query_params=list(query.items()),
                        # Identity: in a cluster the network is cheaper than the API server's and our gzip.
                        header_params={
                            "Accept": accept,
                            "Accept-Encoding": "identity",
                            "Content-Type": content_type,
                            **({"Audit-ID": audit_id} if audit_id else {}),
                        },
                        body=body,
                        auth_settings=["BearerToken"],
                        _preload_content=False,
                        _request_timeout=limit,
                    )
                self._client.last_response = None  # type: ignore[attr-defined]  # or it keeps a page alive
                if response.status != 401 or not await self._renewed(used):
                    break
                response.close()
            if response.status >= 400:
                raise await error_of(response)
            if JSON in accept and not response.content_type.endswith("json"):
                raise Unreadable(f"{self.host} sent what can't be read: {response.content_type}")
            seconds = limit.sock_read or seconds
            yield response
        except (TimeoutError, aiohttp.ServerTimeoutError):
            raise Silent(f"the API server at {self.host} sent nothing for {seconds:.0f} s") from None
        except aiohttp.ClientError as error:
            raise Unreachable(f"the API server at {self.host} can't be reached: {error}") from error
        except (ValueError, HttpProcessingError) as error:  # a line over the limit, or no HTTP
            raise Unreadable(f"{self.host} sent what can't be read: {error}") from error
        finally:
            if response is not None:
                response.close()

    async def _renew_when_due(self) -> None:
        """Read what ends or changes in time; when that fails, what we have may still be good."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._read_at > self._credential.good_for:
            try:
                await self._renewed(self._credential)
            except Unauthorized as error:
                _log.warning("credential was not renewed", reason=error.reason)

    async def _renewed(self, used: Credential) -> bool:
        """Whether there is another credential than the one used; read again, once for all who ask.

        Raises Unauthorized when it can't be read.
        """
        async with self._renewing:
            if self._credential is not used:
                return True
            loop = asyncio.get_running_loop()
            if loop.time() - self._read_at < RENEW_PAUSE:
                return False
            self._read_at = loop.time()
            try:
                found = await self._credentials.load()
            except UserError as error:
                raise Unauthorized(error.message) from error
            if found.transport[0] != used.transport[0]:
                raise Unauthorized(f"the kubeconfig no longer names {self.host}: start the agent again")
            changed = (found.token, found.transport) != (used.token, used.transport)
            if found.transport == used.transport:
                # Connections are as good as before: the watches on them go on.
                used.configuration.api_key.update(found.configuration.api_key)
                self._credential = replace(found, configuration=used.configuration)
            else:
                before = self._client
                self._use(found)
                await before.close()
            if changed:
                _log.info("credential renewed", host=self.host)
            return changed


async def _read_at_most(response: aiohttp.ClientResponse, limit: int) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > limit:
            raise TooLarge(f"the answer has more than {limit:,} bytes")
    return bytes(data)
