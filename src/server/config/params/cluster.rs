//! Cluster mode.

group! { $ cluster_params {
    cluster_enabled: bool = false, "cluster-enabled", Kind::Bool, [IMMUTABLE],
        "Be a node of a cluster. What follows here belongs to it.";
    cluster_config_file: String = "nodes.conf".into(), "cluster-config-file", Kind::Text, [IMMUTABLE],
        "File in dir in which the node keeps its view of the cluster.";
    cluster_node_timeout: u64 = 15000, "cluster-node-timeout", Kind::integer(0, i64::MAX), [],
        "Milliseconds of silence after which a node is suspected.";
    cluster_port: u16 = 0, "cluster-port", Kind::integer(0, 65535), [IMMUTABLE],
        "Port of the cluster bus; 0 for port + 10000.";
    cluster_ping_interval: u32 = 1000, "cluster-ping-interval", Kind::integer(1, INT_MAX), [HIDDEN],
        "For tests: milliseconds between pings of the bus. No effect here.";
    cluster_replica_validity_factor: u32 = 10, "cluster-replica-validity-factor" | "cluster-slave-validity-factor",
        Kind::integer(0, INT_MAX), [],
        "How stale a replica may be and still be promoted, in node timeouts; 0 for any.";
    cluster_migration_barrier: u32 = 1, "cluster-migration-barrier", Kind::integer(0, INT_MAX), [],
        "Replicas that a primary keeps when one moves to an orphaned primary.";
    cluster_allow_replica_migration: bool = true, "cluster-allow-replica-migration", Kind::Bool, [],
        "Let replicas move to orphaned primaries.";
    cluster_require_full_coverage: bool = true, "cluster-require-full-coverage", Kind::Bool, [],
        "Stop serving when some slot has no node.";
    cluster_replica_no_failover: bool = false, "cluster-replica-no-failover" | "cluster-slave-no-failover", Kind::Bool, [],
        "This replica never promotes itself.";
    cluster_allow_reads_when_down: bool = false, "cluster-allow-reads-when-down", Kind::Bool, [],
        "Serve reads while the cluster is down.";
    cluster_allow_pubsubshard_when_down: bool = true, "cluster-allow-pubsubshard-when-down", Kind::Bool, [],
        "Serve sharded channels while the cluster is down.";
    cluster_link_sendbuf_limit: u64 = 0, "cluster-link-sendbuf-limit", Kind::memory(0, u64::MAX), [],
        "Bytes that may wait on one link of the bus; 0 for no limit.";
    cluster_announce_ip: Option<String> = None, "cluster-announce-ip", Kind::Text, [],
        "Address that the node tells others.";
    cluster_announce_port: u16 = 0, "cluster-announce-port", Kind::integer(0, 65535), [],
        "Port that the node tells others; 0 for the real one.";
    cluster_announce_tls_port: u16 = 0, "cluster-announce-tls-port", Kind::integer(0, 65535), [],
        "TLS port that the node tells others; 0 for the real one.";
    cluster_announce_bus_port: u16 = 0, "cluster-announce-bus-port", Kind::integer(0, 65535), [],
        "Bus port that the node tells others; 0 for the real one.";
    cluster_announce_hostname: Option<String> = None, "cluster-announce-hostname", Kind::Text, [],
        "Host name that the node tells others.", check check::announced_hostname;
    cluster_announce_human_nodename: Option<String> = None, "cluster-announce-human-nodename", Kind::Text, [],
        "Name of the node in logs. No effect here.", check check::announced_nodename;
    cluster_preferred_endpoint_type: ClusterPreferredEndpointType = ClusterPreferredEndpointType::Ip,
        "cluster-preferred-endpoint-type", ClusterPreferredEndpointType::KIND, [],
        "What redirections name: ip, hostname, unknown-endpoint.";
} }
