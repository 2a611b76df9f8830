#!/bin/bash
# The mission's wrapper, written anew from its description: parse the bundle from the
# arguments, put NVIDIA_VISIBLE_DEVICES=all and NVIDIA_DRIVER_CAPABILITIES=all into its spec
# with jq, call nvidia-container-runtime.real.  A peer of the bench; the charm never installs it.
bundle=
previous=
for argument in "$@"; do
    case $previous in
    -b | --bundle) bundle=$argument ;;
    esac
    case $argument in
    --bundle=*) bundle=${argument#*=} ;;
    esac
    previous=$argument
done
if [[ -n $bundle && -f $bundle/config.json ]]; then
    jq -c '.process.env += ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=all"]' \
        "$bundle/config.json" >"$bundle/config.json.new" &&
        mv "$bundle/config.json.new" "$bundle/config.json"
fi
exec /usr/bin/nvidia-container-runtime.real "$@"
