# Inside a virtual machine, as root: each line of `runs` is a container runtime and the files of one pytest run, whose tests come from the second
# serial line.  Reports and exit codes go to the third disk, as a tar archive.
set -u
cd /slipway
export HOME=/root LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PYTHONPATH=/opt/python:/slipway PYTHONUNBUFFERED=1 NO_COLOR=1
. ./environment
mkdir /results
modprobe loop  # whose device the services that are not waited for would have made
echo "guest: $(uname -r), $(. /etc/os-release; echo "$PRETTY_NAME"), cgroup $(stat -fc %T /sys/fs/cgroup), clock $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource), up after $(cut -d' ' -f1 /proc/uptime) s"
while IFS=' ' read -r runtime files; do
    for other in runc crun; do  # a node that has only this one
        [ "$other" = "$runtime" ] || chmod a-x "$(command -v $other)" 2>/dev/null
    done
    chmod a+x /usr/bin/$runtime /usr/sbin/$runtime 2>/dev/null
    export SLIPWAY_TEST_RUN=$runtime
    # no addopts: of the settings some belong to plugins that only the console's tests want
    python3 -m pytest -o addopts= -o timeout=$TEST_DEADLINE_S --import-mode=importlib -p no:cacheprovider -p tests.vm.guest \
        -o tmp_path_retention_policy=failed -v --tb=short --durations=25 --basetemp=/var/tmp/$runtime --junitxml=/results/$runtime.xml $files </dev/null
    echo $? >/results/$runtime.code
    echo "guest: $runtime: $(head -1 /proc/stat), up $(cut -d' ' -f1 /proc/uptime) s"
done <runs
tar -cf /dev/vdc -C /results .
sync
