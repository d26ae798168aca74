//! The flags that `run` and `create` share.

use super::amounts::{
    Bytes, Cpus, Duration, MemorySwap, ThrottleBps, ThrottleIops, Weight, WeightDevice,
};
use super::environment::Variable;
use super::mounts::MountRule;
use super::network::NetworkRule;
use super::rules::{
    AddHost, Address, Annotation, AttachTo, DeviceRule, GpuRule, Label, LinkRule, LxcConf,
    SearchDomain, Sysctl, UlimitRule,
};
use crate::flags::{Checked, flags};

flags! {
    /// Everything that makes a container.
    pub(crate) struct CreateFlags {
        /// Add a custom host-to-IP mapping (host:ip)
        add_host: Checked<AddHost> = "add-host";
        /// Add an annotation to the container (passed through to the OCI runtime) (default map[])
        annotation: Checked<Annotation> = "annotation";
        /// Attach to STDIN, STDOUT or STDERR
        attach: Checked<AttachTo> = "attach" short "a";
        /// Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
        blkio_weight: Weight = "blkio-weight";
        /// Block IO weight (relative device weight) (default [])
        blkio_weight_device: Checked<WeightDevice> = "blkio-weight-device";
        /// Add Linux capabilities
        cap_add: Vec<String> = "cap-add";
        /// Drop Linux capabilities
        cap_drop: Vec<String> = "cap-drop";
        /// Optional parent cgroup for the container
        cgroup_parent: String = "cgroup-parent";
        /// Cgroup namespace to use (host|private)
        ///
        /// 'host':    Run the container in the Docker host's cgroup namespace
        ///
        /// 'private': Run the container in its own private cgroup namespace
        ///
        /// '':        Use the cgroup namespace as configured by the default-cgroupns-mode option on the
        /// daemon (default)
        cgroupns: String = "cgroupns";
        /// Write the container ID to the file
        cidfile: String = "cidfile";
        /// Limit CPU CFS (Completely Fair Scheduler) period
        cpu_period: i64 = "cpu-period";
        /// Limit CPU CFS (Completely Fair Scheduler) quota
        cpu_quota: i64 = "cpu-quota";
        /// Limit CPU real-time period in microseconds
        cpu_rt_period: i64 = "cpu-rt-period";
        /// Limit CPU real-time runtime in microseconds
        cpu_rt_runtime: i64 = "cpu-rt-runtime";
        /// CPU shares (relative weight)
        cpu_shares: i64 = "cpu-shares" short "c";
        /// Number of CPUs
        cpus: Cpus = "cpus";
        /// CPUs in which to allow execution (0-3, 0,1)
        cpuset_cpus: String = "cpuset-cpus";
        /// MEMs in which to allow execution (0-3, 0,1)
        cpuset_mems: String = "cpuset-mems";
        /// Add a host device to the container
        device: Vec<String> = "device" kind "list";
        /// Add a rule to the cgroup allowed devices list
        device_cgroup_rule: Checked<DeviceRule> = "device-cgroup-rule";
        /// Limit read rate (bytes per second) from a device (default [])
        device_read_bps: Checked<ThrottleBps> = "device-read-bps";
        /// Limit read rate (IO per second) from a device (default [])
        device_read_iops: Checked<ThrottleIops> = "device-read-iops";
        /// Limit write rate (bytes per second) to a device (default [])
        device_write_bps: Checked<ThrottleBps> = "device-write-bps";
        /// Limit write rate (IO per second) to a device (default [])
        device_write_iops: Checked<ThrottleIops> = "device-write-iops";
        /// Skip image verification
        disable_content_trust: bool = "disable-content-trust" default "true";
        /// Set custom DNS servers
        dns: Checked<Address> = "dns";
        /// Set DNS options
        dns_option: Vec<String> = "dns-option" old "dns-opt";
        /// Set custom DNS search domains
        dns_search: Checked<SearchDomain> = "dns-search";
        /// Container NIS domain name
        domainname: String = "domainname";
        /// Overwrite the default ENTRYPOINT of the image
        entrypoint: Option<String> = "entrypoint";
        /// Set environment variables
        env: Checked<Variable> = "env" short "e";
        /// Read in a file of environment variables
        env_file: Vec<String> = "env-file";
        /// Expose a port or a range of ports
        expose: Vec<String> = "expose";
        /// GPU devices to add to the container ('all' to pass all GPUs)
        gpus: Checked<GpuRule> = "gpus";
        /// Add additional groups to join
        group_add: Vec<String> = "group-add";
        /// Command to run to check health
        health_cmd: String = "health-cmd";
        /// Time between running the check (ms|s|m|h) (default 0s)
        health_interval: Duration = "health-interval";
        /// What to do with a container that becomes unhealthy ("none", "kill", "restart", "stop")
        health_on_failure: String = "health-on-failure";
        /// Consecutive failures needed to report unhealthy
        health_retries: i64 = "health-retries";
        /// Time between running the check during the start period (ms|s|m|h) (default 0s)
        health_start_interval: Duration = "health-start-interval";
        /// Start period for the container to initialize before starting health-retries countdown
        /// (ms|s|m|h) (default 0s)
        health_start_period: Duration = "health-start-period";
        /// Maximum time to allow one check to run (ms|s|m|h) (default 0s)
        health_timeout: Duration = "health-timeout";
        /// Print usage
        help: bool = "help";
        /// Container host name
        hostname: String = "hostname" short "h";
        /// Run an init inside the container that forwards signals and reaps processes
        init: Option<bool> = "init";
        /// Keep STDIN open even if not attached
        interactive: bool = "interactive" short "i";
        /// IPv4 address (e.g., 172.30.100.104)
        ip: String = "ip";
        /// IPv6 address (e.g., 2001:db8::33)
        ip6: String = "ip6";
        /// IPC mode to use
        ipc: String = "ipc";
        /// Container isolation technology
        isolation: String = "isolation";
        /// Kernel memory limit
        kernel_memory: Bytes = "kernel-memory";
        /// Set meta data on a container
        label: Checked<Label> = "label" short "l";
        /// Read in a line delimited file of labels
        label_file: Vec<String> = "label-file";
        /// Add link to another container
        link: Checked<LinkRule> = "link";
        /// Container IPv4/IPv6 link-local addresses
        link_local_ip: Vec<String> = "link-local-ip";
        /// Logging driver for the container
        log_driver: String = "log-driver";
        /// Log driver options
        log_opt: Vec<String> = "log-opt";
        lxc_conf: Checked<LxcConf> = "lxc-conf";
        /// Container MAC address (e.g., 92:d0:c6:0a:29:33)
        mac_address: String = "mac-address";
        /// Memory limit
        memory: Bytes = "memory" short "m";
        /// Memory soft limit
        memory_reservation: Bytes = "memory-reservation";
        /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
        memory_swap: MemorySwap = "memory-swap";
        /// Tune container memory swappiness (0 to 100)
        memory_swappiness: i64 = "memory-swappiness" default "-1";
        /// Attach a filesystem mount to the container
        mount: Checked<MountRule> = "mount";
        /// Assign a name to the container
        name: String = "name";
        /// Connect a container to a network
        network: Checked<NetworkRule> = "network" old "net";
        /// Add network-scoped alias for the container
        network_alias: Vec<String> = "network-alias" old "net-alias";
        /// Disable any container-specified HEALTHCHECK
        no_healthcheck: bool = "no-healthcheck";
        /// Disable OOM Killer
        oom_kill_disable: bool = "oom-kill-disable";
        /// Tune host's OOM preferences (-1000 to 1000)
        oom_score_adj: i64 = "oom-score-adj";
        /// PID namespace to use
        pid: String = "pid";
        /// Tune container pids limit (set -1 for unlimited)
        pids_limit: i64 = "pids-limit";
        /// Set platform if server is multi-platform capable
        platform: Option<String> = "platform";
        /// Give extended privileges to this container
        privileged: bool = "privileged";
        /// Publish a container's port(s) to the host
        publish: Vec<String> = "publish" short "p";
        /// Publish all exposed ports to random ports
        publish_all: bool = "publish-all" short "P";
        /// Pull image before running ("always", "missing", "never")
        pull: String = "pull" default "missing";
        /// Suppress the pull output
        quiet: bool = "quiet" short "q";
        /// Mount the container's root filesystem as read only
        read_only: bool = "read-only";
        /// Restart policy to apply when a container exits
        restart: String = "restart" default "no";
        /// Automatically remove the container and its associated anonymous volumes when it exits
        rm: bool = "rm";
        /// Use a directory of the host as the container's root, without an image (DIR:O keeps what is
        /// written out of DIR)
        rootfs: Option<String> = "rootfs";
        /// Runtime to use for this container
        runtime: String = "runtime";
        /// Security Options
        security_opt: Vec<String> = "security-opt";
        /// Size of /dev/shm
        shm_size: Bytes = "shm-size";
        /// Signal to stop the container
        stop_signal: String = "stop-signal";
        /// Timeout (in seconds) to stop a container
        stop_timeout: Option<i64> = "stop-timeout";
        /// Storage driver options for the container
        storage_opt: Vec<String> = "storage-opt";
        /// Sysctl options (default map[])
        sysctl: Checked<Sysctl> = "sysctl";
        /// Mount a tmpfs directory
        tmpfs: Vec<String> = "tmpfs";
        /// Allocate a pseudo-TTY
        tty: bool = "tty" short "t";
        /// Ulimit options (default [])
        ulimit: Checked<UlimitRule> = "ulimit";
        /// Username or UID (format: <name|uid>[:<group|gid>])
        user: String = "user" short "u";
        /// User namespace to use
        userns: String = "userns";
        /// UTS namespace to use
        uts: String = "uts";
        /// Bind mount a volume
        volume: Vec<String> = "volume" short "v";
        /// Optional volume driver for the container
        volume_driver: String = "volume-driver";
        /// Mount volumes from the specified container(s)
        volumes_from: Vec<String> = "volumes-from";
        /// Working directory inside the container
        workdir: String = "workdir" short "w";
    }
}
