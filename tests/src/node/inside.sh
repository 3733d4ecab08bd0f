# Run once inside the new namespaces, with the node's directory as $1: what the parts of a node find on a machine of their own.
# Nothing of it is seen outside, and all of it is gone with the namespaces.

# Where containerd, the CNI plugins and the kubelet keep what they find by fixed names.
for directory in /run /var/lib /var/log; do mount -t tmpfs -o mode=755 tmpfs "$directory"; done

# The cgroup controllers, from our own cgroup downwards.
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
while IFS=: read -r _ controllers _; do
    case $controllers in
        '') continue ;;
        name=*) options=none,$controllers ;;
        *) options=$controllers ;;
    esac
    mkdir "/sys/fs/cgroup/${controllers#name=}"
    mount -t cgroup -o "$options" cgroup "/sys/fs/cgroup/${controllers#name=}"
    # Controllers that share a hierarchy are looked for by their own names, too.
    for name in $(echo "${controllers#name=}" | tr , ' '); do
        [ -e "/sys/fs/cgroup/$name" ] || ln -s "$controllers" "/sys/fs/cgroup/$name"
    done
done < /proc/self/cgroup

# The kubelet insists on settings of the whole machine: it is shown the values that it wants, and so changes none.
mkdir "$1/sysctl"
for setting in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1 kernel/keys/root_maxkeys=1000000 \
    kernel/keys/root_maxbytes=25000000; do
    shown=$1/sysctl/$(basename "${setting%=*}")
    echo "${setting#*=}" > "$shown"
    mount --bind "$shown" "/proc/sys/${setting%=*}"
done
mount --make-rshared /

# One bridge is the network of the node and of its pods; services are reached through it.
ip link set lo up
ip link add cni0 type bridge
ip address add 10.244.0.1/24 dev cni0
ip link set cni0 up
ip route add 10.96.0.0/16 dev cni0
echo 1 > /proc/sys/net/ipv4/ip_forward
# Pods of one bridge reach each other by services, too. A kernel without the module hands it all to iptables anyway.
[ ! -e /proc/sys/net/bridge/bridge-nf-call-iptables ] || echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables
