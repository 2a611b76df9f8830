"""What the configuration of Concourse's own chain says, beside what the machine's says.

A task chooses its environment, its image and its mounts.  So the chain may let a GPU in
by one way only: the NVIDIA_VISIBLE_DEVICES that the wrapper has written.  What else
decides, in nvidia-container-toolkit v1.20.0 (file: keys):

- internal/config/image/cuda_image.go, VisibleDevices: annotations with a prefix of
  `annotation-prefixes` beat everything; then, with `accept-nvidia-visible-devices-as-
  volume-mounts`, mounts; then the variables that `swarm-resource` names; the wrapper's
  variable comes last, and counts only with `accept-nvidia-visible-devices-envvar-when-
  unprivileged` (without it a task silently gets no GPU).  An empty list of prefixes is
  kept as empty, not replaced by the default (tried with a cdi.k8s.io annotation).
- the same file, ImexChannelRequests: NVIDIA_IMEX_CHANNELS and mounts bring channel
  devices unless `features.ignore-imex-channel-requests` is set.
- api/config/v1/cli.go, features.go, hook_config.go: `features.allow-ldconfig-from-
  container`, `features.allow-cuda-compat-libs-from-container` and `cuda-compat-mode =
  "mount"` let an image's files act on the host's side; an `ldconfig` without "@" is the
  image's own, and without the feature it fails every create.
- api/config/v1/features.go: `features.allow-unknown-oci-spec-fields` drops what it
  doesn't know from a container's spec, security settings of tomorrow included.
- internal/modifier/factory.go: an unknown `mode` fails every create.
- NVIDIA_GDS, _MOFED, _GDRCOPY and _NVSWITCH (internal/modifier/cdi.go) and the MIG
  config and monitor variables (the hook) have no key; the wrapper removes them.

Who reads this file: nvidia-container-runtime and, in legacy mode, the prestart hook
nvidia-container-runtime-hook (hook_config.go, getConfigFilePath), which runc starts with
its own environment, as the hook's entry in the spec has none (libcontainer/configs,
Command.Run; tried with runc 1.1.5).  Both honour NVIDIA_CTK_CONFIG_FILE_PATH from 1.18
on.  The CDI hooks (nvidia-cdi-hook) read no configuration at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_MODES = ("auto", "legacy", "csv", "cdi", "jit-cdi")
_LEVELS = ("trace", "debug", "info", "warning", "warn", "error", "fatal", "panic")
_CAPABILITIES = ("compute", "compat32", "graphics", "utility", "video", "display", "ngx")
_Check = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _one_of(*known: str) -> _Check:
    return lambda value: isinstance(value, str) and value in known


def _capabilities(value: Any) -> bool:
    return _text(value) and (value == "all" or set(value.split(",")) <= set(_CAPABILITIES))


# What a task can't turn to its advantage is taken over, if it is of the right type: a
# wrong one would fail every create.
_HARMLESS: Mapping[tuple[str, ...], _Check] = {
    ("disable-require",): _flag,
    ("supported-driver-capabilities",): _capabilities,
    ("nvidia-container-cli", "root"): _text,
    ("nvidia-container-cli", "path"): _text,
    ("nvidia-container-cli", "environment"): _texts,
    ("nvidia-container-cli", "debug"): _text,
    ("nvidia-container-cli", "ldcache"): _text,
    ("nvidia-container-cli", "load-kmods"): _flag,
    ("nvidia-container-cli", "no-pivot"): _flag,
    ("nvidia-container-cli", "no-cgroups"): _flag,
    ("nvidia-container-cli", "user"): _text,
    ("nvidia-container-cli", "ldconfig"): lambda value: _text(value) and value.startswith("@"),
    ("nvidia-container-runtime", "debug"): _text,
    ("nvidia-container-runtime", "log-level"): _one_of(*_LEVELS),
    ("nvidia-container-runtime", "mode"): _one_of(*_MODES),
    ("nvidia-container-runtime", "modes", "cdi", "default-kind"): _text,
    ("nvidia-container-runtime", "modes", "cdi", "spec-dirs"): _texts,
    ("nvidia-container-runtime", "modes", "csv", "mount-spec-path"): _text,
    ("nvidia-container-runtime", "modes", "csv", "compat-container-root"): _text,
    ("nvidia-container-runtime", "modes", "jit-cdi", "nvcdi-feature-flags"): _texts,
    ("nvidia-container-runtime", "modes", "jit-cdi", "nvcdi-disable-hooks"): _texts,
    ("nvidia-container-runtime", "modes", "legacy", "cuda-compat-mode"): _one_of(
        "disabled", "hook", "ldconfig"
    ),
    ("nvidia-container-runtime-hook", "path"): _text,
    ("nvidia-container-runtime-hook", "skip-mode-detection"): _flag,
    ("nvidia-ctk", "path"): _text,
    ("features", "disable-cuda-compat-lib-hook"): _flag,
    ("features", "disable-imex-channel-creation"): _flag,
    ("features", "no-additional-gids-for-device-nodes"): _flag,
}
_CLOSED: Mapping[tuple[str, ...], Any] = {
    ("accept-nvidia-visible-devices-envvar-when-unprivileged",): True,
    ("accept-nvidia-visible-devices-as-volume-mounts",): False,
    ("nvidia-container-runtime", "modes", "cdi", "annotation-prefixes"): [],
    ("features", "ignore-imex-channel-requests"): True,
}


def chain_values(host: Mapping[str, Any], *, runtime: Path, no_cgroups: bool) -> dict[str, Any]:
    """Return the configuration of Concourse's own chain.

    Args:
        host: the machine's configuration.
        runtime: the original runc, an absolute path.
        no_cgroups: whether device cgroups can't be set here.
    """
    values: dict[str, Any] = {}
    for path, value in _CLOSED.items():
        _put(values, path, value)
    _put(values, ("nvidia-container-runtime", "mode"), "auto")
    for path, harmless in _HARMLESS.items():
        given = _get(host, path)
        if given is not None and harmless(given):
            _put(values, path, given)
    _put(values, ("nvidia-container-runtime", "runtimes"), [str(runtime)])
    if no_cgroups:
        _put(values, ("nvidia-container-cli", "no-cgroups"), True)
    return values


def _get(values: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if not isinstance(values, Mapping):
            return None
        values = values.get(key)
    return values


def _put(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    *folders, last = path
    for key in folders:
        values = values.setdefault(key, {})
    values[last] = value
