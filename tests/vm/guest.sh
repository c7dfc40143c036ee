# Inside the virtual machine, as root: each line of `selections` is a container runtime and the arguments of one pytest run.
# Reports and exit codes go to the third disk, as a tar archive.
set -u
cd /slipway
export HOME=/root LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PYTHONPATH=/opt/python:/slipway PYTHONUNBUFFERED=1 NO_COLOR=1
export DJANGO_SETTINGS_MODULE=tests.settings
. ./environment
mkdir /results
echo "guest: $(uname -r), $(. /etc/os-release; echo "$PRETTY_NAME"), cgroup $(stat -fc %T /sys/fs/cgroup), up after $(cut -d' ' -f1 /proc/uptime) s"
while IFS=' ' read -r runtime arguments; do
    for other in runc crun; do  # a node that has only this one
        [ "$other" = "$runtime" ] || chmod a-x "$(command -v $other)" 2>/dev/null
    done
    chmod a+x /usr/bin/$runtime /usr/sbin/$runtime 2>/dev/null
    echo "guest: $runtime: pytest $arguments"
    eval "timeout --signal INT --kill-after 60 $RUN_DEADLINE_S python3 -m pytest --basetemp=/var/tmp/$runtime --junitxml=/results/$runtime.xml $arguments" </dev/null
    echo $? >/results/$runtime.code
done <selections
tar -cf /dev/disk/by-id/virtio-results -C /results .
sync
