//! Listening, connections, clients.

group! { $ network_params {
    bind: BindAddresses = BindAddresses(vec!["*".into(), "-::*".into()]), "bind", Kind::Special("[-]address..."), [MULTI_ARG],
        "Addresses to listen on; `-` before one lets it be missing, `*` is all of IPv4, `::*` all of IPv6.";
    bind_source_addr: Option<String> = None, "bind-source-addr", Kind::Text, [],
        "Local address of the connections that this server opens.";
    port: u16 = 6379, "port", Kind::integer(0, 65535), [],
        "TCP port; 0 for none.";
    tcp_backlog: u32 = 511, "tcp-backlog", Kind::integer(0, INT_MAX), [IMMUTABLE],
        "Length of the queue of connections not yet accepted.";
    unixsocket: Option<String> = None, "unixsocket", Kind::Text, [IMMUTABLE],
        "Path of a Unix socket to listen on.";
    unixsocketperm: u32 = 0, "unixsocketperm", Kind::Octal { min: 0, max: 0o777 }, [IMMUTABLE],
        "Mode of the Unix socket; 0 leaves it to the umask.";
    timeout: u32 = 0, "timeout", Kind::integer(0, INT_MAX), [],
        "Seconds after which an idle client is disconnected; 0 for never.";
    tcp_keepalive: u32 = 300, "tcp-keepalive", Kind::integer(0, INT_MAX), [],
        "Seconds between TCP keepalive probes to clients; 0 for none.";
    socket_mark_id: u32 = 0, "socket-mark-id", Kind::integer(0, UINT_MAX), [IMMUTABLE],
        "Mark (SO_MARK) of the listening sockets; 0 for none.";
    protected_mode: bool = true, "protected-mode", Kind::Bool, [],
        "Refuse clients of other machines while the default user has no password.";
    maxclients: u32 = 10000, "maxclients", Kind::integer(1, UINT_MAX), [],
        "Largest number of connected clients.";
    max_new_connections_per_cycle: u32 = 10, "max-new-connections-per-cycle", Kind::integer(1, 1000), [NO_EFFECT],
        "Connections accepted per event cycle; here the workers share them out.";
    max_new_tls_connections_per_cycle: u32 = 1, "max-new-tls-connections-per-cycle", Kind::integer(1, 1000), [NO_EFFECT],
        "The same for TLS connections.";
    maxmemory_clients: MemoryLimit = MemoryLimit::Bytes(0), "maxmemory-clients",
        Kind::MemoryOrPercent { max: i64::MAX as i128 }, [],
        "Memory that all clients together may use, in bytes or percent of maxmemory; the biggest are dropped. 0 for no limit.";
    client_output_buffer_limit: OutputBufferLimits = OutputBufferLimits::default(), "client-output-buffer-limit",
        Kind::Special("class hard soft seconds"), [MULTI_ARG],
        "Limits of the replies that wait for a slow reader, per class: normal, replica, pubsub.";
    client_query_buffer_limit: usize = 1 << 30, "client-query-buffer-limit", Kind::memory(1 << 20, LONG_MAX), [],
        "Limit of the bytes of one client's unfinished request.";
    proto_max_bulk_len: usize = 512 << 20, "proto-max-bulk-len", Kind::memory(1 << 20, LONG_MAX), [],
        "Largest string of a request, and largest value of a key.";
    io_threads: usize = default_workers(), "io-threads", Kind::integer(1, 128), [IMMUTABLE],
        "Number of workers, each serving its share of the connections; by default the number of cores.";
    io_threads_do_reads: bool = false, "io-threads-do-reads", Kind::Bool, [IMMUTABLE NO_EFFECT],
        "Workers here always read, parse, run and reply themselves.";
    tracking_table_max_keys: usize = 1_000_000, "tracking-table-max-keys", Kind::integer(0, i64::MAX), [],
        "Largest number of keys remembered for client-side caching; 0 for no limit.";
    lookahead: u32 = 16, "lookahead", Kind::integer(1, INT_MAX), [NO_EFFECT],
        "Commands parsed ahead per client; here whole batches are.";
} }
