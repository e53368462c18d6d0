//! INFO and its kin under several workers: what many connections did adds up, and every field that monitoring reads is there.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;
use support::{Client, Reply, Server, wait_until};

const CLIENTS: usize = 8;

/// INFO's lines as name and value.
fn info(client: &mut Client, sections: &str) -> BTreeMap<String, String> {
    let text = client.line(&format!("INFO {sections}")).text();
    let lines = text.lines().filter_map(|line| line.trim_end().split_once(':'));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A server whose figures begin now: how often it was asked whether it is ready is no part of a test.
fn start(args: &[&str]) -> Server {
    let server = Server::start(args);
    assert!(server.client().call(&["CONFIG", "RESETSTAT"]).is_ok());
    server
}

/// A figure of a line such as `calls=3,usec=7`.
fn figure(line: &str, name: &str) -> f64 {
    let value = line.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {line}"))
}

fn on_many_connections(server: &Server, work: impl Fn(usize, &mut Client) + Sync) {
    thread::scope(|scope| {
        for id in 0..CLIENTS {
            let work = &work;
            scope.spawn(move || work(id, &mut server.client()));
        }
    });
}

#[test]
fn figures_of_all_workers_add_up() {
    let server = start(&["--io-threads", "4"]);
    on_many_connections(&server, |id, client| {
        for number in 0..100 {
            client.call(&["SET", &format!("key:{id}:{number}"), "value"]);
            client.call(&["GET", &format!("key:{id}:{number}")]);
            client.call(&["GET", "nothing"]);
        }
        for _ in 0..10 {
            assert!(client.call(&["LPUSH", &format!("key:{id}:1"), "x"]).is_error("WRONGTYPE"));
            assert!(client.call(&["GET"]).is_error("ERR wrong number"));
            assert!(client.call(&["NOSUCH"]).is_error("ERR unknown command"));
        }
        client.call(&["EXPIRE", &format!("key:{id}:0"), "1000"]);
    });
    let mut client = server.client();
    let found = info(&mut client, "everything");
    let total = (CLIENTS * 100) as f64;
    let set = &found["cmdstat_set"];
    assert_eq!((figure(set, "calls"), figure(set, "rejected_calls"), figure(set, "failed_calls")), (total, 0.0, 0.0));
    assert!(figure(set, "usec") > 0.0 && figure(set, "usec_per_call") > 0.0, "{set}");
    let get = &found["cmdstat_get"];
    assert_eq!((figure(get, "calls"), figure(get, "rejected_calls")), (2.0 * total, (CLIENTS * 10) as f64));
    assert_eq!(figure(&found["cmdstat_lpush"], "failed_calls"), (CLIENTS * 10) as f64);
    assert_eq!(figure(&found["errorstat_WRONGTYPE"], "count"), (CLIENTS * 10) as f64);
    assert_eq!(figure(&found["errorstat_ERR"], "count"), (CLIENTS * 20) as f64);
    assert_eq!(found["total_error_replies"], (CLIENTS * 30).to_string());
    assert_eq!((found["keyspace_hits"].as_str(), found["keyspace_misses"].as_str()), ("800", "800"));
    assert_eq!(figure(&found["db0"], "keys"), total);
    assert_eq!(figure(&found["db0"], "expires"), CLIENTS as f64);
    assert!(figure(&found["db0"], "avg_ttl") > 900_000.0, "{}", found["db0"]);
    let latency = &found["latency_percentiles_usec_set"];
    let (half, most) = (figure(latency, "p50"), figure(latency, "p99.9"));
    assert!(0.0 < half && half <= figure(latency, "p99") && figure(latency, "p99") <= most, "{latency}");
    client.line("CONFIG RESETSTAT");
    let found = info(&mut client, "everything");
    assert!(!found.contains_key("cmdstat_set") && !found.contains_key("errorstat_ERR"), "{found:?}");
    assert_eq!(found["keyspace_hits"], "0");
}

#[test]
fn percentiles_are_those_that_are_configured() {
    let server = start(&["--latency-tracking-info-percentiles", "10 50 100"]);
    let mut client = server.client();
    for _ in 0..100 {
        client.line("SET k v");
    }
    let line = info(&mut client, "latencystats")["latency_percentiles_usec_set"].clone();
    let names: Vec<&str> = line.split(',').filter_map(|pair| pair.split('=').next()).collect();
    assert_eq!(names, ["p10", "p50", "p100"]);
    client.call(&["CONFIG", "SET", "latency-tracking", "no"]);
    client.line("CONFIG RESETSTAT");
    client.line("SET k v");
    assert!(!info(&mut client, "latencystats").contains_key("latency_percentiles_usec_set"));
}

#[test]
fn clients_are_counted_wherever_they_live() {
    let server = start(&["--io-threads", "4"]);
    let mut waiting: Vec<Client> = (0..CLIENTS).map(|_| server.client()).collect();
    for client in &mut waiting {
        client.send(&["BLPOP", "q", "other", "0"]).expect("sent");
    }
    let mut listener = server.client3();
    listener.send(&["SUBSCRIBE", "news"]).expect("sent");
    listener.frame().expect("a push");
    let mut watcher = server.client();
    watcher.line("WATCH a b");
    let mut tracker = server.client3();
    tracker.line("CLIENT TRACKING ON");
    tracker.line("GET a");
    let mut client = server.client();
    wait_until("all are blocked", || info(&mut client, "clients")["blocked_clients"] == CLIENTS.to_string());
    let found = info(&mut client, "everything");
    for (name, value) in [
        ("connected_clients", CLIENTS + 4),
        ("blocked_clients", CLIENTS),
        ("total_blocking_keys", 2),
        ("pubsub_clients", 1),
        ("pubsub_channels", 1),
        ("watching_clients", 1),
        ("total_watched_keys", 2),
        ("tracking_clients", 1),
        ("tracking_total_keys", 1),
        ("tracking_total_items", 1),
    ] {
        assert_eq!(found[name], value.to_string(), "{name}");
    }
    drop(waiting);
    wait_until("nobody is blocked", || info(&mut client, "clients")["blocked_clients"] == "0");
    assert_eq!(info(&mut client, "clients")["total_blocking_keys"], "0");
}

/// A wait that CLIENT UNBLOCK ends with an error is a call that failed.
#[test]
fn an_unblocked_client_counts_as_failed() {
    let server = start(&[]);
    let mut sleeper = server.client();
    let id = sleeper.line("CLIENT ID").integer();
    sleeper.send(&["BLPOP", "q", "0"]).expect("sent");
    let mut client = server.client();
    wait_until("it is blocked", || info(&mut client, "clients")["blocked_clients"] == "1");
    assert_eq!(client.line(&format!("CLIENT UNBLOCK {id} ERROR")).integer(), 1);
    assert!(sleeper.reply().expect("a reply").is_error("UNBLOCKED"));
    let found = info(&mut client, "everything");
    let blpop = &found["cmdstat_blpop"];
    assert_eq!((figure(blpop, "calls"), figure(blpop, "failed_calls")), (1.0, 1.0));
    assert_eq!(found["errorstat_UNBLOCKED"], "count=1");
    assert_eq!(found["total_error_replies"], "1");
}

#[test]
fn expired_fields_are_counted() {
    let server = start(&[]);
    let mut client = server.client();
    client.line("HSET h f v g w");
    client.line("HPEXPIRE h 1 FIELDS 1 f");
    thread::sleep(Duration::from_millis(5));
    assert_eq!(client.line("HGET h f"), Reply::Nil);
    wait_until("the field is gone", || info(&mut client, "stats")["expired_subkeys"] == "1");
    assert_eq!(info(&mut client, "stats")["expired_keys"], "0");
}

/// Endless replies end at the output limit, and so does the client.
#[test]
fn a_reply_that_cannot_be_sent_is_not_made() {
    let server = start(&["--client-output-buffer-limit", "normal 1000000 0 0"]);
    let mut client = server.client();
    client.line("HSET h f v");
    client.line("SADD s m");
    client.line("ZADD z 1 m");
    for command in ["HRANDFIELD h -2000000000", "SRANDMEMBER s -2000000000", "ZRANDMEMBER z -2000000000 WITHSCORES"] {
        let words: Vec<&str> = command.split(' ').collect();
        assert!(server.client().try_call(&words).is_err(), "{command}");
    }
    assert_eq!(info(&mut client, "stats")["client_output_buffer_limit_disconnections"], "3");
    assert!(server.rss() < 100 << 20, "{}", server.rss());
}

/// The names that redis_exporter looks up for Redis 7.4, those of clusters, modules and other products left out.
const EXPORTED: &str = "
    uptime_in_seconds process_id io_threads_active
    connected_clients blocked_clients maxclients tracking_clients clients_in_timeout_table pubsub_clients watching_clients
    total_watched_keys total_blocking_keys total_blocking_keys_on_nokey
    client_recent_max_output_buffer client_recent_max_input_buffer
    allocator_active allocator_allocated allocator_resident allocator_frag_ratio allocator_frag_bytes allocator_muzzy
    allocator_rss_ratio allocator_rss_bytes used_memory used_memory_rss used_memory_peak used_memory_lua used_memory_vm_eval
    used_memory_scripts_eval used_memory_overhead used_memory_startup used_memory_dataset number_of_cached_scripts
    number_of_functions number_of_libraries used_memory_vm_functions used_memory_scripts used_memory_functions
    used_memory_vm_total maxmemory mem_fragmentation_ratio mem_fragmentation_bytes mem_clients_slaves mem_clients_normal
    mem_cluster_links mem_aof_buffer mem_replication_backlog mem_overhead_db_hashtable_rehashing expired_stale_perc
    mem_not_counted_for_evict mem_total_replication_buffers lazyfree_pending_objects lazyfreed_objects active_defrag_running
    migrate_cached_sockets active_defrag_hits active_defrag_misses active_defrag_key_hits active_defrag_key_misses
    loading async_loading rdb_changes_since_last_save rdb_bgsave_in_progress rdb_last_save_time rdb_last_bgsave_status
    rdb_last_bgsave_time_sec rdb_current_bgsave_time_sec rdb_saves rdb_last_cow_size rdb_last_load_keys_expired
    rdb_last_load_keys_loaded aof_enabled aof_rewrite_in_progress aof_rewrite_scheduled aof_last_rewrite_time_sec
    aof_current_rewrite_time_sec aof_last_cow_size aof_current_size aof_base_size aof_pending_rewrite aof_buffer_length
    aof_pending_bio_fsync aof_delayed_fsync aof_last_bgrewrite_status aof_last_write_status module_fork_in_progress
    module_fork_last_cow_size current_eviction_exceeded_time pubsub_channels pubsub_patterns pubsubshard_channels
    latest_fork_usec connected_slaves repl_backlog_size repl_backlog_active repl_backlog_first_byte_offset
    repl_backlog_histlen master_repl_offset second_repl_offset slave_expires_tracked_keys sync_full sync_partial_ok
    sync_partial_err cluster_enabled cluster_connections
    total_connections_received total_commands_processed instantaneous_ops_per_sec instantaneous_input_kbps
    instantaneous_output_kbps rejected_connections total_net_input_bytes total_net_output_bytes total_net_repl_input_bytes
    total_net_repl_output_bytes expired_subkeys expired_keys expired_time_cap_reached_count expire_cycle_cpu_milliseconds
    evicted_keys evicted_clients evicted_scripts total_eviction_exceeded_time keyspace_hits keyspace_misses
    used_cpu_sys used_cpu_user used_cpu_sys_children used_cpu_user_children used_cpu_sys_main_thread
    used_cpu_user_main_thread unexpected_error_replies total_error_replies dump_payload_sanitizations
    total_reads_processed total_writes_processed io_threaded_reads_processed io_threaded_writes_processed
    acl_access_denied_auth acl_access_denied_cmd acl_access_denied_key acl_access_denied_channel
    total_active_defrag_time total_forks tracking_total_keys tracking_total_items tracking_total_prefixes
    client_query_buffer_limit_disconnections client_output_buffer_limit_disconnections reply_buffer_shrinks
    reply_buffer_expands redis_version redis_mode os role master_replid run_id tcp_port executable config_file
    maxmemory_policy mem_allocator";

#[test]
fn every_field_of_monitoring_is_there() {
    let server = start(&["--appendonly", "yes"]);
    let found: BTreeSet<String> = info(&mut server.client(), "everything").into_keys().collect();
    let missing: Vec<&str> = EXPORTED.split_whitespace().filter(|name| !found.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn memory_reports_follow_the_data() {
    let server = start(&[]);
    let mut client = server.client();
    assert!(client.line("MEMORY DOCTOR").text().contains("too little"));
    let stats = |client: &mut Client| -> BTreeMap<String, i64> {
        let reply = client.line("MEMORY STATS");
        let number = |reply: &Reply| if let Reply::Integer(number) = reply { *number } else { 0 };
        reply.items().chunks(2).map(|pair| (pair[0].text(), number(&pair[1]))).collect()
    };
    let before = stats(&mut client);
    client.line("DEBUG POPULATE 100000 key 100");
    let after = stats(&mut client);
    assert_eq!((before["keys.count"], after["keys.count"]), (0, 100_000));
    let grown = after["dataset.bytes"] - before["dataset.bytes"];
    assert!((10_000_000..25_000_000).contains(&grown), "{grown}");
    assert!((100..250).contains(&after["keys.bytes-per-key"]), "{}", after["keys.bytes-per-key"]);
    assert!(after["allocator.resident"] >= after["allocator.allocated"], "{after:?}");
    assert!(!client.line("MEMORY DOCTOR").text().contains("too little"));
    // Of collections a few members stand for all of them.
    let usage = |client: &mut Client, words: &str| client.line(&format!("MEMORY USAGE {words}")).integer();
    for number in 0..2000 {
        client.call(&["HSET", "hash", &format!("field:{number}"), &"v".repeat(100)]);
    }
    let (sampled, whole) = (usage(&mut client, "hash"), usage(&mut client, "hash SAMPLES 0"));
    assert!((200_000..500_000).contains(&whole), "{whole}");
    assert!((whole - sampled).abs() < whole / 10, "{sampled} {whole}");
    client.line("FLUSHALL");
    assert_eq!(stats(&mut client)["keys.count"], 0);
}
