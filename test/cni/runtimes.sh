#!/bin/bash
# Container runtimes that others wrote, with our executable and an agent's CNI side, in mount and network namespaces of their own:
#
#   unshare -m -n --propagation private bash test/cni/runtimes.sh DIRECTORY NODE [CNITOOL]
#
# Prints "<runtime> <step> <exit code> <output in one line>" for each step of each runtime that is installed.
set -u
W=$1 NODE=$2 CNITOOL=${3:-}
HERE=$(cd "$(dirname "$0")" && pwd)

step() { # runtime, step, command …
  local runtime=$1 name=$2 output
  shift 2
  output=$(timeout 60 "$@" 2>&1)
  echo "$runtime $name $? $(echo "$output" | tr '\n' ' ' | tail -c 2000)"
}

mkdir -p "$W"/rootfs/{bin,proc,sys,dev,etc,tmp,run} /etc/cni /opt/cni
for f in /bin/sleep "$(readlink -f "$(command -v ip)")"; do
  cp "$f" "$W/rootfs/bin/"
  for l in $(ldd "$f" | grep -o '/[^ ]*'); do mkdir -p "$W/rootfs$(dirname "$l")" && cp -n "$l" "$W/rootfs$l"; done
done
mount -t tmpfs tmpfs /etc/cni && mkdir /etc/cni/net.d
mount -t tmpfs tmpfs /opt/cni && mkdir /opt/cni/bin
mount -t tmpfs tmpfs /run/netns 2>/dev/null || { mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns; }
cp "$HERE/../../dist/cni/sedge-cni" /opt/cni/bin/
cp /usr/lib/cni/{loopback,portmap,bandwidth,tuning} /opt/cni/bin/ 2>/dev/null
cat > /etc/cni/net.d/10-sedge.conflist <<CONF
{"cniVersion": "1.0.0", "name": "k8s-pod-network", "plugins": [{"type": "sedge-cni", "socket": "$W/agent.sock", "queueDir": "$W/cni-queue"}]}
CONF
ip link set lo up
sysctl -qw net.ipv4.ip_forward=1
"$NODE" "$HERE/../fakes/cni-agent.ts" "{\"directory\": \"$W\", \"pools\": [\"10.65.0.0/24\"], \"hasKernel\": true}" > "$W/agent.out" 2>&1 &
AGENT=$!
for _ in $(seq 300); do [ -S "$W/agent.sock" ] && break; sleep 0.1; done

if [ -n "$CNITOOL" ]; then
  export NETCONFPATH=/etc/cni/net.d CNI_PATH=/opt/cni/bin
  ip netns add tool
  step cnitool add "$CNITOOL" add k8s-pod-network /run/netns/tool
  step cnitool address ip -n tool -o -4 address show dev eth0
  step cnitool check "$CNITOOL" check k8s-pod-network /run/netns/tool
  step cnitool del "$CNITOOL" del k8s-pod-network /run/netns/tool
  step cnitool again "$CNITOOL" del k8s-pod-network /run/netns/tool
  ip netns delete tool
fi
if command -v ctr > /dev/null; then
  containerd --root "$W/containerd" --state "$W/containerd-state" --address "$W/containerd.sock" --log-level error > "$W/containerd.log" 2>&1 &
  CONTAINERD=$!
  for _ in $(seq 300); do [ -S "$W/containerd.sock" ] && break; sleep 0.1; done
  step containerd run ctr --address "$W/containerd.sock" run --rm --cni --rootfs "$W/rootfs" "c$$" /bin/ip -o -4 address show dev eth0
  kill $CONTAINERD && wait $CONTAINERD
fi
if command -v podman > /dev/null; then
  cat > "$W/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[network]
network_backend = "cni"
network_config_dir = "/etc/cni/net.d"
cni_plugin_dirs = ["/opt/cni/bin"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
  export CONTAINERS_CONF="$W/containers.conf"
  step podman run podman --root "$W/podman" --runroot "$W/podman-run" --storage-driver vfs run --rm --network k8s-pod-network --rootfs "$W/rootfs" /bin/ip -o -4 address show dev eth0
fi
step agent used sh -c "ip -o link | grep -c ': cali' || true"
kill $AGENT && wait $AGENT
