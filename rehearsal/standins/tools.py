"""Stand-ins for Juju's hook tools, one function a tool: what each prints and changes."""

from __future__ import annotations

import ipaddress
import json
import re
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .arguments import Arguments
from .model import Secret, ToolError

if TYPE_CHECKING:
    from .agent import Hook


def _status_set(hook: Hook, given: Arguments, _: str) -> str:
    status = (given.words[0].lower(), " ".join(given.words[1:]))
    if given.option("application").lower() == "true":
        hook.model.app_status = status
        return ""
    hook.model.status = status
    hook.event("status", "  ".join(status))
    return ""


def _status_get(hook: Hook, given: Arguments, _: str) -> Any:
    whole = given.option("application").lower() == "true"
    status, message = hook.model.app_status if whole else hook.model.status
    return {"status": status, "message": message, "status-data": {}}


def _juju_log(hook: Hook, given: Arguments, _: str) -> str:
    hook.event("log", f"{given.option('log-level') or 'INFO'} {' '.join(given.words)}")
    return ""


def _version_set(hook: Hook, given: Arguments, _: str) -> str:
    hook.model.version = given.words[0]
    return ""


def _relation_ids(hook: Hook, given: Arguments, _: str) -> Any:
    return [one.id for one in hook.model.relations if one.name == given.words[0]]


def _relation_list(hook: Hook, given: Arguments, _: str) -> Any:
    relation = hook.related(given)
    return json.dumps(relation.remote_app if "app" in given.flags else relation.remote_units)


def _relation_get(hook: Hook, given: Arguments, _: str) -> Any:
    relation = hook.related(given)
    key, member = given.words[0], given.words[1]
    of_others = relation.remote_app != hook.model.app  # peers may read what is their own
    if member == hook.model.app and of_others and not hook.model.leader:
        raise ToolError(f'permission denied: "{hook.model.unit}" is not the leader')
    bag = {**relation.bag(member), **hook.written.get((relation.id, member), {})}
    bag = {name: value for name, value in bag.items() if value}
    return bag if key == "-" else bag.get(key, "")


def _relation_set(hook: Hook, given: Arguments, stdin: str) -> str:
    relation = hook.related(given)
    member = hook.model.app if "app" in given.flags else hook.model.unit
    if "app" in given.flags and not hook.model.leader:
        raise ToolError("cannot write relation settings: not the leader")
    values = json.loads(stdin) if stdin else {}
    values |= dict(word.split("=", 1) for word in given.words)
    hook.written.setdefault((relation.id, member), {}).update(values)

    def change() -> None:
        bag = relation.bag(member)
        bag.update(values)
        for name in [name for name, value in bag.items() if not value]:
            del bag[name]

    return hook.later(change)


def _network_get(hook: Hook, _: Arguments, __: str) -> Any:
    mine = hook.model.address
    subnet = str(ipaddress.ip_network(f"{mine}/24", strict=False))
    address = {"hostname": "", "value": mine, "cidr": subnet, "address": mine}
    return {
        "bind-addresses": [{"mac-address": "", "interface-name": "eth0", "addresses": [address]}],
        "ingress-addresses": [mine],
        "egress-subnets": [f"{mine}/32"],
    }


def _goal_state(hook: Hook, _: Arguments, __: str) -> Any:
    since = {"status": "active", "since": "2026-01-01 00:00:00Z"}
    relations = {one.name: dict.fromkeys(one.remote_units, since) for one in hook.model.relations}
    mates = hook.model.mates or [hook.model.unit]
    return {"units": dict.fromkeys(mates, since), "relations": relations}


def _action_set(hook: Hook, given: Arguments, _: str) -> str:
    hook.results |= dict(word.split("=", 1) for word in given.words)
    return ""


def _action_fail(hook: Hook, given: Arguments, _: str) -> str:
    hook.failure = " ".join(given.words)
    return ""


def _resource_get(hook: Hook, given: Arguments, _: str) -> str:
    place = hook.model.resources.get(given.words[0])
    if place is None:
        raise ToolError(f"could not download resource: {given.words[0]} not found")
    return place + "\n"


def _secret_add(hook: Hook, given: Arguments, _: str) -> str:
    identity = f"secret:{secrets.token_hex(10)}"
    content = dict(word.split("=", 1) for word in given.words)
    owner = given.option("owner") or "application"
    holder = hook.model.unit if owner == "unit" else hook.model.app
    made = Secret(given.option("label"), owner, content, holder=holder)
    hook.made[identity] = made  # the hook itself sees it at once
    hook.later(lambda: hook.model.secrets.__setitem__(identity, made))
    return identity + "\n"


def _secret(hook: Hook, given: Arguments) -> tuple[str, Secret]:
    # Juju takes an id as it printed it, secret:ID, and as a whole address, secret://MODEL/ID.
    asked = [f"secret:{re.split('[:/]', word)[-1]}" for word in given.words[:1]]
    for identity, secret in {**hook.model.secrets, **hook.made}.items():
        named = identity in asked
        if named and not secret.is_open_to(hook.model.unit):
            raise ToolError("permission denied")
        labelled = secret.label == given.option("label") and secret.is_open_to(hook.model.unit)
        if named or (not given.words and labelled):
            return identity, secret
    raise ToolError(f"secret {(given.words or [given.option('label')])[0]!r} not found")


def _secret_get(hook: Hook, given: Arguments, _: str) -> Any:
    secret = _secret(hook, given)[1]
    refresh, peek = "refresh" in given.flags, "peek" in given.flags
    return secret.read(hook.model.unit, refresh=refresh, peek=peek)


def _secret_info(hook: Hook, given: Arguments, _: str) -> Any:
    identity, one = _secret(hook, given)
    facts = {"revision": one.revision, "label": one.label, "owner": one.owner, "rotation": "never"}
    return {identity.removeprefix("secret:"): facts}


def _secret_set(hook: Hook, given: Arguments, _: str) -> str:
    _, secret = _secret(hook, given)
    content = dict(word.split("=", 1) for word in given.words[1:])
    return hook.later(lambda: secret.revise(content)) if content else ""


def _secret_ids(hook: Hook, _: Arguments, __: str) -> str:
    """Return the secrets that the unit owns, or its application if it leads; one a line."""
    mine = {hook.model.unit, *([hook.model.app] if hook.model.leader else [])}
    return "".join(f"{one}\n" for one, its in hook.model.secrets.items() if its.holder in mine)


def _secret_remove(hook: Hook, given: Arguments, _: str) -> str:
    identity = _secret(hook, given)[0]
    if given.option("revision"):
        return ""

    def change() -> None:
        hook.model.secrets.pop(identity, None)

    return hook.later(change)


def _state_get(hook: Hook, given: Arguments, _: str) -> Any:
    return hook.model.state.get(given.words[0], "") if given.words else hook.model.state


def _state_set(hook: Hook, given: Arguments, _: str) -> str:
    values = dict(word.split("=", 1) for word in given.words)
    return hook.later(lambda: hook.model.state.update(values))


def _state_delete(hook: Hook, given: Arguments, _: str) -> str:
    def change() -> None:
        hook.model.state.pop(given.words[0], None)

    return hook.later(change)


def _port(opened: bool) -> Callable[[Hook, Arguments, str], str]:
    def tool(hook: Hook, given: Arguments, _: str) -> str:
        ports = hook.model.ports
        return hook.later(lambda: (ports.add if opened else ports.discard)(given.words[0]))

    return tool


def _nothing(_: Hook, __: Arguments, ___: str) -> str:
    return ""


def _log_of_action(hook: Hook, given: Arguments, _: str) -> str:
    hook.event("log", f"ACTION {' '.join(given.words)}")
    return ""


TOOLS: dict[str, Callable[[Hook, Arguments, str], Any]] = {
    "action-fail": _action_fail,
    "action-get": lambda hook, _, __: hook.parameters,
    "action-log": _log_of_action,
    "action-set": _action_set,
    "application-version-set": _version_set,
    "close-port": _port(opened=False),
    "config-get": lambda hook, _, __: hook.model.config,
    "goal-state": _goal_state,
    "is-leader": lambda hook, _, __: hook.model.leader,
    "juju-log": _juju_log,
    "juju-reboot": _nothing,
    "network-get": _network_get,
    "open-port": _port(opened=True),
    "opened-ports": lambda hook, _, __: sorted(hook.model.ports),
    "relation-get": _relation_get,
    "relation-ids": _relation_ids,
    "relation-list": _relation_list,
    "relation-model-get": lambda hook, _, __: {"uuid": hook.model.uuid},
    "relation-set": _relation_set,
    "resource-get": _resource_get,
    "secret-add": _secret_add,
    "secret-get": _secret_get,
    "secret-grant": _nothing,
    "secret-ids": _secret_ids,
    "secret-info-get": _secret_info,
    "secret-remove": _secret_remove,
    "secret-revoke": _nothing,
    "secret-set": _secret_set,
    "state-delete": _state_delete,
    "state-get": _state_get,
    "state-set": _state_set,
    "status-get": _status_get,
    "status-set": _status_set,
    "storage-get": _nothing,
    "storage-list": lambda _, __, ___: [],
}
NAMES = tuple(TOOLS)
