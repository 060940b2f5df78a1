"""The only home of kubernetes-asyncio: its ApiClient, used raw.

Generated models cost two hundred times a typed decode, its Watch decodes each line three times and its
dynamic client does not raise on HTTP errors. What we take from it is configuration, authentication
(token files, exec plug-ins, OIDC) and the connection pool.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.client.api_client import ApiClient
from kubernetes_asyncio.config import ConfigException, load_incluster_config, load_kube_config

from services.agent.kubernetes.sdk.interfaces import (
    JSON,
    Absent,
    Access,
    Expired,
    Forbidden,
    KubernetesError,
    Unauthorized,
    Unreachable,
)
from services.runtime.errors import UserError

CREDENTIAL_TIMEOUT = 30.0
"""Seconds for reading the configuration: an exec plug-in has no time limit of its own."""
WATCH_SILENCE = 90.0
"""Seconds without a byte after which a watch is made anew, since its connection may be gone."""

FAREWELL = 0.25
"""Seconds: aiohttp leaves the end of TLS connections to the event loop, which must live until then."""
CONCURRENT_REQUESTS = 8
"""Requests under way at once, watches apart: the library has no limit of its own."""

_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"


class _Status(msgspec.Struct):
    """metav1.Status, as the API server words an error."""

    message: str = ""
    reason: str = ""


class _ReviewStatus(msgspec.Struct):
    allowed: bool = False


class _Review(msgspec.Struct):
    """authorization.k8s.io/v1 SelfSubjectAccessReview"""

    status: _ReviewStatus = msgspec.field(default_factory=_ReviewStatus)


async def connect(kubeconfig: str, *, timeout: float, user_agent: str) -> "RawClient":
    """A client from a kubeconfig file; with an empty path in-cluster, else the default kubeconfig.

    `timeout`: seconds for one request. Raises UserError naming what is wrong with the configuration.
    """
    path = _existing(kubeconfig)
    configuration = Configuration()
    try:
        async with asyncio.timeout(CREDENTIAL_TIMEOUT):
            if path or _IN_CLUSTER not in os.environ:
                await load_kube_config(config_file=path, client_configuration=configuration)
            else:
                load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except TimeoutError:
        raise UserError(
            f"the kubeconfig's credential plug-in gave nothing within {CREDENTIAL_TIMEOUT:.0f} s",
            next_step="run the plug-in's command by hand: it may be waiting for a login",
        ) from None
    except (ConfigException, OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"kubeconfig {kubeconfig or 'of this machine'} can't be used: {' '.join(str(error).split())}",
            next_step="check it with `kubectl config view` and `kubectl get ns`, or set AGENT_KUBECONFIG",
        ) from error
    client = ApiClient(configuration)
    client.user_agent = user_agent
    return RawClient(client, timeout)


def _existing(kubeconfig: str) -> str | None:
    """The path of a kubeconfig that was named; None for none. Raises UserError when it is not there."""
    if not kubeconfig:
        return None
    path = Path(kubeconfig).expanduser()
    if not path.is_file():
        raise UserError(f"kubeconfig {kubeconfig} does not exist", "correct AGENT_KUBECONFIG")
    return str(path)


class RawClient:
    """KubernetesClient over kubernetes-asyncio."""

    def __init__(self, client: ApiClient, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self._requests = asyncio.Semaphore(CONCURRENT_REQUESTS)

    @property
    def host(self) -> str:
        """Address of the API server."""
        return str(self._client.configuration.host)

    async def close(self) -> None:
        await self._client.close()
        await asyncio.sleep(FAREWELL)

    async def get(
        self, path: str, query: Mapping[str, str], *, accept: str = JSON, timeout: float | None = None
    ) -> bytes:
        limit = aiohttp.ClientTimeout(total=timeout or self._timeout)
        async with self._requests, self._request("GET", path, query, accept, limit) as response:
            return await response.read()

    async def watch(self, path: str, query: Mapping[str, str], *, accept: str = JSON) -> AsyncIterator[bytes]:
        limit = aiohttp.ClientTimeout(sock_connect=self._timeout, sock_read=WATCH_SILENCE)
        async with self._request("GET", path, query, accept, limit) as response:
            yield b""
            while line := await _next_line(response):
                yield line

    async def may(self, access: Access) -> bool:
        attributes = {"verb": access.verb, "resource": access.plural, "group": access.group}
        if access.namespace:
            attributes["namespace"] = access.namespace
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        limit = aiohttp.ClientTimeout(total=self._timeout)
        async with self._requests, self._request("POST", path, {}, JSON, limit, body) as response:
            return msgspec.json.decode(await response.read(), type=_Review).status.allowed

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        accept: str,
        limit: aiohttp.ClientTimeout,
        body: dict[str, Any] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request whose every failure, the body's reading included, is a KubernetesError."""
        response: aiohttp.ClientResponse | None = None
        try:
            response = await self._client.call_api(
                path,
                method,
                query_params=list(query.items()),
                # Identity: in a cluster the network is cheaper than the API server's and our own gzip.
                header_params={"Accept": accept, "Accept-Encoding": "identity"},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=limit,
            )
            self._client.last_response = None  # type: ignore[attr-defined]  # or it keeps a page alive
            if response.status >= 400:
                raise await _error(response)
            yield response
        except (TimeoutError, aiohttp.ServerTimeoutError):
            seconds = limit.total or limit.sock_read
            raise Unreachable(f"the API server at {self.host} sent nothing for {seconds:.0f} s") from None
        except aiohttp.ClientError as error:
            raise Unreachable(f"the API server at {self.host} can't be reached: {error}") from error
        except ConfigException as error:
            raise Unauthorized(f"the kubeconfig's credential can't be renewed: {error}") from error
        except ValueError as error:  # aiohttp: a line over its limit
            raise KubernetesError(f"{self.host} sent what can't be read: {error}") from error
        finally:
            if response is not None:
                response.close()


async def _next_line(response: aiohttp.ClientResponse) -> bytes:
    """The next line of a watch; empty at its end, and when nothing comes for WATCH_SILENCE.

    Silence is no failure: a resource where nothing changes may have no bookmark for minutes. But nor can it
    be told from a connection that is gone, so the watch is made anew from where it stands.
    """
    try:
        return await response.content.readline()
    except TimeoutError:
        return b""


async def _error(response: aiohttp.ClientResponse) -> KubernetesError:
    """The KubernetesError of a status of 400 and more, in the API server's own words."""
    body = await response.content.read(64 * 1024)
    try:
        status = msgspec.json.decode(body, type=_Status)
    except msgspec.DecodeError:
        status = _Status(message=body[:200].decode(errors="replace"))
    message = " ".join((status.message or status.reason or response.reason or "").split())
    text = f"{response.status} {message}"
    match response.status:
        case 401:
            return Unauthorized(f"{text}: the credential is wrong or has expired")
        case 403:
            return Forbidden(text)
        case 404:
            return Absent(text)
        case 410:
            return Expired(text)
    return KubernetesError(text, _retry_after(response.headers.get("Retry-After", "")))


def _retry_after(header: str) -> float | None:
    """`Retry-After` in seconds, at most five minutes (RFC 9110, 10.2.3; the API server sends seconds)."""
    return min(float(header), 300.0) if header.isdigit() else None
