"""Requests by HTTP, directly or through a proxy, with failures that say what is wrong."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp_socks import ProxyConnectionError, ProxyConnector, ProxyError, ProxyTimeoutError

from ..protocol.errors import Failure
from ..protocol.paths import shown
from ..protocol.sentences import Detail, os_detail
from .certificates import client_context
from .proxies import connectable, refused_by_proxy

REQUEST_SECONDS = 15.0
_CHUNK = 1 << 16


@asynccontextmanager
async def session(
    url: str, ca: Path | None, proxy: str, seconds: float, headers: Mapping[str, str]
) -> AsyncIterator[aiohttp.ClientSession]:
    """A session of so many seconds at most with the server of this URL, without cookies, which
    unpacks nothing. `ca`: a further certificate to trust. `proxy`: its URL, or "". What goes wrong
    is `Failure`."""
    context = client_context(ca)
    try:
        async with (
            asyncio.timeout(seconds),
            aiohttp.ClientSession(
                connector=_connector(proxy, context),
                timeout=aiohttp.ClientTimeout(REQUEST_SECONDS),
                headers=headers,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            ) as opened,
        ):
            yield opened
    except ProxyError as error:
        raise refused_by_proxy(error.error_code, str(error)) from None
    except (ProxyConnectionError, ProxyTimeoutError):
        raise Failure("server_unreachable", Detail("proxy_unreachable")) from None
    except aiohttp.ClientConnectorCertificateError as error:
        why = getattr(error.certificate_error, "verify_message", "") or Detail("wrong_host")
        raise Failure(
            "certificate_untrusted", why if isinstance(why, Detail) else shown(why)
        ) from None
    except TimeoutError:
        raise Failure("server_unreachable", Detail("no_answer")) from None
    except aiohttp.ClientSSLError:
        raise Failure("server_unreachable", Detail("no_tls")) from None
    except aiohttp.ClientConnectorError as error:
        number = error.os_error.errno  # negative where it is the name service's
        known = bool(number and number > 0)
        why = os_detail(error.os_error) if known else Detail("no_such_host")
        raise Failure("server_unreachable", why) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if isinstance(error, aiohttp.ServerDisconnectedError) and url.startswith("http:"):
            raise Failure("server_unreachable", Detail("no_http")) from None
        raise Failure("server_unreachable", Detail("no_web_server")) from None


def _connector(proxy: str, context: ssl.SSLContext) -> aiohttp.BaseConnector:
    if not proxy:
        return aiohttp.TCPConnector(ssl=context)
    url, lookup = connectable(proxy)
    connector: aiohttp.BaseConnector = ProxyConnector.from_url(
        url, rdns=lookup or None, ssl=context
    )
    return connector


async def body(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    """At most one byte more than `limit`: enough to differ."""
    got = bytearray()
    while len(got) <= limit and (chunk := await answer.content.read(_CHUNK)):
        got += chunk
    return bytes(got[: limit + 1])
