"""What the measurements need of a server besides the Python client's methods."""

from typing import Any

from ccoe.v1.catalog_service_pb2 import EXPERT_STATE_READY
from ccoe.v1.types_pb2 import RouteDecision, RouteStage
from ccoe_client import Client

Turn = dict[str, str]
"""A message: its `role`, "user" or "assistant", and its `content`."""
TIMEOUT_S = 900.0
CONNECT_PATIENCE_S = 5.0
RETRIES = 1_000_000
"""More than any timeout has room for."""


def connect(address: str, timeout_s: float = TIMEOUT_S) -> Client:
    """A client that waits for a busy server until a call's time is over."""
    return Client(address, timeout=timeout_s, retries=RETRIES)


def user(prompt: str) -> list[Turn]:
    return [{"role": "user", "content": prompt}]


def route_json(route: RouteDecision) -> dict[str, Any]:
    """`stage` is "explicit", "rules", "learned" or "fallback"."""
    stage = RouteStage.Name(route.stage).removeprefix("ROUTE_STAGE_").lower()
    return {"domain": route.domain, "stage": stage, "confidence": round(route.confidence, 4)}


def identity(client: Client) -> dict[str, Any]:
    """What the figures depend on: base model, arithmetic, experts that are ready. Gives up early
    where no server answers."""
    model = client.model(timeout=CONNECT_PATIENCE_S)
    ready = [e for e in client.experts() if e.state == EXPERT_STATE_READY]
    return {
        "server_version": client.server_info().version,
        "model": model.name,
        "model_digest": model.digest,
        "arithmetic": model.arithmetic,
        "experts": {
            e.domain: {"name": e.name, "version": e.version, "digest": e.digest} for e in ready
        },
    }
