//! The process, logs, access, statistics and scripts.

group! { $ general_params {
    daemonize: bool = false, "daemonize", Kind::Bool, [IMMUTABLE],
        "Run in the background.";
    supervised: Supervised = Supervised::No, "supervised", Supervised::KIND, [IMMUTABLE],
        "Tell upstart or systemd when the server is ready.";
    pidfile: Option<String> = None, "pidfile", Kind::Text, [IMMUTABLE],
        "File that holds the process id while the server runs.";
    dir: String = ".".into(), "dir", Kind::Text, [PROTECTED DENY_LOADING],
        "Working directory: every file is written here.";
    databases: usize = 16, "databases", Kind::integer(1, INT_MAX), [IMMUTABLE],
        "Number of databases.";
    always_show_logo: bool = false, "always-show-logo", Kind::Bool, [IMMUTABLE NO_EFFECT],
        "There is no logo here.";
    set_proc_title: bool = true, "set-proc-title", Kind::Bool, [IMMUTABLE],
        "Show the state of the server in the process list.";
    proc_title_template: String = "{title} {listen-addr} {server-mode}".into(), "proc-title-template", Kind::Text, [],
        "How the process list shows it: {title} {listen-addr} {server-mode} {config-file} {port} {tls-port} {unixsocket}.",
        check check::proc_title_template;
    locale_collate: String = String::new(), "locale-collate", Kind::Text, [NO_EFFECT],
        "Texts are always compared by bytes here.";
    loglevel: LogLevel = LogLevel::Notice, "loglevel", LogLevel::KIND, [],
        "Least important lines that are logged: debug, verbose, notice, warning, nothing.";
    logfile: String = String::new(), "logfile", Kind::Text, [IMMUTABLE],
        "Log file; empty for standard output.";
    log_format: LogFormat = LogFormat::Redis, "log-format", LogFormat::KIND, [IMMUTABLE HIDDEN],
        "rsredis only. Layout of log lines: redis, or json.";
    syslog_enabled: bool = false, "syslog-enabled", Kind::Bool, [IMMUTABLE],
        "Log to the system's log as well.";
    syslog_ident: String = "redis".into(), "syslog-ident", Kind::Text, [IMMUTABLE],
        "Name in the system's log.";
    syslog_facility: SyslogFacility = SyslogFacility::Local0, "syslog-facility", SyslogFacility::KIND, [IMMUTABLE],
        "Facility in the system's log: user, local0 to local7.";
    hide_user_data_from_log: bool = false, "hide-user-data-from-log", Kind::Bool, [],
        "Keep keys, values and arguments out of the log and of crash reports.";
    crash_log_enabled: bool = true, "crash-log-enabled", Kind::Bool, [],
        "Write a report to the log on a crash.";
    crash_memcheck_enabled: bool = true, "crash-memcheck-enabled", Kind::Bool, [NO_EFFECT],
        "There is no memory test after a crash here.";
    use_exit_on_panic: bool = false, "use-exit-on-panic", Kind::Bool, [HIDDEN],
        "For tests: exit instead of abort on a broken invariant.";
    watchdog_period: u32 = 0, "watchdog-period", Kind::integer(0, INT_MAX), [HIDDEN],
        "For debugging: a batch of commands that takes more milliseconds is told to the log while it runs; 0 for never.";
    hz: u32 = 10, "hz", Kind::integer(0, INT_MAX), [],
        "How often per second background work runs, from 1 to 500; values beyond are cut to that.";
    dynamic_hz: bool = true, "dynamic-hz", Kind::Bool, [NO_EFFECT],
        "Background work here does not depend on the number of clients.";
    shutdown_timeout: u32 = 10, "shutdown-timeout", Kind::integer(0, INT_MAX), [],
        "Seconds that a shutdown waits for replicas to catch up.";
    shutdown_on_sigint: ShutdownFlags = ShutdownFlags::default(), "shutdown-on-sigint", ShutdownFlags::KIND, [MULTI_ARG],
        "What SIGINT does: default, or some of save, nosave, now, force.";
    shutdown_on_sigterm: ShutdownFlags = ShutdownFlags::default(), "shutdown-on-sigterm", ShutdownFlags::KIND, [MULTI_ARG],
        "What SIGTERM does: default, or some of save, nosave, now, force.";
    failover_on_shutdown: bool = false, "failover-on-shutdown", Kind::Bool, [],
        "rsredis only. A primary told to shut down hands over to a replica first.";
    disable_thp: bool = true, "disable-thp", Kind::Bool, [IMMUTABLE],
        "Opt out of transparent huge pages.";
    oom_score_adj: OomScoreAdj = OomScoreAdj::No, "oom-score-adj", OomScoreAdj::KIND, [],
        "Whether to set the score by which the kernel picks a victim: no, relative (yes), absolute.";
    oom_score_adj_values: OomScoreAdjValues = OomScoreAdjValues([0, 200, 800]), "oom-score-adj-values",
        Kind::Special("primary replica child"), [MULTI_ARG],
        "Scores of a primary, of a replica, and of child processes (which do not exist here).";
    server_cpulist: Option<String> = None, "server-cpulist" | "server_cpulist", Kind::Text, [],
        "Processors for the workers, as 0-7:2 or 1,3.";
    bio_cpulist: Option<String> = None, "bio-cpulist" | "bio_cpulist", Kind::Text, [],
        "Processors for background threads: the append-only file's, and the one that frees memory.";
    aof_rewrite_cpulist: Option<String> = None, "aof-rewrite-cpulist" | "aof_rewrite_cpulist", Kind::Text, [],
        "Processors for the thread that rewrites the append-only file.";
    bgsave_cpulist: Option<String> = None, "bgsave-cpulist" | "bgsave_cpulist", Kind::Text, [],
        "Processors for the thread that saves the RDB, to disk or to replicas.";
    ignore_warnings: String = String::new(), "ignore-warnings", Kind::Text, [NO_EFFECT],
        "Warnings about the system that may be ignored; none of them stops this server.";
    enable_protected_configs: ProtectedAction = ProtectedAction::No, "enable-protected-configs", ProtectedAction::KIND, [IMMUTABLE],
        "Who may CONFIG SET dir and dbfilename: no, yes, local.";
    enable_debug_command: ProtectedAction = ProtectedAction::No, "enable-debug-command", ProtectedAction::KIND, [IMMUTABLE],
        "Who may use DEBUG: no, yes, local.";
    enable_module_command: ProtectedAction = ProtectedAction::No, "enable-module-command", ProtectedAction::KIND, [IMMUTABLE],
        "Who may use MODULE LOAD and UNLOAD, which fail all the same: this server loads no modules.";
    requirepass: Option<Vec<u8>> = None, "requirepass", Kind::Text, [SENSITIVE],
        "Password of the default user.";
    aclfile: String = String::new(), "aclfile", Kind::Text, [IMMUTABLE],
        "File of users; not together with `user` lines.";
    acl_pubsub_default: AclPubsubDefault = AclPubsubDefault::Resetchannels, "acl-pubsub-default", AclPubsubDefault::KIND, [],
        "Channels of a new user: resetchannels (none), allchannels.";
    acllog_max_len: usize = 128, "acllog-max-len", Kind::integer(0, i64::MAX), [],
        "Entries that ACL LOG keeps.";
    slowlog_log_slower_than: i64 = 10000, "slowlog-log-slower-than", Kind::integer(-1, i64::MAX), [],
        "Microseconds from which a command enters the slow log; 0 for all, -1 for none.";
    slowlog_max_len: usize = 128, "slowlog-max-len", Kind::integer(0, i64::MAX), [],
        "Entries that the slow log keeps.";
    latency_monitor_threshold: u64 = 0, "latency-monitor-threshold", Kind::integer(0, i64::MAX), [],
        "Milliseconds from which the latency monitor records an event; 0 switches it off.";
    latency_tracking: bool = true, "latency-tracking", Kind::Bool, [],
        "Keep a histogram of each command's duration.";
    latency_tracking_info_percentiles: Percentiles = Percentiles(vec![50.0, 99.0, 99.9]), "latency-tracking-info-percentiles",
        Kind::Special("percentile..."), [MULTI_ARG],
        "Percentiles that INFO latencystats shows.";
    busy_reply_threshold: u64 = 5000, "busy-reply-threshold" | "lua-time-limit", Kind::integer(0, i64::MAX), [],
        "Milliseconds after which a script may be killed and others are told BUSY.";
    lua_enable_deprecated_api: bool = false, "lua-enable-deprecated-api", Kind::Bool, [IMMUTABLE HIDDEN],
        "Offer deprecated and less safe functions to scripts.";
    propagation_error_behavior: PropagationErrorBehavior = PropagationErrorBehavior::Ignore, "propagation-error-behavior",
        PropagationErrorBehavior::KIND, [],
        "What to do when a command from the primary or the AOF fails: ignore, panic, panic-on-replicas.";
} }
