"""What both clients are made of."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import grpc
from ccoe.v1.catalog_service_pb2_grpc import CatalogServiceStub
from ccoe.v1.generation_service_pb2_grpc import GenerationServiceStub

from ._requests import metadata_of
from ._retry import Attempts

CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    # The replicas behind a name take calls by turns.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    # Servers allow a ping every 10 seconds. Without calls none is sent.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # The tokens of a long text take more than gRPC's 4 MiB.
    ("grpc.max_receive_message_length", -1),
]
RESOLVERS = ("dns:", "ipv4:", "ipv6:", "unix:", "xds:")


class BaseClient:
    """A channel and the attempts of its calls."""

    _channels: ModuleType
    """Where channels are made."""

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 600.0,
        retries: int = 4,
        api_key: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        options: Sequence[tuple[str, Any]] = (),
    ):
        """`address` is HOST:PORT, or a target that names its resolver (`dns:`, `unix:`). Each
        call shows `api_key`, or that of the environment (CCOE_API_KEY), if there is one. With
        `credentials` the connection is encrypted. `options` are further ones of the channel."""
        target = address if address.startswith(RESOLVERS) else f"dns:///{address}"
        options = [*CHANNEL_OPTIONS, *options]
        self.channel = (
            self._channels.insecure_channel(target, options)
            if credentials is None
            else self._channels.secure_channel(target, credentials, options)
        )
        self._generation = GenerationServiceStub(self.channel)
        self._catalog = CatalogServiceStub(self.channel)
        self._timeout, self._retries = timeout, retries
        self._api_key = os.environ.get("CCOE_API_KEY") if api_key is None else api_key

    def _attempts(self, options: Mapping[str, Any]) -> Attempts:
        timeout = options.get("timeout")
        return Attempts(self._retries, self._timeout if timeout is None else timeout)

    def _metadata(self, options: Mapping[str, Any]) -> list[tuple[str, str]]:
        key = [("authorization", f"Bearer {self._api_key}")] if self._api_key else []
        return [*key, *metadata_of(options)]
